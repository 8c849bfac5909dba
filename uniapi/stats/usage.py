"""What client keys have used: tokens and dollars over any span of time.

A span is cut where days begin. Whole days come from `days`, which outlives the single requests;
what is left at both ends comes from `requests`. Where the requests of a day are not all kept any
more, the day cannot be cut: a bound inside it moves to its beginning. So every request is counted
once, and the spans of any split add up to the whole.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor
from typing import Final

from uniapi.stats.queries import MOST, Span
from uniapi.stats.schema import THROUGH

DAY: Final = 86_400  # seconds
_SUMS: Final = "sum(requests), sum(prompt), sum(completion), sum(total), sum(cost)"
_PIECES: Final = """
    SELECT key, model, requests, prompt, completion, total, cost FROM days
        WHERE day >= :first AND day < :last
    UNION ALL
    SELECT key, model, 1, prompt, completion, total, cost FROM requests
        WHERE at >= :a AND at < :b
    UNION ALL
    SELECT key, model, 1, prompt, completion, total, cost FROM requests
        WHERE at >= :c AND at < :d
"""
_VIA: Final = """
    SELECT via, sum(cost) FROM requests
        WHERE via != '' AND (at >= :a AND at < :b OR at >= :c AND at < :d) GROUP BY via
"""


@dataclass(frozen=True, slots=True)
class Used:
    """What a client key used of a model: requests, tokens and US dollars."""

    key: str
    model: str
    requests: int
    prompt: int
    completion: int
    total: int
    cost: float


def usage(
    connection: sqlite3.Connection, span: Span, key: str = "", model: str = ""
) -> tuple[Used, ...]:
    """What keys used of models, most tokens first, at most `MOST` entries.

    Requests of nobody we know and requests about no model are not among it.

    Args:
        connection: to the file.
        span: any; older days than those kept as such are only in one that begins at 0.
        key: only this one, by digest; empty for all.
        model: only this one, as clients name it; empty for all.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    rows = connection.execute(
        f"SELECT key, model, {_SUMS} FROM ({_PIECES}) "  # noqa: S608 - our own words
        "WHERE key != '' AND model != '' "
        "AND (:key = '' OR key = :key) AND (:model = '' OR model = :model) "
        "GROUP BY key, model ORDER BY sum(total) DESC, sum(requests) DESC, key, model LIMIT :most",
        {**_pieces(connection, span), "key": key, "model": model, "most": MOST},
    )
    return tuple(Used(*row) for row in rows)


def costs(connection: sqlite3.Connection, span: Span) -> Mapping[str, float]:
    """US dollars by client key: its own requests, and what other keys sent through it.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    found: defaultdict[str, float] = defaultdict(float)
    pieces = _pieces(connection, span)
    for key, dollars in connection.execute(
        f"SELECT key, sum(cost) FROM ({_PIECES}) GROUP BY key",  # noqa: S608 - our own words
        pieces,
    ):
        found[key.removeprefix(THROUGH)] += dollars
    for via, dollars in connection.execute(_VIA, pieces):
        for key in via.split(","):
            found[key] += dollars
    return found


def _pieces(connection: sqlite3.Connection, span: Span) -> Mapping[str, float]:
    """The whole days of a span, and the two pieces of days at its ends; either may be empty."""
    start, end = _bound(connection, span.start), _bound(connection, span.end)
    first, last = ceil(start / DAY), floor(end / DAY)
    if first > last:  # both within one day
        return {"first": 0, "last": 0, "a": start, "b": end, "c": 0, "d": 0}
    return {
        "first": first,
        "last": last,
        "a": start,
        "b": first * DAY,
        "c": last * DAY,
        "d": end,
    }


def _bound(connection: sqlite3.Connection, at: float) -> float:
    """Where a day can be cut: `at` itself, if all requests of its day are kept."""
    day = floor(at / DAY)
    if at == day * DAY:
        return at
    (kept,) = connection.execute(
        "SELECT count(*) FROM requests WHERE at >= ? AND at < ?", (day * DAY, (day + 1) * DAY)
    ).fetchone()
    (counted,) = connection.execute(
        "SELECT ifnull(sum(requests), 0) FROM days WHERE day = ?", (day,)
    ).fetchone()
    return at if kept == counted else float(day * DAY)
