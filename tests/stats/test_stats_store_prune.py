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


def test_days_stay_for_years_while_there_is_room(opened: Store) -> None:
    opened.write([at(TODAY + n * DAY) for n in range(3 * 365)], {})
    steps(opened, Keep(3600), TODAY + 3 * 365 * DAY)
    assert asked(opened, "SELECT count(*), min(day) FROM days") == [(3 * 365, TODAY // DAY)]


def test_the_oldest_days_are_added_up_when_there_are_too_many(opened: Store) -> None:
    opened.write([at(TODAY), at(TODAY + 1), at(TODAY, key="bob"), at(TODAY + 2 * DAY)], {})
    day = TODAY // DAY
    keep = Keep(3600, days=2)
    steps(opened, keep, TODAY + (DAYS + 1) * DAY)
    assert asked(opened, "SELECT day, key, model, requests, total, cost FROM days") == [
        (0, "ada", "m", 2, 20, 0.5),
        (0, "bob", "m", 1, 10, 0.25),
        (day + 1, "", "", 0, 0, 0.0),  # the first of which everything is known
        (day + 2, "ada", "m", 1, 10, 0.25),
    ]
    opened.write([at(TODAY + 3 * DAY), at(TODAY + 4 * DAY)], {})
    steps(opened, keep, TODAY + 500 * DAY)
    assert asked(opened, "SELECT day, key, requests, cost FROM days") == [
        (0, "", 0, 0.0),
        (0, "ada", 3, 0.75),
        (0, "bob", 1, 0.25),
        (day + 3, "", 0, 0.0),
        (day + 3, "ada", 1, 0.25),
        (day + 4, "ada", 1, 0.25),
    ]
    before = asked(opened, "SELECT * FROM days")
    steps(opened, keep, TODAY + 501 * DAY)
    assert asked(opened, "SELECT * FROM days") == before


def test_more_than_a_year_of_days_stays_however_many_they_are(opened: Store) -> None:
    opened.write([at(TODAY + n * DAY) for n in (0, 1, DAYS, DAYS + 1)], {})
    steps(opened, Keep(3600, days=1), TODAY + (DAYS + 1) * DAY)
    kept = [day for (day,) in asked(opened, "SELECT DISTINCT day FROM days")]
    assert kept == [0, *(TODAY // DAY + n for n in (1, DAYS, DAYS + 1))]


LABELS = {name: f"{name}'s label" for name in ("ada", "cyd", "key-a", "key-b", "day", "gone")}


def labelled(opened: Store, keep: Keep, now: float) -> list[object]:
    steps(opened, keep, now)
    return [digest for (digest,) in asked(opened, "SELECT digest FROM labels ORDER BY digest")]


def test_a_label_goes_when_nobody_refers_to_it_any_more(opened: Store) -> None:
    taken = {Step("client", "day", "", "", "requests", DAY, 1): Taken(TODAY, 1)}
    later = at(TODAY + DAY, attempts=(replace(ATTEMPT, key="key-b"),))
    opened.write([at(TODAY, via=("cyd",)), later], taken, LABELS)
    every = [*LABELS]
    assert labelled(opened, Keep(DAY, named=every), TODAY + DAY - 1) == sorted(every)
    # What has cost something is never forgotten, and what a window counts is not until it is old.
    named = ["gone"]
    assert labelled(opened, Keep(DAY, named=named), TODAY + DAY - 1) == [
        "ada", "cyd", "day", "gone", "key-a", "key-b",
    ]  # fmt: skip
    assert labelled(opened, Keep(DAY), TODAY + DAY - 1) == ["ada", "cyd", "day", "key-a", "key-b"]
    assert labelled(opened, Keep(DAY), TODAY + DAY + 1) == ["ada", "cyd", "key-b"]
    assert labelled(opened, Keep(DAY), TODAY + 2 * DAY + 1) == ["ada", "cyd"]


def test_labels_go_one_a_step_since_each_costs_a_look_at_every_attempt(opened: Store) -> None:
    opened.write([at(TODAY)], {}, LABELS)
    before = steps(opened, Keep(MONTH, named=[*LABELS]), TODAY)
    assert steps(opened, Keep(MONTH), TODAY) == before + 4
    assert labelled(opened, Keep(MONTH), TODAY) == ["ada", "key-a"]


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
