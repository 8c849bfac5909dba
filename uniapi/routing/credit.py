"""A client key's budget: it may cost `credits` dollars, and then nobody is asked for it.

Dollars are counted when an answer is over, as tokens are: requests that run at the same time may
overdraw the budget by what they cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from uniapi.config.types import ClientKey
from uniapi.routing.limits import LimitReached
from uniapi.state import State

CODE: Final = "insufficient_quota"  # OpenAI's own word, as code and as type
_DUST: Final = 1e-9  # dollars; sums of fractions do not meet a number exactly


@dataclass(frozen=True, slots=True)
class Balance:
    """What is left of a key's budget, in US dollars.

    Attributes:
        credits: the budget.
        spent: since the key's `created_at`.
    """

    credits: float
    spent: float

    @property
    def left(self) -> float:
        """Less than nothing when it is overdrawn."""
        return self.credits - self.spent

    @property
    def gone(self) -> bool:
        """Whether nothing is left."""
        return self.left < _DUST

    @property
    def told(self) -> str:
        """For a person: `$0.25 left of $5`."""
        return f"{dollars(self.left)} left of {dollars(self.credits)}"

    def error(self) -> LimitReached:
        """The answer to a client whose budget is gone."""
        return LimitReached(
            429,
            f"this key's credits are used up: {self.told}; its owner may raise `credits` or begin "
            "anew with `created_at`",
            code=CODE,
            type=CODE,
            limit="credits of this key",
        )


def balance(state: State, key: ClientKey) -> Balance | None:
    """What is left for a key; None when it has no budget."""
    allowed = key.preferences.credits
    return None if allowed is None else Balance(allowed, state.spent.get(key.id, 0.0))


def dollars(amount: float) -> str:
    """An amount as text, to a millionth: `$5`, `$0.000125`, `-$0.1`."""
    written = f"{abs(amount):.6f}".rstrip("0").rstrip(".")
    return f"-${written}" if amount < 0 and written != "0" else f"${written}"
