"""Deadlines that move with every token and every request, and hardly ever come.

Moving the deadline of a cancel scope costs trio 5 us, entering a scope that has one as much
again. An alarm moves for nothing: one task for all of them wakes at the earliest moment it was
told of, and looks whether that still stands. What is cancelled is a scope like any other, and at
the same moment as by a deadline of its own.

The task is trio's (`spawn_system_task`), because connections and attempts of the whole process
share it whoever made them; it waits and cancels, and has nothing that could fail.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Final

import trio

_MANY: Final = 1000  # alarms that were stopped, from which on they are cleared away


class Alarm:
    """A moment at which a scope is cancelled, unless it moves on before.

    Attributes:
        at: the moment, on trio's clock; infinite for never.
    """

    __slots__ = ("_scope", "at", "due")

    def __init__(self, scope: trio.CancelScope) -> None:
        """Never, so far."""
        self._scope: trio.CancelScope | None = scope
        self.at = inf
        self.due = inf
        """When the watch will look at it; its own business."""

    def move(self, at: float) -> None:
        """The moment is another."""
        self.at = at
        if at < self.due:
            _watch().expect(self)

    def stop(self) -> None:
        """It will not be needed any more; the scope is let go of."""
        self.at, self._scope = inf, None
        if self.due < inf:
            _watch().stopped()

    @property
    def stopped(self) -> bool:
        """Whether it will never be needed again; one that is set to never may be."""
        return self._scope is None

    def look(self, now: float) -> None:
        """Cancel when the moment has come."""
        if self.at <= now and self._scope is not None:
            self._scope.cancel()


class _Watch:
    """The alarms of a run, by when to look at them."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._numbers = count()
        self._nap = trio.CancelScope()
        self._dead = 0

    def expect(self, alarm: Alarm) -> None:
        alarm.due = alarm.at
        heappush(self._heap, (alarm.at, next(self._numbers), alarm))
        if alarm.at < self._nap.deadline:  # noqa: PLR1730 - setting it costs, comparing does not
            self._nap.deadline = alarm.at

    def stopped(self) -> None:
        self._dead += 1
        if self._dead > _MANY and self._dead * 2 > len(self._heap):
            self.tidy()

    def tidy(self) -> None:
        self._heap = [entry for entry in self._heap if not entry[2].stopped]
        heapify(self._heap)
        self._dead = 0

    async def run(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._heap[0][0] if self._heap else inf) as self._nap:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._heap and self._heap[0][0] <= now:
                due, _, alarm = heappop(self._heap)
                if due != alarm.due:
                    continue  # it was moved forward, and has another entry
                alarm.due = inf
                alarm.look(now)
                if now < alarm.at < inf:
                    self.expect(alarm)


def tidy() -> None:
    """Let go of all alarms that were stopped: a thousand may be lying about in a peak's memory."""
    _watch().tidy()


_of_this_run: Final = trio.lowlevel.RunVar[_Watch]("uniapi.alarms")


def _watch() -> _Watch:
    try:
        return _of_this_run.get()
    except LookupError:
        watch = _Watch()
        _of_this_run.set(watch)
        trio.lowlevel.spawn_system_task(watch.run)
        return watch
