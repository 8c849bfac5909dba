"""The statistics file: opened, written to and pruned, by one thread at a time; all of it blocks.

Many rows go into one statement. Every step of a statement gives up the interpreter's lock and has
to win it back; beside a busy event loop that takes 5 ms, so a row a step is a hundred times slower.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from math import inf
from pathlib import Path
from time import monotonic
from typing import Final, TypeAlias
from urllib.parse import quote

from uniapi.stats import schema
from uniapi.stats.damage import is_broken, look_at_the_beginning, look_through
from uniapi.stats.record import Record
from uniapi.stats.schema import DAY, THROUGH

STEPS: Final = 256  # parts of a window that `taken` is kept in
_BUSY: Final = 2.0  # seconds to wait for another process that writes
_LOOK: Final = 100_000_000  # bytes of a file that is looked through after a crash, in 0.2 s
_WAL: Final = 8_000_000  # bytes the -wal file is cut back to
_ROWS: Final = (50, 7, 1)  # in one statement; 50 of 19 columns stay below 999 parameters
_MOST: Final = 2**53  # the largest count kept; what is more is a provider's joke

Value: TypeAlias = str | int | float | None
Row: TypeAlias = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """Where something taken is added up: one bucket, one window, one part of that window.

    Attributes:
        scope, owner, key, model: as `state.Bucket`.
        unit: requests or tokens.
        window: seconds.
        step: which `STEPS`th of the window, since 1970.
    """

    scope: str
    owner: str
    key: str
    model: str
    unit: str
    window: float
    step: int


@dataclass(slots=True)
class Taken:
    """What was taken in one step.

    Attributes:
        last: unix seconds of the latest.
        amount: all of it together.
    """

    last: float
    amount: int


class Store:
    """One open statistics file."""

    def __init__(self, path: Path) -> None:
        """Open it, made and brought to this version where that is needed.

        Raises:
            schema.Newer, schema.Foreign: it was left as it is.
            OSError, sqlite3.Error: it cannot be made, read or written.
        """
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        crashed = _crashed(path.with_name(f"{path.name}-wal"))
        if not path.exists():
            # Ours alone from its birth; SQLite gives the -wal and -shm beside it the same mode. One
            # that is there is not opened: to close it would give up the locks of our readers.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        found = path.stat()
        self._inode = _inode(found)
        self.connection = sqlite3.connect(
            path, timeout=_BUSY, isolation_level=None, check_same_thread=False
        )
        try:
            schema.migrate(self.connection)
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = NORMAL")
            self.connection.execute(f"PRAGMA journal_size_limit = {_WAL}")
            if crashed and found.st_size <= _LOOK:
                look_through(self.connection)
        except BaseException:
            self.connection.close()
            raise

    @property
    def lost(self) -> bool:
        """Whether somebody has removed or replaced the file under us."""
        try:
            return _inode(self._path.stat()) != self._inode
        except OSError:
            return True

    def glance(self) -> None:
        """See whether others still find our file where we do: we have its beginning in memory.

        Not by looking at its bytes: closing any other handle of it gives up SQLite's locks.

        Raises:
            sqlite3.DatabaseError: they do not, and `is_broken` says so of it.
        """
        self._by_another(look_at_the_beginning)

    def look_through(self) -> None:
        """See whether others can read all of it, for a second or more where it is large.

        Raises:
            sqlite3.DatabaseError: as `glance`.
        """
        self._by_another(look_through)

    def _by_another(self, look: Callable[[sqlite3.Connection], None]) -> None:
        try:
            with closing(reader(self._path)) as other:
                look(other)
        except sqlite3.Error as error:
            if is_broken(error):
                raise
            # It is locked or out of reach, for now and for others: what is ours goes on.

    def close(self) -> None:
        """Hang up; the -wal file goes with the last of its users."""
        self.connection.close()

    def write(
        self,
        records: Sequence[Record],
        taken: Mapping[Step, Taken],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Write all of it, or nothing.

        Args:
            records: requests that are over.
            taken: what long windows have counted since the last time.
            labels: digest to label of every key of the configuration, empty for none; None when
                they are as they were.

        Raises:
            sqlite3.Error: nothing was written.
        """
        try:
            self._write(records, taken, labels, lambda row: row)
        except (UnicodeEncodeError, OverflowError, sqlite3.IntegrityError):
            # A stranger's name for a model, or his count, or a time that is no number.
            self._write(records, taken, labels, _storable)

    def _write(
        self,
        records: Sequence[Record],
        taken: Mapping[Step, Taken],
        labels: Mapping[str, str] | None,
        mend: Callable[[Row], Row],
    ) -> None:
        requests, attempts = map(_request, records), chain.from_iterable(map(_attempts, records))

        def everything() -> None:
            self._insert(_REQUESTS, _REQUEST_COLUMNS, [mend(row) for row in requests])
            self._insert(_ATTEMPTS, _ATTEMPT_COLUMNS, [mend(row) for row in attempts])
            self._many(_ADD_DAYS, map(mend, _days(records)))
            self._many(_ADD_TAKEN, map(mend, map(_taken, taken.items())))
            for digest, label in (labels or {}).items():
                one = mend((digest, label))
                self.connection.execute(*((_LABEL, one) if label else (_UNLABEL, one[:1])))

        self._whole(everything)

    def _whole(self, work: Callable[[], None]) -> None:
        """Do it in one transaction."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            work()
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise

    def _insert(self, into: str, columns: int, rows: Sequence[Row]) -> None:
        one, begun = f"({','.join('?' * columns)})", 0
        for size in _ROWS:
            statement = into + ",".join([one] * size)
            while len(rows) - begun >= size:
                some = rows[begun : begun + size]
                self.connection.execute(statement, tuple(chain.from_iterable(some)))
                begun += size

    def _many(self, statement: str, rows: Iterable[Row]) -> None:
        self.connection.executemany(statement, rows)

    def taken(self, seconds: float) -> tuple[list[tuple[Step, Taken]], bool]:
        """What is remembered of long windows, each in the order of time.

        Args:
            seconds: stop reading after so long.

        Returns:
            What was read, and whether that was all.
        """
        stop = monotonic() + seconds
        found: list[tuple[Step, Taken]] = []
        for *step, last, amount in self.connection.execute(_EVERY_TAKEN):
            found.append((Step(*step), Taken(last, int(amount))))
            if not len(found) % 1000 and monotonic() > stop:
                return found, False
        return found, True

    def waits(self, since: float, most: int) -> list[tuple[str, str, bool, float]]:
        """Provider, its model, whether streamed, and seconds to the first token: the latest.

        An attempt that was given up has waited as long as it lasted.
        """
        rows = self.connection.execute(_WAITS, (since, most)).fetchall()
        return [(provider, model, bool(stream), wait) for provider, model, stream, wait in rows]


def reader(path: str | Path) -> sqlite3.Connection:
    """A connection that only reads, for any thread, one at a time; close it after use.

    Raises:
        sqlite3.Error: there is no such database, or it cannot be read.
    """
    place = f"file:{quote(str(Path(path).absolute()))}?mode=ro"
    return sqlite3.connect(
        place, uri=True, timeout=_BUSY, isolation_level=None, check_same_thread=False
    )


_REQUESTS: Final = (
    "INSERT INTO requests (at, request, endpoint, client, key, model, stream, status, outcome, "
    "limited, provider, upstream, seconds, first, prompt, completion, total, cost, via) VALUES "
)
_REQUEST_COLUMNS: Final = 19
_ATTEMPTS: Final = (
    "INSERT INTO attempts (at, provider, upstream, model, key, stream, outcome, why, seconds, "
    "first, tokens) VALUES "
)
_ATTEMPT_COLUMNS: Final = 11
_ADD_DAYS: Final = (
    "INSERT INTO days VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "requests = requests + excluded.requests, prompt = prompt + excluded.prompt, "
    "completion = completion + excluded.completion, total = total + excluded.total, "
    "cost = cost + excluded.cost"
)
_ADD_TAKEN: Final = (
    "INSERT INTO taken VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "last = max(last, excluded.last), amount = amount + excluded.amount"
)
_EVERY_TAKEN: Final = (
    "SELECT scope, owner, key, model, unit, window, step, last, amount FROM taken "
    "ORDER BY scope, owner, key, model, unit, window, step"
)
_LABEL: Final = "INSERT OR REPLACE INTO labels VALUES (?, ?)"
_UNLABEL: Final = "DELETE FROM labels WHERE digest = ?"
_WAITS: Final = (
    "SELECT provider, upstream, stream, wait FROM (SELECT id, provider, upstream, stream, "
    "CASE outcome WHEN 'first_token_timeout' THEN seconds ELSE first END AS wait FROM attempts "
    "WHERE at > ? ORDER BY at DESC LIMIT ?) WHERE wait IS NOT NULL ORDER BY id"
)


def _request(r: Record) -> Row:
    return (
        r.at, r.id, r.endpoint, r.client, r.key, r.model, r.stream, r.status, r.outcome, r.limit,
        r.provider, r.upstream, r.seconds, r.first, r.prompt, r.completion, r.total, r.cost,
        ",".join(f"{one}={r.parts[one]!r}" if one in r.parts else one for one in r.via),
    )  # fmt: skip


def _attempts(r: Record) -> list[Row]:
    return [
        (
            r.at, a.provider, a.upstream, r.model, a.key, r.stream, a.outcome, a.why, a.seconds,
            a.first, a.tokens,
        )
        for a in r.attempts
    ]  # fmt: skip


def _days(records: Sequence[Record]) -> list[Row]:
    """The sums of a batch, by day, key and model; and the costs of nested keys."""
    sums: dict[tuple[int, str, str], tuple[int, int, int, int, float]] = {}
    for r in records:
        day = int(r.at // DAY)
        at = day, r.key, r.model
        n, prompt, completion, total, cost = sums.get(at, (0, 0, 0, 0, 0.0))
        sums[at] = (
            n + 1, prompt + r.prompt, completion + r.completion, total + r.total, cost + r.cost,
        )  # fmt: skip
        for nested in r.via:
            at = day, THROUGH + nested, ""
            sums[at] = 0, 0, 0, 0, sums.get(at, (0, 0, 0, 0, 0.0))[-1] + r.paid_through(nested)
    return [(*at, *amounts) for at, amounts in sums.items()]


def _taken(entry: tuple[Step, Taken]) -> Row:
    s, taken = entry
    return (s.scope, s.owner, s.key, s.model, s.unit, s.window, s.step, taken.last, taken.amount)


def _storable(row: Row) -> Row:
    return tuple(map(_mended, row))


def _mended(value: Value) -> Value:
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case int():
            return max(-_MOST, min(value, _MOST))
        case float() if not -inf < value < inf:  # not a number, or more than any
            return 0.0
        case _:
            return value


def _crashed(wal: Path) -> bool:
    """Whether the last to write did not hang up in good order."""
    try:
        return wal.stat().st_size > 0
    except FileNotFoundError:
        return False


def _inode(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
