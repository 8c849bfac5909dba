"""The race of a request: start an attempt, fail over, stop at the first that commits.

The shape is that of happy eyeballs: attempts run as tasks of the request's nursery, each reports
once whether it committed or failed, and the loop here decides what comes next from the walk's
pure answers. An attempt's task is its `Leg`: a cancel scope whose deadline moves (`Patience`), a
bounded channel of batches towards the writer, and what is known of how it went. `run_race`
returns only when every leg but the winner's has hung up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal, TypeAlias

import trio

from uniapi.errors import Failure, Kind
from uniapi.events import Batch, Finish, Start, StreamFailed, Usage
from uniapi.routing.timeouts import Timeouts
from uniapi.routing.walk import Attempt, Walk

# Batches the writer may lag behind before the upstream is no longer read. A batch is one read,
# at most 64 KiB for all but giant events.
_LAG: Final = 8

Phase: TypeAlias = Literal["first", "idle", "total"]
_KINDS: Final[dict[Phase, Kind]] = {
    "first": Kind.FIRST_TOKEN,
    "idle": Kind.IDLE,
    "total": Kind.TOTAL,
}


class Patience:
    """The one deadline of an attempt: moved by every token, resting while the client is slow."""

    def __init__(self, timeouts: Timeouts, now: float) -> None:
        """The clock of the first token starts here."""
        self.scope = trio.CancelScope()
        self._timeouts = timeouts
        self._last = inf if timeouts.total is None else now + timeouts.total
        self._phase: Phase = "first"
        self._until = now + timeouts.first
        self._rested_at = 0.0
        self._set()

    def token(self) -> None:
        """Something that counts has come: the next wait is an idle one."""
        self._phase = "idle"
        self._until = trio.current_time() + self._timeouts.idle
        self._set()

    def rest(self) -> None:
        """Our own client keeps us waiting: that is not the provider's silence."""
        self._rested_at = trio.current_time()
        self.scope.deadline = inf

    def wake(self) -> None:
        """The client took what we had: the clocks go on from where they stood."""
        rested = trio.current_time() - self._rested_at
        self._until += rested
        self._last += rested
        self._set()

    def _set(self) -> None:
        self.scope.deadline = min(self._until, self._last)

    def expired(self) -> Failure:
        """What the deadline that fired means."""
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


@dataclass(slots=True)
class Tally:
    """What was read on the way: for the log and the statistics."""

    model: str = ""
    finish: str | None = None
    usage: Usage | None = None
    failure: Failure | None = None

    def note(self, batch: Batch) -> None:
        """Remember what a later reader wants to know."""
        for event in batch.events:
            match event:
                case Start():
                    self.model = event.model
                case Finish():
                    self.finish = event.reason
                case Usage():
                    self.usage = event
                case StreamFailed():
                    self.failure = event.failure
                case _:
                    pass


@dataclass(slots=True, eq=False)
class Leg:
    """One attempt as a task.

    Attributes:
        attempt: what it asks whom.
        batches: what the writer reads; open once the leg has committed.
        patience: its deadline.
        tally: what it has read so far.
        failure: why it failed before commit; None while running and for a winner.
        started_at, first_at, ended_at: on trio's clock, in seconds; None when not yet.
        closed: set when the upstream has been hung up on and nothing of the task is left.
    """

    attempt: Attempt
    patience: Patience
    started_at: float
    batches: trio.MemoryReceiveChannel[Batch]
    _send: trio.MemorySendChannel[Batch]
    _report: trio.MemorySendChannel[Leg]
    tally: Tally = field(default_factory=Tally)
    failure: Failure | None = None
    committed: bool = False
    first_at: float | None = None
    ended_at: float | None = None
    closed: trio.Event = field(default_factory=trio.Event)

    def fail(self, failure: Failure) -> None:
        """Say, before commit, that this attempt has failed."""
        self.failure = failure

    def token(self) -> None:
        """Something that counts has come from the provider."""
        if self.first_at is None:
            self.first_at = trio.current_time()
        self.patience.token()

    async def pass_on(self, batch: Batch) -> None:
        """Hand a batch to the writer, committing with the first."""
        if not self.committed:
            self.committed = True
            self._report.send_nowait(self)
        self.tally.note(batch)
        try:
            self._send.send_nowait(batch)
        except trio.WouldBlock:
            self.patience.rest()
            await self._send.send(batch)
            self.patience.wake()

    async def run(self, translate: Translate) -> None:
        """The task: translate under the deadline, then say how it went."""
        try:
            with self.patience.scope as scope:
                await translate(self)
            if scope.cancelled_caught:
                await self._out_of_time()
        finally:
            self.ended_at = trio.current_time()
            self._send.close()
            self.closed.set()
            if not self.committed:
                self._report.send_nowait(self)

    async def _out_of_time(self) -> None:
        failure = self.patience.expired()
        if self.committed:
            last = Batch((StreamFailed(failure),))
            self.tally.note(last)
            await self._send.send(last)
        else:
            self.fail(failure)


Translate: TypeAlias = Callable[[Leg], Awaitable[None]]


async def run_race(
    nursery: trio.Nursery, walk: Walk, translate: Translate, trail: list[Leg]
) -> Leg | None:
    """Run attempts until one commits.

    Args:
        nursery: the request's; the winner goes on in it after this returns.
        walk: decides who is next.
        translate: runs one attempt, calling `Leg.fail` or `Leg.pass_on`.
        trail: gets every leg, in the order they were started.

    Returns:
        The leg that committed, or None when the walk is at its end; it has the failures.
    """
    report_send, report = trio.open_memory_channel[Leg](inf)  # one report a leg, at most ten legs
    while (step := walk.next(trio.current_time())) is not None:
        if step.delay > 0:
            await trio.sleep(step.delay)
        leg = _start(nursery, step.attempt, translate, report_send)
        trail.append(leg)
        await report.receive()
        now = trio.current_time()
        if leg.committed:
            walk.succeeded(step.attempt, now)
            return leg
        failure = leg.failure or Failure(Kind.EMPTY, "the provider answered nothing", 502)
        leg.failure = failure
        walk.failed(step.attempt, failure, now)
    return None


def _start(
    nursery: trio.Nursery,
    attempt: Attempt,
    translate: Translate,
    report: trio.MemorySendChannel[Leg],
) -> Leg:
    send, receive = trio.open_memory_channel[Batch](_LAG)
    now = trio.current_time()
    # The scope exists before its task does: a deadline in the same tick finds it.
    leg = Leg(attempt, Patience(attempt.timeouts, now), now, receive, send, report)
    nursery.start_soon(leg.run, translate)
    return leg
