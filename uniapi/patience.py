"""The one deadline of an attempt."""

from __future__ import annotations

from math import inf
from typing import Final, Literal, TypeAlias

import trio

from uniapi.alarm import Alarm
from uniapi.errors import Failure, Kind
from uniapi.routing.timeouts import Timeouts

Phase: TypeAlias = Literal["first", "idle", "total", "deadline"]
_KINDS: Final[dict[Phase, Kind]] = {
    "first": Kind.FIRST_TOKEN,
    "idle": Kind.IDLE,
    "total": Kind.TOTAL,
    "deadline": Kind.DEADLINE,
}


class Patience:
    """The one deadline of an attempt: moved by every token, resting while the client is slow.

    The request's own deadline never moves and never rests.
    """

    __slots__ = (
        "_alarm",
        "_deadline",
        "_last",
        "_phase",
        "_rested_at",
        "_timeouts",
        "_until",
        "scope",
    )

    def __init__(self, timeouts: Timeouts, now: float, deadline: float = inf) -> None:
        """The clock of the first token starts here; `deadline` is the request's."""
        self.scope = trio.CancelScope()
        self._alarm = Alarm(self.scope)
        self._timeouts = timeouts
        self._deadline = deadline
        self._last = inf if timeouts.total is None else now + timeouts.total
        self._phase: Phase = "first"
        self._until = now + timeouts.first
        self._rested_at = 0.0
        self._set()

    @property
    def over(self) -> bool:
        """Whether the attempt was given up, by the clock or by somebody else."""
        return self.scope.cancel_called

    def token(self, now: float) -> None:
        """Something that counts has come: the next wait is an idle one."""
        if now >= self._alarm.at:
            self.scope.cancel()  # in the same instant as the deadline, which was first
            return
        self._phase = "idle"
        self._until = now + self._timeouts.idle
        self._set()

    def rest(self) -> None:
        """Our own client keeps us waiting: that is not the provider's silence."""
        self._rested_at = trio.current_time()
        self._alarm.move(self._deadline)

    def wake(self) -> None:
        """The client took what we had: the clocks go on from where they stood."""
        rested = trio.current_time() - self._rested_at
        self._until += rested
        self._last += rested
        self._set()

    def stop(self) -> None:
        """The attempt is over."""
        self._alarm.stop()

    def _set(self) -> None:
        self._alarm.move(min(self._until, self._last, self._deadline))

    def expired(self) -> Failure:
        """What the deadline that fired means."""
        if self._deadline <= min(self._until, self._last):
            return Failure(Kind.DEADLINE, "the request's deadline has passed", 504, code="deadline")
        phase: Phase = "total" if self._last <= self._until else self._phase
        limit = {
            "first": self._timeouts.first,
            "idle": self._timeouts.idle,
            "total": self._timeouts.total,
        }[phase]
        said = {
            "first": f"no first token within {limit:g} s",
            "idle": f"silence of {limit:g} s between tokens",
            "total": f"not complete within {limit:g} s",
        }[phase]
        return Failure(_KINDS[phase], said, 504, code="timeout")
