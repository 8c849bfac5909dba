"""What the statistics file is asked of single requests and attempts: success, and counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3  # at work it comes with the connection: some Pythons are built without it

MOST: Final = 1000  # entries of a list; an answer is for a person or a page


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` on, until before `end`: unix seconds."""

    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Success:
    """How often it went well.

    Attributes:
        names: of what: a provider, a provider and a model, or the digest of a key.
        succeeded: attempts that answered.
        total: attempts, without those nobody waited for: the client had left, a hedge was
            faster. They are nobody's failure.
    """

    names: tuple[str, ...]
    succeeded: int
    total: int

    @property
    def rate(self) -> float:
        """From 0 to 1."""
        return self.succeeded / self.total


@dataclass(frozen=True, slots=True)
class Count:
    """How many requests; None names those without a name."""

    name: str | None
    requests: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A span in five lists, each with the largest first and at most `MOST` long.

    Attributes:
        cut: at least one of them was longer.
    """

    channel_models: tuple[Success, ...]
    channels: tuple[Success, ...]
    models: tuple[Count, ...]
    endpoints: tuple[Count, ...]
    clients: tuple[Count, ...]
    cut: bool


def summary(connection: sqlite3.Connection, span: Span) -> Summary:
    """What happened in a span, as far as single requests are kept.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    rates = [
        _successes(connection, span, columns) for columns in (("provider", "model"), ("provider",))
    ]
    counts = [_counts(connection, span, column) for column in ("model", "endpoint", "client")]
    channel_models, channels = (found[:MOST] for found in rates)
    models, endpoints, clients = (found[:MOST] for found in counts)
    cut = any(len(found) > MOST for found in (*rates, *counts))
    return Summary(channel_models, channels, models, endpoints, clients, cut)


def rankings(connection: sqlite3.Connection, span: Span, provider: str) -> tuple[Success, ...]:
    """How the keys of a provider did, by digest (empty for no key), the best first.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    return _successes(connection, span, ("key",), provider)[:MOST]


def labels(connection: sqlite3.Connection) -> Mapping[str, str]:
    """Digest to what a person calls that key.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    return dict(connection.execute("SELECT digest, label FROM labels"))


def _successes(
    connection: sqlite3.Connection,
    span: Span,
    columns: tuple[str, ...],
    provider: str | None = None,
) -> tuple[Success, ...]:
    by = ", ".join(columns)
    rows = connection.execute(
        f"SELECT {by}, sum(outcome = 'ok'), count(*) FROM attempts "  # noqa: S608 - our own words
        "WHERE at >= :start AND at < :end AND outcome != 'cancelled' "
        "AND (:provider IS NULL OR provider = :provider) "
        f"GROUP BY {by} ORDER BY avg(outcome = 'ok') DESC, count(*) DESC, {by} LIMIT :most",
        {"start": span.start, "end": span.end, "provider": provider, "most": MOST + 1},
    )
    return tuple(Success(tuple(names), good, total) for *names, good, total in rows)


def _counts(connection: sqlite3.Connection, span: Span, column: str) -> tuple[Count, ...]:
    rows = connection.execute(
        f"SELECT {column}, count(*) FROM requests WHERE at >= ? AND at < ? "  # noqa: S608 - our own words
        f"GROUP BY {column} ORDER BY count(*) DESC, {column} LIMIT ?",
        (span.start, span.end, MOST + 1),
    )
    return tuple(Count(name or None, requests) for name, requests in rows)
