"""What the statistics file is asked of single requests and attempts: success, and counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    import sqlite3  # at work it comes with the connection: some Pythons are built without it

MOST: Final = 1000  # entries of a list; an answer is for a person or a page

T = TypeVar("T")


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
class Top(Generic[T]):
    """The first entries of a list.

    Attributes:
        entries: `MOST` of them at most.
        left_out: how many more there were.
    """

    entries: tuple[T, ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A span in five lists: the best rates, and the largest counts, come first."""

    channel_models: Top[Success]
    channels: Top[Success]
    models: Top[Count]
    endpoints: Top[Count]
    clients: Top[Count]


def summary(connection: sqlite3.Connection, span: Span) -> Summary:
    """What happened in a span, as far as single requests are kept.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    return Summary(
        channel_models=_successes(connection, span, ("provider", "model")),
        channels=_successes(connection, span, ("provider",)),
        models=_counts(connection, span, "model"),
        endpoints=_counts(connection, span, "endpoint"),
        clients=_counts(connection, span, "client"),
    )


def rankings(connection: sqlite3.Connection, span: Span, provider: str) -> Top[Success]:
    """How the keys of a provider did, by digest (empty for no key), the best first.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    return _successes(connection, span, ("key",), provider)


def labels(connection: sqlite3.Connection) -> Mapping[str, str]:
    """Digest to what a person calls that key.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    return dict(connection.execute("SELECT digest, label FROM labels"))


def top(rows: Iterable[tuple[Any, ...]], make: Callable[..., T]) -> Top[T]:
    """The entries of a query that was told to end after `MOST`.

    Args:
        rows: what `make` takes, and last `count(*) OVER ()`: of all there are, before the `LIMIT`.
        make: gives an entry.
    """
    there = 0
    entries = []
    for *row, there in rows:  # noqa: B007 - the same in every row, and wanted after the last
        entries.append(make(*row))
    return Top(tuple(entries), max(0, there - len(entries)))


def _successes(
    connection: sqlite3.Connection,
    span: Span,
    columns: tuple[str, ...],
    provider: str | None = None,
) -> Top[Success]:
    by = ", ".join(columns)
    rows = connection.execute(
        f"SELECT {by}, sum(outcome = 'ok'), count(*), "  # noqa: S608 - our own words
        "count(*) OVER () FROM attempts "
        "WHERE at >= :start AND at < :end AND outcome != 'cancelled' "
        "AND (:provider IS NULL OR provider = :provider) "
        f"GROUP BY {by} ORDER BY avg(outcome = 'ok') DESC, count(*) DESC, {by} LIMIT :most",
        {"start": span.start, "end": span.end, "provider": provider, "most": MOST},
    )
    return top(rows, lambda *row: Success(row[:-2], *row[-2:]))


def _counts(connection: sqlite3.Connection, span: Span, column: str) -> Top[Count]:
    rows = connection.execute(
        f"SELECT {column}, count(*), count(*) OVER () FROM requests "  # noqa: S608 - our own words
        "WHERE at >= ? AND at < ? "
        f"GROUP BY {column} ORDER BY count(*) DESC, {column} LIMIT ?",
        (span.start, span.end, MOST),
    )
    return top(rows, lambda name, requests: Count(name or None, requests))
