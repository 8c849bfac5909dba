"""What client keys have used: tokens and dollars over any span of time.

`days` has every request for longer than `requests` has. What was used before a moment is the days
until and with its own, less the requests of that day from the moment on; and a span is the
difference of two such. So every request is counted once, the spans of any split add up to the
whole, and only where the requests after a moment are no longer kept, it moves to where its day
begins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING, Final

from uniapi.stats.queries import MOST, Span, Top, top
from uniapi.stats.schema import DAY, THROUGH

if TYPE_CHECKING:
    import sqlite3  # at work it comes with the connection: some Pythons are built without it

_SUMS: Final = "sum(requests), sum(prompt), sum(completion), sum(total), sum(cost)"
_PIECES: Final = """
    SELECT key, model, requests, prompt, completion, total, cost FROM days
        WHERE day >= :first AND day < :last
    UNION ALL
    SELECT key, model, 1, prompt, completion, total, cost FROM requests
        WHERE at >= :start AND at < :first * 86400
    UNION ALL
    SELECT key, model, -1, -prompt, -completion, -total, -cost FROM requests
        WHERE at >= :end AND at < :last * 86400
"""
_VIA: Final = """
    SELECT via, cost, 1 FROM requests WHERE via != '' AND at >= :start AND at < :first * 86400
    UNION ALL
    SELECT via, cost, -1 FROM requests WHERE via != '' AND at >= :end AND at < :last * 86400
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


def usage(connection: sqlite3.Connection, span: Span, key: str = "", model: str = "") -> Top[Used]:
    """What keys used of models, most tokens first.

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
        f"SELECT key, model, {_SUMS}, count(*) OVER () FROM ({_PIECES}) "  # noqa: S608 - our own words
        "WHERE key != '' AND model != '' "
        "AND (:key = '' OR key = :key) AND (:model = '' OR model = :model) "
        "GROUP BY key, model HAVING sum(requests) > 0 "
        "ORDER BY sum(total) DESC, sum(requests) DESC, key, model LIMIT :most",
        {**_pieces(connection, span), "key": key, "model": model, "most": MOST},
    )
    return top(rows, Used)


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
    for via, dollars, sign in connection.execute(_VIA, pieces):
        for key, mark, part in (one.partition("=") for one in via.split(",")):
            found[key] += sign * (float(part) if mark else dollars)
    return found


def spent(connection: sqlite3.Connection, since: float, until: float) -> Mapping[str, float]:
    """As `costs`; all of it, where it begins before the days that are kept as such.

    What was spent before `since` is then counted too, for keys that are older than that.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    [earlier] = connection.execute("SELECT EXISTS (SELECT 1 FROM days WHERE day = 0)").fetchone()
    if earlier:
        [first] = connection.execute("SELECT min(day) FROM days WHERE day > 0").fetchone()
        since = 0.0 if since < first * DAY else since
    return costs(connection, Span(since, until))


def _pieces(connection: sqlite3.Connection, span: Span) -> Mapping[str, float]:
    """Both bounds, and for each the first day that begins at it or after it."""
    start = _bound(connection, span.start)
    end = max(start, _bound(connection, span.end))
    return {"start": start, "first": ceil(start / DAY), "end": end, "last": ceil(end / DAY)}


def _bound(connection: sqlite3.Connection, at: float) -> float:
    """Where a day can be cut: `at` itself, if the requests after it are kept."""
    begins = floor(at / DAY) * DAY
    (oldest,) = connection.execute("SELECT min(at) FROM requests").fetchone()
    if at == begins or (oldest is not None and oldest <= at):
        return at
    (kept,) = connection.execute(
        "SELECT count(*) FROM requests WHERE at >= ? AND at < ?", (begins, begins + DAY)
    ).fetchone()
    (counted,) = connection.execute(
        "SELECT ifnull(sum(requests), 0) FROM days WHERE day = ?", (begins // DAY,)
    ).fetchone()
    return at if kept == counted else float(begins)
