"""The trail of a request: who was asked, how it went and how long it took; never a key."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from uniapi.race import Leg

_SAFE = "/:@._-"


def trail(legs: Sequence[Leg], now: float) -> str:
    """One entry an attempt: `provider/model;outcome;ms=12`, in order, printable ASCII."""
    return ", ".join(_entry(leg, now) for leg in legs)


def _entry(leg: Leg, now: float) -> str:
    label = quote(leg.attempt.channel.label, safe=_SAFE)
    end = leg.ended_at if leg.ended_at is not None else now
    parts = [label, outcome(leg)]
    failure = leg.failure or leg.tally.failure
    if failure is not None:
        parts.append(f"status={failure.status}")
    parts.append(f"ms={(end - leg.started_at) * 1000:.0f}")
    return ";".join(parts)


def outcome(leg: Leg) -> str:
    """One word for how an attempt went: `ok`, a kind of failure, or `cancelled`."""
    failure = leg.failure or leg.tally.failure
    if failure is not None:
        return failure.kind.value
    return "ok" if leg.committed else "cancelled"
