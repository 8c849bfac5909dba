"""What tokens cost, by the configuration's `model_price`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

Prices: TypeAlias = Mapping[str, tuple[float, float]]
"""Model, or the beginning of its name, to US dollars for a million prompt and completion tokens."""

DEFAULT: Final = (0.3, 1.0)  # what the seeds' program reckons with when nobody says
_MILLION: Final = 1_000_000


def price_of(prices: Prices, names: Sequence[str]) -> tuple[float, float]:
    """Dollars for a million prompt and completion tokens.

    Args:
        prices: in file order; for one name the first entry that begins it counts.
        names: of one model, the one its user knows first: the price of an alias is the alias's,
            and the provider's name counts where nobody has priced that.
    """
    for name in names:
        for beginning, price in prices.items():
            if beginning != "default" and name.startswith(beginning):
                return price
    return prices.get("default", DEFAULT)


def cost(prices: Prices, names: Sequence[str], prompt: int, completion: int) -> float:
    """US dollars for so many tokens; `names` as for `price_of`."""
    per_prompt, per_completion = price_of(prices, names)
    return (prompt * per_prompt + completion * per_completion) / _MILLION
