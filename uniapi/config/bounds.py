"""How much and how long: the limits of `api.yaml` as values, any of which may differ by model.

Durations are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ByModel(Generic[T]):
    """A setting that may differ from model to model.

    Attributes:
        entries: (name, value) in file order, without `default`.
        default: the value for models no entry names; None when there is none.
    """

    entries: tuple[tuple[str, T], ...] = ()
    default: T | None = None

    def named(self, *names: str) -> T | None:
        """The entry for the first of `names` that has one.

        A name is matched exactly, else by the longest entry contained in it.
        """
        for name in names:
            found: T | None = None
            length = -1
            for entry, value in self.entries:
                if entry == name:
                    return value
                if len(entry) > length and entry in name:
                    found, length = value, len(entry)
            if found is not None:
                return found
        return None

    def get(self, *names: str) -> T | None:
        """The entry for one of `names`, else the default."""
        found = self.named(*names)
        return self.default if found is None else found


class Unit(StrEnum):
    """What a rate limit counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Window:
    """At most `limit` in any `seconds`."""

    limit: int
    seconds: float
    unit: Unit = Unit.REQUESTS


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Several windows at once, and a cap on the size of one request.

    Attributes:
        windows: all of them hold at the same time.
        tokens_per_request: the `N/tpr` form; None when not limited.
    """

    windows: tuple[Window, ...] = ()
    tokens_per_request: int | None = None


@dataclass(frozen=True, slots=True)
class RateLimits:
    """A rate limit as configured: one bucket for all models, or one per model.

    Attributes:
        per_model: True for the map form, whose buckets are one per model.
        rules: the limit for each model; the scalar form is a `default` alone.
    """

    per_model: bool
    rules: ByModel[RateLimit]


@dataclass(frozen=True, slots=True)
class Silence:
    """How long an attempt may keep us waiting, in seconds; None where nothing was said.

    Attributes:
        first: before the first token.
        idle: between tokens.
        total: for the whole attempt.
    """

    first: float | None = None
    idle: float | None = None
    total: float | None = None


@dataclass(frozen=True, slots=True)
class TimeoutRule:
    """One entry of a `timeout_policy`: when all of `match` fits, `timeout` applies.

    Attributes:
        match: field name to the patterns any of which fits (`*` and `prefix*` allowed).
        timeout: phase (connect, first_byte, idle, total) to seconds.
    """

    match: tuple[tuple[str, tuple[str, ...]], ...]
    timeout: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class TimeoutPolicy:
    """The `timeout_policy` of files written for later versions of the seeds' program."""

    default: tuple[tuple[str, float], ...] = ()
    rules: tuple[TimeoutRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Hedge:
    """Ask a second channel when the first is slow; never, when neither delay is given (`off`).

    Attributes:
        after: a fixed delay in seconds, or None when `percentile` says.
        percentile: of the channel's own time to first token, 1 to 99, or None.
        budget: the share of requests that may be hedged, 0 to 1.
    """

    after: float | None = None
    percentile: int | None = None
    budget: float = 0.1
