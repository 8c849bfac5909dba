"""Reading the statistics file beside its writer: in a worker thread, for a bounded time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import trio

if TYPE_CHECKING:
    import sqlite3  # at work it comes with the connection: some Pythons are built without it

T = TypeVar("T")

Query: TypeAlias = "Callable[[sqlite3.Connection], T]"
"""What is done with a connection; it blocks."""

# Of SQLite's virtual machine between two looks at the clock: 5 ms. A look needs the interpreter's
# lock, for which it waits as long beside a busy event loop.
_STEPS: Final = 100_000
_AT_ONCE: Final = 2  # readers; any key may ask for its own usage, and threads are for serving


class Unreadable(Exception):  # noqa: N818 - a fact, not an error of anybody
    """The statistics cannot be read now; the text says why, for a person."""


@dataclass(slots=True)
class Reader:
    """Asks the statistics file.

    Attributes:
        path: of the file.
        seconds: a query may take, by the clock of its own thread.
        damaged: is told, without waiting, that the file proved to be damaged: whoever writes it
            can begin another.
    """

    path: Path
    seconds: float = 30.0  # a month of a million requests is summed up in 5 to 7
    damaged: Callable[[], None] = lambda: None
    _room: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(_AT_ONCE))

    async def read(self, query: Query[T]) -> T:
        """What `query` finds, all of it in one moment of the file.

        Whoever is cancelled does not wait for the thread, and the thread stops soon after.

        Raises:
            Unreadable: there is no such file, it is broken, or the query took too long.
        """
        import sqlite3  # noqa: PLC0415 - as above

        from uniapi.stats import damage, store  # noqa: PLC0415 - as above

        given_up = threading.Event()
        late = False

        def work() -> T:
            until = monotonic() + self.seconds

            def stop() -> bool:
                nonlocal late
                late = monotonic() > until
                return late or given_up.is_set()

            with closing(store.reader(self.path)) as connection:
                connection.set_progress_handler(stop, _STEPS)
                connection.execute("BEGIN")
                return query(connection)

        try:
            return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._room)
        except sqlite3.Error as error:
            if damage.is_broken(error):
                self.damaged()
            why = f"the query took more than {self.seconds:g} s" if late else str(error)
            raise Unreadable(why) from error
        finally:
            given_up.set()
