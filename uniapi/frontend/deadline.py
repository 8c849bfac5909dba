"""The time a request may take in all: attempts, back-off and hedges together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from uniapi.config.types import ClientKey
from uniapi.duration import parse_duration
from uniapi.errors import ApiError
from uniapi.frontend.trail import outcome
from uniapi.race import Leg

HEADER: Final = "x-uniapi-deadline"


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a request has to be over.

    Attributes:
        begun: when it came, on trio's clock.
        seconds: what it may take; infinite when nobody said.
    """

    begun: float
    seconds: float = inf

    @property
    def at(self) -> float:
        """The moment, on trio's clock."""
        return self.begun + self.seconds

    def missed(self, legs: Sequence[Leg], now: float) -> ApiError:
        """The answer when it has passed: it says where the time went."""
        return ApiError(504, self.told(legs, now), code="deadline")

    def told(self, legs: Sequence[Leg], now: float) -> str:
        """Where the time went, for a person."""
        spent = [(leg, (leg.ended_at or now) - leg.started_at) for leg in legs]
        parts = [
            f"{leg.attempt.channel.label} {outcome(leg)} after {seconds:.1f} s"
            for leg, seconds in spent
        ]
        other = now - self.begun - sum(seconds for _, seconds in spent)
        if other >= 0.05:  # what rounds to nothing was nothing
            parts.append(f"{other:.1f} s between and before them")
        where = "; ".join(parts) or "nobody was asked yet"
        return f"not complete within the deadline of {self.seconds:g} s: {where}"


def deadline_of(headers: Mapping[str, str], key: ClientKey, begun: float) -> Deadline:
    """What the client asks for, and no more than its key may have.

    Raises:
        ApiError: 400 for a header that is no time.
    """
    own = inf if key.preferences.deadline is None else key.preferences.deadline
    text = headers.get(HEADER)
    if text is None:
        return Deadline(begun, own)
    seconds = parse_duration(text)
    if not seconds:
        raise ApiError(
            400,
            f"{HEADER}: not a time; send seconds (20, 2.5) or a number with a unit: 300ms, 20s, 2m",
            code="invalid_deadline",
            param=HEADER,
        )
    return Deadline(begun, min(seconds, own))
