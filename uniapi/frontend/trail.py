"""The trail of a request: who was asked, how it went and how long it took; never a key."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import quote

from uniapi.errors import Kind
from uniapi.race import Leg
from uniapi.routing.timeouts import Timeouts

_SAFE = "/:@._-"


def trail(legs: Sequence[Leg], now: float) -> str:
    """One entry an attempt: `provider/model;outcome;ms=12`, in order, printable ASCII.

    Between outcome and time stand, where there is one: what the attempt was for (`hedge`,
    `rescue`), the status, and the limit that fired (`limit=first:10`, seconds).
    """
    return ", ".join(_entry(leg, now) for leg in legs)


def comment(legs: Sequence[Leg], now: float) -> bytes:
    """The same as a comment at the end of a stream, where headers have long gone."""
    return f": uniapi attempts={trail(legs, now)}\n\n".encode("ascii")


@lru_cache(1024)
def _quoted(label: str) -> str:
    return quote(label, safe=_SAFE)


def _entry(leg: Leg, now: float) -> str:
    label = _quoted(leg.attempt.channel.label)
    end = leg.ended_at if leg.ended_at is not None else now
    parts = [label, outcome(leg)]
    if leg.why:
        parts.append(leg.why)
    failure = leg.failure or leg.tally.failure
    if failure is not None:
        parts.append(f"status={failure.status}")
        parts += _limit(failure.kind, leg.attempt.timeouts)
    parts.append(f"ms={(end - leg.started_at) * 1000:.0f}")
    return ";".join(parts)


def _limit(kind: Kind, timeouts: Timeouts) -> list[str]:
    match kind:
        case Kind.FIRST_TOKEN:
            return [f"limit=first:{timeouts.first:g}"]
        case Kind.IDLE:
            return [f"limit=idle:{timeouts.idle:g}"]
        case Kind.TOTAL if timeouts.total is not None:
            return [f"limit=total:{timeouts.total:g}"]
        case Kind.DEADLINE:
            return ["limit=deadline"]
        case _:
            return []


def outcome(leg: Leg) -> str:
    """One word for how it went: `ok`, a kind of failure, `cancelled`, or that it is `running`."""
    failure = leg.failure or leg.tally.failure
    if failure is not None:
        return failure.kind.value
    if leg.committed:
        return "ok"
    return "cancelled" if leg.dropped or leg.ended_at is not None else "running"
