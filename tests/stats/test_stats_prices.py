"""What a token costs, by the file's `model_price`."""

from __future__ import annotations

import pytest

from uniapi.stats.prices import DEFAULT, cost, price_of

PRICES = {
    "gpt-4o-mini": (0.15, 0.6),
    "gpt-4o": (2.5, 10.0),
    "gpt": (5.0, 5.0),
    "default": (1.0, 2.0),
}


@pytest.mark.parametrize(
    ("names", "price"),
    [
        pytest.param(["gpt-4o"], (2.5, 10.0), id="by its name"),
        pytest.param(["gpt-4o-2024-11-20"], (2.5, 10.0), id="by the beginning of its name"),
        pytest.param(["gpt-4o-mini-1"], (0.15, 0.6), id="the first entry that begins it"),
        pytest.param(["o3"], (1.0, 2.0), id="default for what nobody named"),
        pytest.param(["default-model"], (1.0, 2.0), id="default is no beginning of a name"),
        pytest.param(["gpt-cheap", "llama"], (5.0, 5.0), id="the name its user knows first"),
        pytest.param(["mine", "gpt-4o"], (2.5, 10.0), id="then the provider's"),
        pytest.param(["mine", "theirs"], (1.0, 2.0), id="default when neither is named"),
    ],
)
def test_the_price_of_a_model(names: list[str], price: tuple[float, float]) -> None:
    assert price_of(PRICES, names) == price


def test_the_first_entry_counts_even_when_a_later_one_is_longer() -> None:
    assert price_of({"gpt": (1.0, 1.0), "gpt-4o": (2.0, 2.0)}, ["gpt-4o"]) == (1.0, 1.0)


def test_without_a_word_it_is_what_the_seeds_program_reckons_with() -> None:
    assert price_of({}, ["gpt-4o"]) == DEFAULT == (0.3, 1.0)


def test_prices_are_for_a_million_tokens() -> None:
    assert cost(PRICES, ["gpt-4o"], 1_000_000, 0) == 2.5
    assert cost(PRICES, ["gpt-4o"], 1000, 2000) == pytest.approx(0.0225)
    assert cost(PRICES, ["gpt-4o"], 0, 0) == 0
