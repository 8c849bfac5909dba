"""Where a request that is over is told of: to whoever counts, keeps or adds up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog

from uniapi.stats.record import Record

Listener: TypeAlias = Callable[[Record], None]
"""Takes a record at once, without waiting."""

log = structlog.get_logger()


@dataclass(slots=True)
class Ledger:
    """Everybody who wants to know.

    Attributes:
        listeners: told in order; one that fails is the others' business no more than a client's.
    """

    listeners: list[Listener] = field(default_factory=list)

    def note(self, record: Record) -> None:
        """A request is over."""
        for listener in self.listeners:
            try:
                listener(record)
            except Exception:
                log.exception("statistics.crashed")
