"""A budget in dollars: when it is gone, and how it is told."""

from __future__ import annotations

from random import Random

import pytest

from uniapi.config.types import ClientKey, Config, KeyPreferences, Secret
from uniapi.explain import explain
from uniapi.routing.ask import Ask
from uniapi.routing.credit import Balance, balance, dollars
from uniapi.state import State


@pytest.mark.parametrize(
    ("credits_", "spent", "gone"),
    [
        (5.0, 4.999999, False),
        (5.0, 5.0, True),
        (5.0, 6.0, True),
        (0.0, 0.0, True),
        (0.8, sum([0.1] * 8), True),  # which is 0.7999999999999999
    ],
)
def test_a_budget_is_gone_when_nothing_is_left(credits_: float, spent: float, gone: bool) -> None:
    assert Balance(credits_, spent).gone is gone


@pytest.mark.parametrize(
    ("amount", "told"),
    [
        (5.0, "$5"),
        (0.0, "$0"),
        (1000.0, "$1000"),
        (0.25, "$0.25"),
        (0.0000012, "$0.000001"),
        (-0.1, "-$0.1"),
        (-0.0000001, "$0"),
    ],
)
def test_an_amount_is_told_to_a_millionth(amount: float, told: str) -> None:
    assert dollars(amount) == told


def test_a_key_without_credits_has_no_balance_whatever_it_costs() -> None:
    state, key = State(), ClientKey(Secret("sk-ada"))
    state.spent[key.id] = 1e9
    assert balance(state, key) is None


def test_explain_says_what_is_left_and_without_a_gateway_all_of_it() -> None:
    key = ClientKey(Secret("sk-ada"), preferences=KeyPreferences(credits=5.0))
    config, state = Config(keys=(key,)), State()
    assert "credits: $5 left of $5" in explain(config, key, Ask("m"), Random(1)).text  # noqa: S311 - no secret
    state.spent[key.id] = 5.5
    told = explain(config, key, Ask("m"), Random(1), state)  # noqa: S311 - as above
    assert "credits: -$0.5 left of $5" in told.text
    assert "answer: 429" in told.text
    assert not told.served
