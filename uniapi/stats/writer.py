"""The one task that writes statistics: requests leave word and go on, a thread does the rest.

`note` appends to a bounded queue, and that is all a request pays. Once a second, or when there are
500, what has gathered is written in one transaction. What could not be written stays in the queue
and is tried again; a full queue takes nothing more and counts it. Nothing here raises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from math import inf
from pathlib import Path
from time import time
from typing import Final, TypeAlias, TypeVar

import structlog
import trio

from uniapi.config.types import Config
from uniapi.state import State
from uniapi.stats.file import File
from uniapi.stats.labels import labels
from uniapi.stats.opening import Unusable
from uniapi.stats.prune import MAX_REQUESTS, Keep, prune
from uniapi.stats.record import PROBES, Record
from uniapi.stats.restore import add_up, recall, restore
from uniapi.stats.store import Step, Store, Taken

ROOM: Final = 10_000  # records that may wait; some 10 MB
BATCH: Final = 500  # records in one transaction: a few milliseconds of a thread
EVERY: Final = 1.0  # seconds between looks
START: Final = 2.0  # seconds that the gateway waits for the file before it serves
END: Final = 2.0  # seconds for the last batch
STRANGERS: Final = 60  # requests a minute without a known key that are kept: a flood is no history
_STEPS: Final = 100_000  # of long windows that may wait
_PRUNE: Final = 3600.0  # seconds between prunings, or
_PRUNE_AFTER: Final = 20_000  # records, if that is sooner
_PRUNE_STEPS: Final = 100  # between two looks; 5 ms each
_LOOK: Final = 60.0  # seconds between two looks through the file: a large one is read for some
_SOON: Final = 2.0  # seconds until it is tried again; doubled each time, up to
_LATE: Final = 300.0
_TELL: Final = 60.0  # seconds between complaints about what was dropped

_PROBES: Final = {f"{method} /v1{path}" for method in ("GET", "HEAD") for path in PROBES}

T = TypeVar("T")
Clock: TypeAlias = Callable[[], float]
Thread: TypeAlias = Callable[[Callable[[], object]], Awaitable[object]]

log = structlog.get_logger()


class _Fate(Enum):
    """What became of a batch."""

    WRITTEN = auto()
    KEPT = auto()
    LOST = auto()


def own_thread() -> Thread:
    """Runs blocking work in a worker thread, one at a time, apart from the process's other work.

    It is left alone when the process ends: a disk that hangs must not hold that up.
    """
    limiter = trio.CapacityLimiter(1)

    async def run(work: Callable[[], object]) -> object:
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=limiter)

    return run


@dataclass(slots=True)
class _Rest:
    """How long the file is left alone after it could not be used.

    Attributes:
        until: on trio's clock.
        seconds: how long the next rest is.
    """

    until: float = -inf
    seconds: float = _SOON

    def begin(self) -> None:
        self.until = trio.current_time() + self.seconds
        self.seconds = min(2 * self.seconds, _LATE)


class Writer:
    """Keeps records in the statistics file.

    Attributes:
        path: of the file.
        dropped: records that found the queue full, or were a stranger's among too many.
        lost: records that the file would never have taken.
        written: records that are in the file.
        off: the file cannot be used at the moment.
    """

    def __init__(
        self,
        path: Path,
        state: State,
        config: Callable[[], Config],
        *,
        clock: Clock = time,
        cap: int = MAX_REQUESTS,
        thread: Thread | None = None,
    ) -> None:
        """Nothing is touched before `start`.

        Args:
            path: of the file.
            state: what its long windows count is kept.
            config: of the moment: retention and labels.
            clock: unix seconds.
            cap: requests in the file, at most.
            thread: runs what blocks; None for `own_thread`.
        """
        self.path = path
        self.dropped = self.lost = self.written = 0
        self._config, self._clock, self._cap = config, clock, cap
        self._thread = own_thread() if thread is None else thread
        self._state, self._takings = state, state.buckets.keep_takings()
        self._queue: deque[Record] = deque()
        self._steps: dict[Step, Taken] = {}
        self._file = File(path, clock)
        self._labelled: Config | None = None
        self._opened = 0
        self._wake, self._closed, self._closing = trio.Event(), trio.Event(), False
        self._rest, self.off = _Rest(), False
        self._suspected, self._look_at = False, -inf
        self._prune_at = self._told_at = -inf
        self._prune_after = self._told = 0
        self._minute = self._strangers = 0

    @property
    def waiting(self) -> int:
        """Records that are not in the file yet."""
        return len(self._queue)

    def note(self, record: Record) -> None:
        """Keep a request that is over; a `Listener`."""
        if record.endpoint in _PROBES:
            return
        if self.waiting >= ROOM or not (record.key or self._welcome(record.at)):
            self.dropped += 1
            return
        self._queue.append(record)
        if self.waiting == BATCH:
            self._wake.set()

    def _welcome(self, at: float) -> bool:
        """Whether a request of somebody unknown is among the first of its minute."""
        minute = int(at // 60)
        if minute != self._minute:
            self._minute, self._strangers = minute, 0
        self._strangers += 1
        return self._strangers <= STRANGERS

    def look(self) -> None:
        """Somebody who read the file found it damaged: look at once, and begin another if it is."""
        self._suspected = True
        self._wake.set()

    async def start(self) -> None:
        """Open the file and take over what it remembers, before the first request.

        When that takes longer than `START` seconds the gateway serves without the memory.
        """
        path = str(self.path)
        with trio.move_on_after(START) as patience:
            try:
                whole = await self._remember()
            except Exception:
                log.exception("statistics.crashed", path=path)
                return
        if patience.cancelled_caught or not whole:
            error = f"not read within {START:g} s: some limits of a day and longer begin anew"
            log.warning("statistics.slow", path=path, error=error, fix="a faster disk for DB_PATH")

    async def _remember(self) -> bool:
        """Take over what the file remembers; whether there was time for all of it."""
        memory = await self._guarded(lambda store: recall(store, self._clock()))
        if memory is None:
            return True
        now, unix = trio.current_time(), self._clock()
        windows = restore(memory, self._state, self._config(), now, unix)
        log.info("statistics.on", path=str(self.path), windows=windows)
        return memory.whole

    async def run(self) -> None:
        """Write until closed."""
        try:
            while not self._closing:
                self._wake = trio.Event()
                with trio.move_on_after(EVERY):
                    await self._wake.wait()
                await self._turn()
            await self._turn()
            await self._thread(self._file.close)
        finally:
            self._closed.set()

    async def aclose(self) -> None:
        """Write what is waiting and let go of the file, within `END` seconds; `run` ends."""
        self._closing = True
        self._wake.set()
        with trio.move_on_after(END) as patience:
            await self._closed.wait()
        if patience.cancelled_caught or self._queue:
            log.warning("statistics.unwritten", path=str(self.path), requests=self.waiting)

    async def _turn(self) -> None:
        """Write all that waits, then clear away some of what is old."""
        if self._suspected and not self._closing:
            await self._look()
        self._add_up()
        while self._queue or self._steps or self._unlabelled:
            if (self._resting and not self._closing) or await self._write_some() is _Fate.KEPT:
                break
            if self.waiting < BATCH and not self._closing:
                break  # what came meanwhile is little: a batch of three costs as much as one of 50
        self._complain()
        for _ in range(_PRUNE_STEPS):
            if self._closing or self.waiting >= BATCH or not await self._prune():
                break

    @property
    def _resting(self) -> bool:
        return trio.current_time() < self._rest.until

    async def _look(self) -> None:
        """Look through the file, unless that was done just now or the file rests."""
        now = trio.current_time()
        if now < self._look_at or self._resting:
            return
        self._suspected, self._look_at = False, now + _LOOK
        try:
            await self._guarded(Store.look_through)
        except Exception:
            log.exception("statistics.crashed", path=str(self.path))

    def _add_up(self) -> None:
        """Take what long windows have counted; its times are on trio's clock."""
        takings, ahead = self._takings, self._clock() - trio.current_time()
        while takings and len(self._steps) < _STEPS:
            taking = takings.popleft()
            add_up(taking, taking.start + ahead, self._steps)

    @property
    def _unlabelled(self) -> bool:
        """Whether the file does not know what the keys of this configuration are called."""
        return self._labelled is not self._config() or self._opened != self._file.opened

    async def _write_some(self) -> _Fate:
        """Write one batch."""
        records, steps = list(islice(self._queue, BATCH)), self._steps
        config, opened = self._config(), self._file.opened
        named = labels(config) if self._unlabelled else None

        def work(store: Store) -> _Fate:
            store.write(records, steps, named)
            return _Fate.WRITTEN

        try:
            fate = await self._guarded(work) or _Fate.KEPT
        except Exception:
            log.exception("statistics.crashed", path=str(self.path), requests=len(records))
            fate = _Fate.LOST
        if fate is _Fate.KEPT:
            return fate
        self._steps = {}
        self._labelled, self._opened = config, opened
        for _ in records:
            self._queue.popleft()
        if fate is _Fate.WRITTEN:
            self.written += len(records)
        else:
            self.lost += len(records)
        return fate

    async def _prune(self) -> bool:
        """One step, when it is time; whether there is more to do."""
        now = self._clock()
        if self.off or (now < self._prune_at and self.written < self._prune_after):
            return False
        config = self._config()
        seconds, named = config.preferences.stats_retention, labels(config).keys()
        keep = Keep(seconds, self._cap, named=named)
        try:
            if await self._guarded(lambda store: prune(store.connection, keep, now)):
                return True
        except Exception:
            log.exception("statistics.crashed", path=str(self.path))
        self._prune_at, self._prune_after = now + _PRUNE, self.written + _PRUNE_AFTER
        return False

    async def _guarded(self, work: Callable[[Store], T]) -> T | None:
        """What the work returned; None when the file could not be used, which is then told."""
        found: list[T] = []
        try:
            await self._thread(lambda: found.append(self._file.use(work)))
        except Unusable as unusable:
            self._rest.begin()
            if not self.off:
                self.off = True
                path = str(self.path)
                log.warning("statistics.off", path=path, error=unusable.why, fix=unusable.fix)
            return None
        finally:
            self._tell_asides()
        if self.off:
            self.off = False
            log.info("statistics.on", path=str(self.path))
        self._rest = _Rest()
        return found[0]

    def _tell_asides(self) -> None:
        while self._file.asides:
            aside = self._file.asides.pop()
            log.warning(
                "statistics.renewed",
                path=str(self.path),
                error=aside.why,
                kept=str(aside.now),
                fix="nothing needs to be done: a new file was begun, the old one is kept",
            )

    def _complain(self) -> None:
        """Say now and then that records were dropped."""
        now = trio.current_time()
        if self.dropped > self._told and now - self._told_at >= _TELL:
            log.warning("statistics.dropped", requests=self.dropped - self._told)
            self._told, self._told_at = self.dropped, now
