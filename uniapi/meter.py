"""How much was used lately: the sliding windows behind every rate limit.

A meter remembers what was taken until it is a window old. The first `SLOTS` takings it has are
remembered one by one, so that small limits are exact to the tick. Once it has that many, takings
less than a `SLOTS`th of the window apart are remembered as one, until the last of them is a window
old. So memory is bounded whatever the limit, and the error is on the safe side: there is never
more than the limit in any window, and room is given back at most a `SLOTS`th of it late.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from uniapi.config.bounds import Unit, Window

SLOTS = 64


@dataclass(slots=True)
class _Mark:
    """Something taken, or several things taken close together.

    Attributes:
        since: when the first of them was taken.
        until: when the last of them is a window old.
        amount: how much it was.
    """

    since: float
    until: float
    amount: int


@dataclass(slots=True)
class _Span:
    """What was taken in the last so many seconds."""

    seconds: float
    marks: deque[_Mark] = field(default_factory=deque)
    used: int = 0

    def forget(self, now: float) -> None:
        """Let go of what is a window old."""
        while self.marks and self.marks[0].until <= now:
            self.used -= self.marks.popleft().amount

    def wait(self, limit: int, now: float) -> float:
        """Seconds until less than `limit` is in the window; 0 when it is so now."""
        self.forget(now)
        over = self.used - limit + 1
        until = now
        for mark in self.marks:
            if over <= 0:
                break
            over -= mark.amount
            until = max(until, mark.until)
        return until - now

    def add(self, amount: int, now: float, start: float) -> None:
        """Remember something that counts from `start`, which is `now` or a little later."""
        self.forget(now)
        self.used += amount
        until = start + self.seconds
        last = self.marks[-1] if len(self.marks) >= SLOTS else None
        if last is not None and now - last.since < self.seconds / SLOTS:
            last.amount += amount
            last.until = max(last.until, until)
        else:
            self.marks.append(_Mark(now, until, amount))


class Meter:
    """What one bucket of a rate limit has used, for each of its windows.

    It is kept by the length of the windows and not by their limits, so that a reload that changes
    a number does not forget what was used.
    """

    __slots__ = ("_spans",)

    def __init__(self) -> None:
        self._spans: dict[tuple[Unit, float], _Span] = {}

    def wait(self, window: Window, now: float) -> float:
        """Seconds until one more fits the window; 0 when it fits now."""
        span = self._spans.get((window.unit, window.seconds))
        return 0.0 if span is None else span.wait(window.limit, now)

    def left(self, window: Window, now: float) -> int:
        """How much is left in the window; never less than 0."""
        span = self._spans.get((window.unit, window.seconds))
        if span is None:
            return window.limit
        span.forget(now)
        return max(0, window.limit - span.used)

    def add(
        self, windows: Sequence[Window], unit: Unit, amount: int, now: float, start: float
    ) -> None:
        """Count `amount` of this unit in those of the windows that count it.

        Args:
            windows: of the rate limit that applies.
            unit: requests or tokens.
            amount: how many.
            now: the time; never less than at the call before.
            start: from when it counts; `now`, or a little later for what begins after a wait.
        """
        for seconds in {window.seconds for window in windows if window.unit is unit}:
            span = self._spans.setdefault((unit, seconds), _Span(seconds))
            span.add(amount, now, start)
