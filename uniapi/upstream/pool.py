"""Idle connections, the youngest first; decides which to use and which to close, closes none.

All idle connections stand in one row by age, and each origin has its own stack. The row makes
dropping the expired, and the oldest of all, cheap; the stack keeps few connections warm rather
than many lukewarm. No I/O here: what is to be closed is handed back.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple, TypeVar


class Origin(NamedTuple):
    """What a connection leads to."""

    scheme: str
    host: str
    port: int


T = TypeVar("T")


class IdlePool(Generic[T]):
    """The idle connections of one transport.

    Args:
        expiry: seconds a connection may be idle.
        per_origin: how many idle connections one origin may keep.
    """

    def __init__(self, *, expiry: float, per_origin: int) -> None:
        self._expiry = expiry
        self._per_origin = per_origin
        self._row: dict[T, tuple[Origin, float]] = {}
        self._stacks: dict[Origin, deque[T]] = {}

    def __len__(self) -> int:
        """How many connections are idle."""
        return len(self._row)

    @property
    def origins(self) -> int:
        """How many origins have an idle connection."""
        return len(self._stacks)

    def put(self, origin: Origin, connection: T, now: float) -> T | None:
        """Keep a connection; returns the one that must be closed to make room, if any."""
        if self._per_origin < 1:
            return connection
        stack = self._stacks.setdefault(origin, deque())
        surplus = None
        if len(stack) >= self._per_origin:
            surplus = stack.popleft()
            del self._row[surplus]
        stack.append(connection)
        self._row[connection] = (origin, now + self._expiry)
        return surplus

    def take(self, origin: Origin) -> T | None:
        """The connection to this origin that was used last."""
        stack = self._stacks.get(origin)
        if stack is None:
            return None
        connection = stack.pop()
        self._remove(connection, origin)
        return connection

    def take_expired(self, now: float) -> list[T]:
        """Those that have been idle too long, of any origin."""
        expired = []
        while self._row:
            oldest = next(iter(self._row))
            _, deadline = self._row[oldest]
            if deadline > now:
                break
            expired.append(self.take_oldest())
        return expired

    def take_oldest(self) -> T:
        """The one that has been idle longest.

        Raises:
            LookupError: none is idle.
        """
        if not self._row:
            raise LookupError("no connection is idle")
        oldest = next(iter(self._row))
        origin, _ = self._row[oldest]
        # the oldest of all is also the oldest of its origin
        self._stacks[origin].popleft()
        self._remove(oldest, origin)
        return oldest

    def take_all(self) -> list[T]:
        """Every one."""
        everything = list(self._row)
        self._row.clear()
        self._stacks.clear()
        return everything

    def _remove(self, connection: T, origin: Origin) -> None:
        del self._row[connection]
        if not self._stacks[origin]:
            del self._stacks[origin]
