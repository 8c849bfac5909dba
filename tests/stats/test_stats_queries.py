"""What the statistics file answers is what a naive count of the same requests says."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.records import ATTEMPT, DAY, RECORD, TODAY, kept, moments, reading, records
from uniapi.stats.prune import DAYS, Keep, prune
from uniapi.stats.queries import MOST, Span, Success, Top, labels, rankings, summary
from uniapi.stats.reader import Reader, Unreadable
from uniapi.stats.record import Attempted, Record
from uniapi.stats.usage import Used, costs, spent, usage

several = st.lists(records, max_size=25)
ALL = Span(0, TODAY + 1000 * DAY)
Sums = dict[tuple[str, str], tuple[int, int, int, int, float]]


def within(told: Sequence[Record], span: Span) -> list[Record]:
    return [record for record in told if span.start <= record.at < span.end]


def tried(told: Sequence[Record]) -> Iterator[tuple[Record, Attempted]]:
    for record in told:
        yield from ((record, a) for a in record.attempts if a.outcome != "cancelled")


def sums(used: Top[Used]) -> Sums:
    return {
        (u.key, u.model): (u.requests, u.prompt, u.completion, u.total, u.cost)
        for u in used.entries
        if u.requests
    }


def added(*parts: Sums) -> Sums:
    names = {name for part in parts for name in part}
    zero = (0, 0, 0, 0, 0.0)
    whole = {}
    for name in names:
        columns = zip(*(part.get(name, zero) for part in parts), strict=True)
        requests, prompt, completion, total, cost = (sum(column) for column in columns)
        whole[name] = (int(requests), int(prompt), int(completion), int(total), cost)
    return whole


def counted(told: Sequence[Record]) -> Sums:
    """Naively."""
    ones: list[Sums] = [
        {(r.key, r.model): (1, r.prompt, r.completion, r.total, r.cost)}
        for r in told
        if r.key and r.model
    ]
    return added(*ones)


def paid(told: Sequence[Record]) -> dict[str, float]:
    """Naively, with what came through a key."""
    found: Counter[str] = Counter()
    for record in told:
        found[record.key] += record.cost  # type: ignore[assignment] # a counter of dollars
        for key in record.via:
            found[key] += record.paid_through(key)  # type: ignore[assignment] # as above
    return {key: cost for key, cost in found.items() if cost}


@settings(max_examples=40)
@given(several, moments, moments)
def test_a_summary_says_what_a_naive_count_says(
    told: list[Record], one: float, other: float
) -> None:
    span = Span(*sorted((one, other)))
    with kept(told) as file, closing(reading(file)) as connection:
        found = summary(connection, span)
        keys = rankings(connection, span, "a")
    told = within(told, span)
    for successes, naive in (
        (found.channels, [((a.provider,), a.outcome) for _, a in tried(told)]),
        (found.channel_models, [((a.provider, r.model), a.outcome) for r, a in tried(told)]),
        (keys, [((a.key,), a.outcome) for _, a in tried(told) if a.provider == "a"]),
    ):
        total = Counter(names for names, _ in naive)
        well = Counter(names for names, outcome in naive if outcome == "ok")
        told_of = successes.entries
        assert {s.names: s.total for s in told_of} == total
        assert {s.names: s.succeeded for s in told_of if s.succeeded} == well
        assert list(told_of) == sorted(told_of, key=lambda s: (-s.rate, -s.total, s.names))
        assert not successes.left_out
    for counts, names in (
        (found.models, [r.model for r in told]),
        (found.endpoints, [r.endpoint for r in told]),
        (found.clients, [r.client for r in told]),
    ):
        assert {c.name or "": c.requests for c in counts.entries} == Counter(names)
        numbers = [c.requests for c in counts.entries]
        assert numbers == sorted(numbers, reverse=True)
        assert not counts.left_out


def test_what_nobody_waited_for_is_no_attempt_in_a_rate() -> None:
    left = replace(RECORD, attempts=(replace(ATTEMPT, outcome="cancelled"),))
    lost = replace(RECORD, attempts=(replace(ATTEMPT, outcome="server_error"), ATTEMPT, ATTEMPT))
    with kept([left, lost]) as file, closing(reading(file)) as connection:
        [found] = summary(connection, ALL).channels.entries
        assert found == Success(("a",), 2, 3)
        assert found.rate == pytest.approx(2 / 3)
    with kept([left]) as file, closing(reading(file)) as connection:
        assert summary(connection, ALL).channels == Top((), 0)


@pytest.mark.parametrize("more", [0, 1, 30])
def test_a_list_is_as_long_as_a_person_reads_and_says_how_much_longer_it_was(more: int) -> None:
    names = [f"{number:04}" for number in range(MOST + more)]
    told = [
        replace(RECORD, client=name, key=name, attempts=(replace(ATTEMPT, key=name),))
        for name in names
    ]
    with kept([*told, told[5]]) as file, closing(reading(file)) as connection:
        found = summary(connection, ALL)
        keys = rankings(connection, ALL, "a")
        used = usage(connection, ALL)
    for top in (found.clients, keys, used):
        assert (len(top.entries), top.left_out) == (MOST, more)
    assert found.clients.entries[0].requests == 2
    assert keys.entries[0] == Success((names[5],), 2, 2)
    assert (used.entries[0].key, used.entries[0].requests) == (names[5], 2)
    assert found.channels.left_out == 0


def test_labels_are_what_the_writer_was_told() -> None:
    with kept([RECORD], {"ada": "Ada"}) as file, closing(reading(file)) as connection:
        assert labels(connection) == {"ada": "Ada"}


@settings(max_examples=40)
@given(several, moments, moments, st.sampled_from(["", "ada"]), st.sampled_from(["", "m"]))
def test_usage_says_what_a_naive_count_says(
    told: list[Record], one: float, other: float, key: str, model: str
) -> None:
    span = Span(*sorted((one, other)))
    with kept(told) as file, closing(reading(file)) as connection:
        found = usage(connection, span, key, model)
        dollars = costs(connection, span)
    naive = counted(within(told, span))
    wanted = {at: n for at, n in naive.items() if key in ("", at[0]) and model in ("", at[1])}
    assert sums(found) == wanted
    assert (totals := [u.total for u in found.entries]) == sorted(totals, reverse=True)
    assert {k: c for k, c in dollars.items() if c} == paid(within(told, span))


@settings(max_examples=40)
@given(several, st.lists(moments, min_size=3, max_size=5).map(sorted), moments)
def test_a_split_adds_up_to_the_whole_whatever_has_been_pruned(
    told: list[Record], bounds: list[float], oldest: float
) -> None:
    with kept(told) as file:
        prune(file.connection, Keep(seconds=TODAY + 3 * DAY - oldest), TODAY + 3 * DAY)
        with closing(reading(file)) as connection:
            spans = [Span(a, b) for a, b in pairwise(bounds)]
            whole = Span(bounds[0], bounds[-1])
            parts = [sums(usage(connection, span)) for span in spans]
            assert added(*parts) == sums(usage(connection, whole))
            dollars: Counter[str] = Counter()
            for span in spans:
                dollars.update(costs(connection, span))
            assert {k: c for k, c in dollars.items() if c} == {
                k: c for k, c in costs(connection, whole).items() if c
            }
            # Where what came after the bounds is kept, they cut to the second.
            if any(oldest <= record.at <= bounds[0] for record in told):
                assert sums(usage(connection, whole)) == counted(within(told, whole))
            # And over whole days pruning is not seen at all.
            days = Span(TODAY, TODAY + 3 * DAY)
            assert sums(usage(connection, days)) == counted(within(told, days))
            assert {k: c for k, c in costs(connection, days).items() if c} == paid(
                within(told, days)
            )


def test_a_bound_among_requests_that_are_gone_moves_to_the_beginning_of_its_day() -> None:
    told = [replace(RECORD, at=TODAY + hour * 3600.0) for hour in (1, 13, 23, 25)]
    with kept(told) as file:
        prune(file.connection, Keep(seconds=DAY), TODAY + DAY + 12 * 3600)  # the first is gone
        with closing(reading(file)) as connection:
            noon, evening, next_noon = (TODAY + n * 3600.0 for n in (12, 20, 36))

            def requests(start: float, end: float) -> int:
                return sum(used.requests for used in usage(connection, Span(start, end)).entries)

            assert requests(noon, next_noon) == 4  # all of the day
            assert requests(noon, evening) == 2  # from midnight on
            assert requests(evening, next_noon) == 2  # what is kept is cut to the second
            assert requests(TODAY, noon) == 0
            assert requests(TODAY, TODAY + DAY) == 3


def test_what_no_longer_has_a_day_is_known_in_all_but_not_by_day() -> None:
    old = replace(RECORD, at=TODAY - 500.0 * DAY, via=("cyd",))
    with kept([old, RECORD]) as file:
        prune(file.connection, Keep(seconds=DAY, days=1), float(TODAY + 1))
        with closing(reading(file)) as connection:
            assert costs(connection, Span(0, TODAY + DAY)) == {"": 0, "ada": 0.5, "cyd": 0.25}
            assert costs(connection, Span(TODAY - 600 * DAY, TODAY + DAY)) == {
                "": 0, "ada": 0.25,
            }  # fmt: skip


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 1000), max_size=30),
    st.integers(-10, 1010),
    st.integers(0, 30),
)
def test_what_was_spent_since_a_day_is_right_as_long_as_that_day_is_kept_and_never_too_little(
    days: list[int], begun: int, most: int
) -> None:
    told = [
        replace(RECORD, at=float(TODAY + day * DAY + 5), cost=2.0**n, via=("cyd",))
        for n, day in enumerate(days)
    ]
    since, until = float(TODAY + begun * DAY), float(TODAY + 1001 * DAY)
    with kept(told) as file:
        prune(file.connection, Keep(seconds=DAY, days=most), until)
        with closing(reading(file)) as connection:
            found = spent(connection, since, until)
            folded = connection.execute("SELECT 1 FROM days WHERE day = 0").fetchone()
            query = "SELECT min(day) FROM days WHERE day > 0"
            [first] = connection.execute(query).fetchone()
    known = not folded or since >= first * DAY
    naive = sum(record.cost for record in told if record.at >= since or not known)
    assert (found.get("ada", 0), found.get("cyd", 0)) == (naive, naive)
    if begun >= 1001 - DAYS or len(set(days)) * 2 <= most:
        assert known


def endless(connection: sqlite3.Connection) -> object:
    query = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    return connection.execute(query).fetchone()


async def test_a_query_that_takes_too_long_is_ended() -> None:
    with kept([]) as file, closing(reading(file)) as connection:
        (_, _, path) = connection.execute("PRAGMA database_list").fetchone()
        with pytest.raises(Unreadable, match=r"took more than 0\.05 s"):
            await Reader(Path(path), seconds=0.05).read(endless)


async def test_who_is_cancelled_does_not_wait_and_the_thread_ends() -> None:
    began, ended = threading.Event(), threading.Event()

    def query(connection: sqlite3.Connection) -> object:
        began.set()
        try:
            return endless(connection)
        finally:
            ended.set()

    with kept([]) as file, closing(reading(file)) as connection:
        (_, _, path) = connection.execute("PRAGMA database_list").fetchone()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Reader(Path(path)).read, query)
            await trio.to_thread.run_sync(began.wait)
            nursery.cancel_scope.cancel()
        assert await trio.to_thread.run_sync(ended.wait, 5)


async def test_a_file_that_is_not_there_or_not_ours_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="unable to open"):
        await Reader(tmp_path / "none.db").read(labels)
    (tmp_path / "text.db").write_text("not a database at all, whatever its name says")
    with pytest.raises(Unreadable, match="not a database"):
        await Reader(tmp_path / "text.db").read(labels)


async def test_a_reader_changes_nothing() -> None:
    with kept([RECORD]) as file, closing(reading(file)) as connection:
        (_, _, path) = connection.execute("PRAGMA database_list").fetchone()
        with pytest.raises(Unreadable, match="readonly"):
            await Reader(Path(path)).read(lambda c: c.execute("DELETE FROM days"))
