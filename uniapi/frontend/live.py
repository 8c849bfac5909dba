"""The requests that are being served now: where each of them stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias, get_args

from uniapi.codec import Json, JsonObject
from uniapi.frontend.answer import Answer
from uniapi.frontend.exchange import Exchange
from uniapi.frontend.trail import outcome
from uniapi.race import Leg

Stage: TypeAlias = Literal["reading", "waiting", "answering", "other"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)


def stage(answer: Answer) -> Stage:
    """How far a request has come.

    `reading`: it is still coming in. `waiting`: nobody has said anything that counts. `answering`:
    somebody has. `other`: it is not one that providers are asked about.
    """
    match answer.account:
        case Exchange(ask=None):
            return "reading"
        case Exchange(legs=legs):
            return "answering" if any(leg.committed for leg in legs) else "waiting"
        case _:
            return "other"


def shown(answer: Answer, seconds: float, now: float) -> JsonObject:
    """One live request, as JSON; times are seconds. Never what it asks, nor a key."""
    request = answer.request
    found: JsonObject = {
        "id": request.id,
        "endpoint": f"{request.method[:20]} {request.path[:200]}",
        "client": request.client or None,
        "stage": stage(answer),
        "seconds": _rounded(seconds),
        "bytes_sent": answer.sent,
    }
    match answer.account:
        case Exchange(key=key, ask=ask, legs=legs):
            current = _current(legs)
            found["key"] = key.id if key is not None else None
            found["model"] = ask.model[:200] if ask is not None else None
            found["stream"] = ask.stream if ask is not None else None
            found["channel"] = current.attempt.channel.label if current is not None else None
            found["attempts"] = [_attempt(leg, now) for leg in legs]
        case _:
            pass
    return found


def _current(legs: Sequence[Leg]) -> Leg | None:
    """Who answers, else who was asked last and may still answer."""
    running = [leg for leg in legs if leg.ended_at is None]
    committed = [leg for leg in legs if leg.committed]
    return next(reversed(committed or running), None)


def _attempt(leg: Leg, now: float) -> Json:
    attempt, running = leg.attempt, leg.ended_at is None
    end = now if leg.ended_at is None else leg.ended_at
    return {
        "provider": attempt.channel.provider.name,
        "model": attempt.channel.upstream,
        "key": attempt.key.digest if attempt.key is not None else None,
        "outcome": "running" if running else outcome(leg),
        "why": leg.why or "turn",
        "seconds": _rounded(end - leg.started_at),
        "first_token_seconds": (
            None if leg.first_at is None else _rounded(leg.first_at - leg.started_at)
        ),
    }


def _rounded(seconds: float) -> float:
    return round(seconds, 3)
