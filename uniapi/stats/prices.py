"""What tokens cost, by the configuration's `model_price`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

Prices: TypeAlias = Mapping[str, tuple[float, float]]
"""Model, or the beginning of its name, to US dollars for a million prompt and completion tokens."""

DEFAULT: Final = (0.3, 1.0)  # what the seeds' program reckons with when nobody says
_MILLION: Final = 1_000_000


def price_of(prices: Prices, model: str) -> tuple[float, float]:
    """Dollars for a million prompt and completion tokens: first entry that begins the name."""
    for name, price in prices.items():
        if name != "default" and model.startswith(name):
            return price
    return prices.get("default", DEFAULT)


def cost(prices: Prices, model: str, prompt: int, completion: int) -> float:
    """US dollars for so many tokens."""
    per_prompt, per_completion = price_of(prices, model)
    return (prompt * per_prompt + completion * per_completion) / _MILLION
