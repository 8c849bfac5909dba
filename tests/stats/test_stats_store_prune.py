"""The statistics file stays small: what is old goes in small steps, sums stay, the file shrinks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.records import ATTEMPT, DAY, RECORD, TODAY
from uniapi.stats.prune import DAYS, Keep, prune
from uniapi.stats.record import Record
from uniapi.stats.store import Step, Store, Taken

MONTH = 30 * DAY


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "stats.db")) as found:
        yield found


def at(moment: float, **changes: object) -> Record:
    return replace(RECORD, at=float(moment), **changes)  # type: ignore[arg-type] # fields of a record


def asked(store: Store, query: str) -> list[tuple[object, ...]]:
    return store.connection.execute(query).fetchall()


def steps(store: Store, keep: Keep, now: float) -> int:
    """Prune to the end; how many steps that was."""
    count = 1
    while prune(store.connection, keep, now):
        count += 1
    return count


def test_a_request_goes_with_its_attempts_when_its_time_is_over(opened: Store) -> None:
    opened.write([at(TODAY - 1), at(TODAY), at(TODAY + 1)], {})
    assert steps(opened, Keep(MONTH), TODAY + MONTH) == 1
    assert asked(opened, "SELECT at FROM requests") == [(TODAY,), (TODAY + 1,)]
    assert asked(opened, "SELECT at FROM attempts") == [(TODAY,), (TODAY + 1,)]


def test_the_oldest_go_when_there_are_too_many(opened: Store) -> None:
    opened.write([at(TODAY + n, attempts=(ATTEMPT,) * 3) for n in range(10)], {})
    assert steps(opened, Keep(MONTH, 4), TODAY) == 1
    assert asked(opened, "SELECT min(at), count(*) FROM requests") == [(TODAY + 6, 4)]
    assert asked(opened, "SELECT count(*) FROM attempts") == [(8,)]
    assert steps(opened, Keep(MONTH, 4), TODAY) == 1
    assert asked(opened, "SELECT count(*) FROM requests") == [(4,)]


def test_the_oldest_are_known_when_the_clock_was_set_back(opened: Store) -> None:
    opened.write([at(TODAY), at(TODAY - 5), at(TODAY + 1)], {})
    steps(opened, Keep(MONTH), TODAY + MONTH)
    opened.write([at(TODAY + 2)], {})
    assert steps(opened, Keep(MONTH, 2), TODAY + MONTH) == 1
    assert asked(opened, "SELECT at FROM requests") == [(TODAY + 1,), (TODAY + 2,)]


def test_many_go_in_steps_that_nobody_has_to_wait_for(opened: Store) -> None:
    opened.write([at(TODAY + n / 1000) for n in range(5500)], {})
    seen = [5500]
    while prune(opened.connection, Keep(MONTH), TODAY + DAY + MONTH):
        seen.append(int(str(asked(opened, "SELECT count(*) FROM requests")[0][0])))
    assert seen == [5500, 4500, 3500, 2500, 1500, 500]
    assert asked(opened, "SELECT count(*) FROM requests") == [(0,)]


def test_the_file_shrinks_when_most_of_it_is_free_and_keeps_room_for_what_comes(
    opened: Store, tmp_path: Path
) -> None:
    opened.write([at(TODAY, endpoint="x" * 1000) for _ in range(10_000)], {})
    opened.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = (tmp_path / "stats.db").stat().st_size
    steps(opened, Keep(MONTH), TODAY + DAY + MONTH)
    opened.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    after = (tmp_path / "stats.db").stat().st_size
    assert before > 10_000_000
    assert 4_000_000 < after < 4_200_000


def test_what_a_key_has_spent_in_all_is_never_forgotten(opened: Store) -> None:
    opened.write([at(TODAY), at(TODAY + 1), at(TODAY, key="bob"), at(TODAY + DAY)], {})
    day = TODAY // DAY
    steps(opened, Keep(3600), TODAY + (DAYS + 1) * DAY)
    assert asked(opened, "SELECT day, key, model, requests, total, cost FROM days") == [
        (0, "ada", "m", 2, 20, 0.5),
        (0, "bob", "m", 1, 10, 0.25),
        (day + 1, "ada", "m", 1, 10, 0.25),
    ]
    steps(opened, Keep(3600), TODAY + (DAYS + 2) * DAY)
    assert asked(opened, "SELECT day, key, requests, cost FROM days") == [
        (0, "ada", 3, 0.75),
        (0, "bob", 1, 0.25),
    ]


def test_what_a_window_has_counted_goes_when_it_is_a_window_old(opened: Store) -> None:
    day = Step("client", "ada", "", "", "requests", DAY, 1)
    month = replace(day, window=30 * DAY)
    opened.write([], {day: Taken(TODAY, 1), month: Taken(TODAY, 1)})
    steps(opened, Keep(3600), TODAY + DAY - 1)
    assert len(opened.taken(10)[0]) == 2
    steps(opened, Keep(3600), TODAY + DAY)
    assert [step for step, _ in opened.taken(10)[0]] == [month]


def test_the_log_beside_the_file_does_not_grow_with_what_is_written(
    opened: Store, tmp_path: Path
) -> None:
    for n in range(200):
        opened.write([at(TODAY + n, endpoint="x" * 200) for _ in range(100)], {})
    assert (tmp_path / "stats.db-wal").stat().st_size < 8_000_000
    assert (tmp_path / "stats.db").stat().st_size > 4_000_000


def test_a_step_that_fails_takes_nothing_away(opened: Store) -> None:
    opened.write([at(TODAY)], {})
    opened.connection.execute("DROP TABLE taken")
    with pytest.raises(sqlite3.OperationalError):
        prune(opened.connection, Keep(3600), TODAY + DAY)
    assert not opened.connection.in_transaction
    assert asked(opened, "SELECT count(*) FROM requests") == [(1,)]
