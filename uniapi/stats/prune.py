"""What keeps the statistics file small: old rows go, a few at a time, and the file shrinks.

A step takes some milliseconds, so whoever wants to write in between does not wait long; one that
removes a label has to read every attempt, which keeps nobody else from writing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from uniapi.stats.schema import DAY, THROUGH

MAX_REQUESTS: Final = 1_000_000  # rows; some 300 MB with their attempts
MAX_DAYS: Final = 100_000  # rows of `days`, 6 MB: 27 keys and models a day for ten years
# That stay however many rows they are: a year, and the month one compares it with.
DAYS: Final = 400
_ATTEMPTS: Final = 2  # rows for one of `requests`; most requests have one
_STEP: Final = 1000  # rows a table and step
_SPARE: Final = 1000  # free pages that stay, since new rows will need them; 4 MB
_PAGES: Final = 500  # given back to the file system in a step; 2 MB


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept.

    Attributes:
        seconds: how long a request and its attempts are.
        requests: how many there may be; twice as many attempts.
        days: rows of keys in these; the days before are added up, but not the last `DAYS`.
        named: digests of the configured keys, whose labels stay.
    """

    seconds: float
    requests: int = MAX_REQUESTS
    days: int = MAX_DAYS
    named: Collection[str] = ()


def prune(connection: sqlite3.Connection, keep: Keep, now: float) -> bool:
    """Do one step.

    Args:
        connection: the one that writes.
        keep: what stays.
        now: unix seconds.

    Returns:
        Whether there is more to do.

    Raises:
        sqlite3.Error: the step was not done.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        more = False
        for table, most in (("requests", keep.requests), ("attempts", keep.requests * _ATTEMPTS)):
            gone = _too_old(connection, table, now - keep.seconds)
            gone += _too_many(connection, table, most)
            more |= gone >= _STEP
        if not more:
            _fold(connection, keep.days, int(now // DAY) - DAYS)
            connection.execute("DELETE FROM taken WHERE last + window <= ?", (now,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    [free] = connection.execute("PRAGMA freelist_count").fetchone()
    if free > _SPARE:
        # Not by `execute`, which ends a statement without columns after its first page.
        connection.executescript(f"PRAGMA incremental_vacuum({min(free - _SPARE, _PAGES)})")
    return more or free - _PAGES > _SPARE or _unlabel(connection, keep.named)


def _too_old(connection: sqlite3.Connection, table: str, oldest: float) -> int:
    return connection.execute(
        f"DELETE FROM {table} WHERE id IN "  # noqa: S608 - one of our two tables
        f"(SELECT id FROM {table} WHERE at < ? ORDER BY at LIMIT {_STEP})",
        (oldest,),
    ).rowcount


def _too_many(connection: sqlite3.Connection, table: str, most: int) -> int:
    # Ids are given in order and the oldest go first, so they tell the number without counting.
    # Asked for both at once SQLite would read the whole table.
    [first] = connection.execute(f"SELECT min(id) FROM {table}").fetchone()  # noqa: S608 - as above
    [last] = connection.execute(f"SELECT max(id) FROM {table}").fetchone()  # noqa: S608 - as above
    if first is None or last - first < most:
        return 0
    over = min(last - first + 1 - most, _STEP)
    query = f"DELETE FROM {table} WHERE id < ?"  # noqa: S608 - as above
    connection.execute(query, (first + over,))
    return int(over)


def _fold(connection: sqlite3.Connection, most: int, latest: int) -> None:
    """Add the oldest days to day 0, when there are too many: what was spent is never forgotten.

    Args:
        connection: within a transaction.
        most: rows of keys that stay.
        latest: days from here on stay in any case.
    """
    found = connection.execute(
        "SELECT day FROM days WHERE key != '' ORDER BY day DESC LIMIT 1 OFFSET ?", (most,)
    ).fetchone()
    if found is None:
        return
    first = min(found[0] + 1, latest)
    [older] = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM days WHERE day > 0 AND day < ?)", (first,)
    ).fetchone()
    if not older:
        return
    connection.execute(
        "INSERT INTO days SELECT 0, key, model, sum(requests), sum(prompt), sum(completion), "
        "sum(total), sum(cost) FROM days WHERE day > 0 AND day < ? GROUP BY key, model "
        "ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, "
        "prompt = prompt + excluded.prompt, completion = completion + excluded.completion, "
        "total = total + excluded.total, cost = cost + excluded.cost",
        (first,),
    )
    connection.execute("DELETE FROM days WHERE day > 0 AND day < ?", (first,))
    # Nobody may have asked for anything on the first day that is kept; `usage` must know it.
    connection.execute("INSERT OR IGNORE INTO days VALUES (?, '', '', 0, 0, 0, 0, 0)", (first,))


# What is looked for is with the oldest rows, where these begin: it takes long only when there is
# none, and then the label goes. Requests need not be asked, since `days` has the keys of all.
_REFERRED: Final = """
    SELECT EXISTS (SELECT 1 FROM taken WHERE :digest IN (owner, key))
        OR EXISTS (SELECT 1 FROM days WHERE key IN (:digest, :through))
        OR EXISTS (SELECT 1 FROM attempts WHERE key = :digest)
"""


def _unlabel(connection: sqlite3.Connection, named: Collection[str]) -> bool:
    """Remove a label that nobody refers to any more; whether there was one."""
    # In one row, since a row is a step of a statement, and that is dear.
    [digests] = connection.execute("SELECT group_concat(digest, ' ') FROM labels").fetchone()
    for digest in sorted(set((digests or "").split()).difference(named)):
        given = {"digest": digest, "through": THROUGH + digest}
        [referred] = connection.execute(_REFERRED, given).fetchone()
        if not referred:
            connection.execute("DELETE FROM labels WHERE digest = ?", (digest,))
            return True
    return False
