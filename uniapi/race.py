"""The race of a request: start an attempt, fail over, stop at the first that commits.

The shape is that of happy eyeballs: attempts run as tasks of the request's nursery, each reports
once whether it committed or failed, and the loop here decides what comes next from the walk's
pure answers. An attempt's task is its `Leg`: a cancel scope whose deadline moves (`Patience`), a
bounded channel of batches towards the writer, and what is known of how it went. `run_race`
returns only when every leg but the winner's has hung up.

Where hedging is allowed, a second channel is asked beside a first that is slow. Who commits first
wins: the other is cancelled in that instant, so it cannot commit as well, and has hung up before
the race is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal, TypeAlias

import trio

from uniapi.errors import Failure, Kind
from uniapi.events import Batch, Finish, Start, StreamFailed, Usage
from uniapi.patience import Patience
from uniapi.routing.hedging import Hedging
from uniapi.routing.walk import Attempt, Step, Walk

# Batches the writer may lag behind before the upstream is no longer read. A batch is one read,
# at most 64 KiB for all but giant events.
_LAG: Final = 8

_NOTED: Final = frozenset({Start, Finish, Usage, StreamFailed})
# Made once: naming the type costs as much as the channel.
_open_batches: Final = trio.open_memory_channel[Batch]

Why: TypeAlias = Literal["", "hedge", "rescue"]
Taker: TypeAlias = Callable[[Batch], Batch | None]
"""Does with a batch what the writer would do, and returns what is left for the writer itself.

Waking the writer's task for one token costs 20 us, more than reading and writing it.
"""


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
            if type(event) not in _NOTED:
                continue
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


@dataclass(slots=True)
class _Ring:
    """The legs that are running; one of them may commit.

    Attributes:
        live: those that have neither committed nor failed.
        won: one has committed, or nobody wants that any more.

    It does not know the winner: each leg knows its ring, and would wait for the collector.
    """

    live: list[Leg] = field(default_factory=list)
    won: bool = False
    _reports: deque[Leg] = field(default_factory=deque)
    _news: trio.Event | None = None
    _over: bool = False

    def claim(self, leg: Leg) -> bool:
        """Be the one that commits; False when another was first."""
        if self.won:
            return False
        self.won = True
        self.live.remove(leg)
        for loser in self.live:
            if loser.failure is None and loser.ended_at is None:
                loser.drop()
        self.report(leg)
        return True

    def report(self, leg: Leg) -> None:
        """Say that a leg has committed, or has ended without."""
        if self._over:
            return
        self._reports.append(leg)
        if self._news is not None:
            self._news.set()

    async def heard(self) -> Leg:
        """The next leg to report."""
        while not self._reports:
            self._news = trio.Event()
            await self._news.wait()
        return self._reports.popleft()

    def heard_now(self) -> Leg | None:
        """A leg that has reported; None when none has."""
        return self._reports.popleft() if self._reports else None

    def give_up(self) -> None:
        """The race is over: whoever still runs must not commit."""
        self.won = self._over = True
        self.live.clear()
        self._reports.clear()


@dataclass(slots=True, eq=False)
class Leg:
    """One attempt as a task.

    Attributes:
        attempt: what it asks whom.
        batches: what the writer reads; open once the leg has committed.
        patience: its deadline.
        why: what it was started for, when not in its turn: to hedge or to rescue.
        tally: what it has read so far.
        failure: why it failed before commit; None while running and for a winner.
        committed: output of it reaches the client.
        dropped: nobody wants its answer any more.
        started_at, first_at, ended_at: on trio's clock, in seconds; None when not yet.
        handed: batches handed on; who reads them can tell without asking whether there are more.
        taker: takes a batch in this very task, while the writer waits for one; see `Taker`.
        closed: set when the upstream has been hung up on and nothing of the task is left.
    """

    attempt: Attempt
    patience: Patience
    started_at: float
    batches: trio.MemoryReceiveChannel[Batch]
    _send: trio.MemorySendChannel[Batch]
    _ring: _Ring
    why: Why = ""
    tally: Tally = field(default_factory=Tally)
    failure: Failure | None = None
    committed: bool = False
    dropped: bool = False
    first_at: float | None = None
    ended_at: float | None = None
    handed: int = 0
    taker: Taker | None = None
    closed: trio.Event = field(default_factory=trio.Event)

    def fail(self, failure: Failure) -> None:
        """Say, before commit, that this attempt has failed."""
        self.failure = failure

    def token(self) -> None:
        """Something that counts has come from the provider."""
        now = trio.current_time()
        if self.first_at is None:
            self.first_at = now
        self.patience.token(now)

    def drop(self) -> None:
        """Stop it: it hangs up and is nobody's failure. `closed` tells when it has."""
        self.dropped = True
        self.patience.scope.cancel()

    async def pass_on(self, batch: Batch) -> None:
        """Hand a batch to the writer, committing with the first."""
        if not self.committed:
            if self.patience.over or not self._ring.claim(self):
                await trio.sleep_forever()  # dropped, or too late: this is where it ends
            self.committed = True
        self.tally.note(batch)
        if self.taker is not None:
            left = self.taker(batch)
            if left is None:
                return
            batch, self.taker = left, None  # the writer wakes, and what follows waits its turn
        self.handed += 1
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
            if scope.cancelled_caught and not self.dropped:
                await self._out_of_time()
        finally:
            self.patience.stop()
            self.ended_at = trio.current_time()
            self._send.close()
            self.closed.set()
            if not self.committed:
                self._ring.report(self)

    async def _out_of_time(self) -> None:
        failure = self.patience.expired()
        if self.committed:
            last = Batch((StreamFailed(failure),))
            self.tally.note(last)
            self.handed += 1
            await self._send.send(last)
        else:
            self.fail(failure)


Translate: TypeAlias = Callable[[Leg], Awaitable[None]]


async def run_race(
    nursery: trio.Nursery,
    walk: Walk,
    translate: Translate,
    trail: list[Leg],
    *,
    deadline: float = inf,
    hedging: Hedging | None = None,
    why: Why = "",
) -> Leg | None:
    """Run attempts until one commits.

    Args:
        nursery: the request's; the winner goes on in it after this returns.
        walk: decides who is next.
        translate: runs one attempt, calling `Leg.fail` or `Leg.pass_on`.
        trail: gets every leg, in the order they were started.
        deadline: of the request, on trio's clock: no attempt begins after it or outlasts it.
        hedging: when a second channel may be asked beside a slow first; None for never.
        why: what the attempts are for.

    Returns:
        The leg that committed, or None when the walk or the time is at its end; the walk has the
        failures.
    """
    ring = _Ring()

    def start(step: Step, why: Why) -> None:
        leg = _leg(step.attempt, ring, deadline, why)
        ring.live.append(leg)
        trail.append(leg)
        nursery.start_soon(leg.run, translate)

    try:
        while True:
            now = trio.current_time()
            if not ring.live and not ring.won:
                step = walk.next(now)
                if step is None or now + step.delay >= deadline:
                    return None
                if step.delay > 0:
                    await trio.sleep(step.delay)
                start(step, why)
            leg = await _heard(ring, hedging, deadline)
            if leg is None:
                assert hedging is not None  # noqa: S101 - nobody else ends the wait early
                step = hedging.ask(walk, trio.current_time())
                if step is not None:
                    start(step, "hedge")
            elif leg.committed:
                await _settle(ring, leg, walk, hedging)
                return leg
            else:
                ring.live.remove(leg)
                _fail(leg, walk)
    finally:
        ring.give_up()


async def _heard(ring: _Ring, hedging: Hedging | None, deadline: float) -> Leg | None:
    """The next leg to commit or fail; None when it is time to hedge."""
    due = inf
    if hedging is not None and len(ring.live) == 1:
        wait = hedging.delay(ring.live[0].attempt)
        due = inf if wait is None else ring.live[0].started_at + wait
    if due >= deadline or due == inf:
        return await ring.heard()
    with trio.move_on_at(due):
        return await ring.heard()
    return ring.heard_now()  # it may have reported in the same instant


async def _settle(ring: _Ring, winner: Leg, walk: Walk, hedging: Hedging | None) -> None:
    """One has committed: the others hang up, and what was learnt is written down."""
    for loser in ring.live:
        await loser.closed.wait()
    now = trio.current_time()
    walk.succeeded(winner.attempt, now)
    for loser in ring.live:
        if not loser.dropped:
            _fail(loser, walk)  # it failed in the same instant
    if hedging is not None:
        for leg in (winner, *ring.live):
            until = leg.first_at or leg.ended_at or now  # a loser's wait was at least so long
            hedging.waited(leg.attempt, until - leg.started_at)
        dropped = sum(leg.dropped for leg in ring.live)
        hedging.settled(won=winner.why == "hedge", losers=dropped)


def _fail(leg: Leg, walk: Walk) -> None:
    failure = leg.failure or Failure(Kind.EMPTY, "the provider answered nothing", 502)
    leg.failure = failure
    walk.failed(leg.attempt, failure, trio.current_time())


def _leg(attempt: Attempt, ring: _Ring, deadline: float, why: Why) -> Leg:
    send, receive = _open_batches(_LAG)
    now = trio.current_time()
    # The scope exists before its task does: a deadline in the same tick finds it.
    patience = Patience(attempt.timeouts, now, deadline)
    return Leg(attempt, patience, now, receive, send, ring, why)
