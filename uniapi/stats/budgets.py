"""What every client key has cost since its `created_at`, in memory, for whoever must refuse it.

It is what the statistics file knew when the process began, and what was told of since then. The
file is never asked about the time of this process: its writer lags behind, and may be switched off.
For a `created_at` within that time, our own costs are kept by the quarter of an hour, because it
is on those that days begin all over the world.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Final

import structlog
import trio

from uniapi.config.types import Config
from uniapi.stats.reader import Reader, Unreadable
from uniapi.stats.record import Record
from uniapi.stats.usage import spent

_QUARTER: Final = 900.0  # seconds
_AGAIN: Final = 60.0  # seconds until a file that could not be read is tried again
_MOST: Final = 4096  # busy quarters kept apart for one key, 42 days without a pause
_GONE: Final = 1000  # keys no longer configured whose own costs are kept: they may come back
_CURE: Final = "set DB_PATH and not DISABLE_DATABASE, and what was spent outlives a restart"

log = structlog.get_logger()


@dataclass(slots=True)
class Budgets:
    """Sums of costs, by digest of the client key.

    Attributes:
        spent: the sums, in US dollars; those who read them hold the same object.
        began: when this process began to count, unix seconds.
        ready: the file has been asked for the first time, and serving may begin.
    """

    spent: dict[str, float]
    began: float
    ready: trio.Event = field(default_factory=trio.Event)
    _told: str = ""
    _limited: tuple[str, ...] = ()
    _since: Mapping[str, float] = field(default_factory=dict)
    _before: dict[str, tuple[float, float]] = field(default_factory=dict)  # since, and dollars
    _own: defaultdict[str, dict[float, float]] = field(default_factory=lambda: defaultdict(dict))
    _changed: trio.Event = field(default_factory=trio.Event)

    def note(self, record: Record) -> None:
        """A request is over: its key pays, and so do the nested keys it went through."""
        if not record.cost:
            return
        nested = ((digest, record.paid_through(digest)) for digest in record.via)
        for digest, dollars in ((record.key, record.cost), *nested):
            since = self._since.get(digest)
            if since is None:
                continue
            _add(self._own[digest], record.at, dollars)
            if record.at >= since:
                self.spent[digest] += dollars

    def follow(self, config: Config) -> None:
        """Go by this configuration from now on; `run` adds what the file knows of its keys."""
        self._since = {
            key.id: 0.0 if (begun := key.preferences.created_at) is None else begun.timestamp()
            for key in config.keys
        }
        self._before = {
            digest: known for digest, known in self._before.items() if self._asked(digest, known[0])
        }
        self._limited = tuple(key.id for key in config.keys if key.preferences.credits is not None)
        gone = [digest for digest in self._own if digest not in self._since]
        for digest in gone[:-_GONE]:  # the file knows them, from the next start on
            del self._own[digest]
        self._sum()
        self._changed.set()

    async def run(self, reader: Reader | None) -> None:
        """Add what the file knows to every sum that is new, for ever; None is no file."""
        while True:
            self._changed = trio.Event()
            if reader is None and self._limited:
                log.warning("credits.forgotten_at_restart", keys=self._limited, cure=_CURE)
            known = reader is None or await self._read(reader)
            self.ready.set()
            with trio.move_on_after(inf if known else _AGAIN):
                await self._changed.wait()

    async def _read(self, reader: Reader) -> bool:
        """Ask the file about keys whose `created_at` is new to us; False when it cannot say."""
        wanted = {since for digest, since in self._since.items() if digest not in self._before}
        for since in sorted(wanted):
            try:
                found = await reader.read(partial(spent, since=since, until=self.began))
            except Unreadable as error:
                if self._limited and str(error) != self._told:  # said once, tried for ever
                    log.warning("credits.unreadable", error=str(error), again_in=_AGAIN)
                    self._told = str(error)
                return False
            for digest in [key for key in self._since if self._asked(key, since)]:
                self._before[digest] = (since, found.get(digest, 0.0))
            self._sum()
        self._told = ""
        return True

    def _asked(self, digest: str, since: float) -> bool:
        return self._since.get(digest) == since

    def _sum(self) -> None:
        """Make the sums anew, in the object that others hold."""
        self.spent.clear()
        for digest, since in self._since.items():
            first = since // _QUARTER * _QUARTER
            own = (cost for at, cost in self._own.get(digest, {}).items() if at >= first)
            self.spent[digest] = self._before.get(digest, (since, 0.0))[1] + sum(own)


def _add(quarters: dict[float, float], at: float, cost: float) -> None:
    """Count it in its quarter; the oldest two are one when there are too many."""
    at = at // _QUARTER * _QUARTER
    quarters[at] = quarters.get(at, 0.0) + cost
    if len(quarters) > _MOST:
        oldest, next_ = sorted(quarters)[:2]
        quarters[next_] += quarters.pop(oldest)
