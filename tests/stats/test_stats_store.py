"""The statistics file: what it holds, who may read it, and that nobody's data is destroyed."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.records import ATTEMPT, DAY, RECORD, TODAY
from uniapi.stats import schema, store
from uniapi.stats.file import File
from uniapi.stats.opening import Unusable, open_store, unusable
from uniapi.stats.record import Attempted, Record
from uniapi.stats.store import Step, Store, Taken, reader

MORNING = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
STAMP = "20231114-221320"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "stats.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Store]:
    found = Store(path)
    yield found
    found.close()


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(reader(path)) as connection:
        return connection.execute(query).fetchall()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_its_owner_can_read_it_from_its_birth(path: Path, opened: Store) -> None:
    old = os.umask(0)
    try:
        opened.write([RECORD], {})
    finally:
        os.umask(old)
    assert mode(path.parent) == 0o700
    assert {name.name: mode(name) for name in path.parent.iterdir()} == {
        "stats.db": 0o600,
        "stats.db-wal": 0o600,
        "stats.db-shm": 0o600,
    }


def test_a_request_and_its_attempts_are_written_as_they_were(path: Path, opened: Store) -> None:
    failed = replace(ATTEMPT, provider="b", outcome="server_error", first=None, why="hedge")
    record = replace(RECORD, via=("inner", "inmost"), limit="1/d", attempts=(failed, ATTEMPT))
    record = replace(record, parts={"inmost": 0.125})
    opened.write([record], {})
    [(_, *request)] = rows(path, "SELECT * FROM requests")
    values = [getattr(record, field.name) for field in fields(Record)]
    values[-3:] = ["inner,inmost=0.125"]  # the attempts have a table of their own
    assert request == values
    attempts = rows(path, "SELECT * FROM attempts ORDER BY id")
    for (_, at, provider, upstream, model, key, stream, *rest), attempt in zip(
        attempts, record.attempts, strict=True
    ):
        assert (at, model, stream) == (record.at, record.model, record.stream)
        told = Attempted(str(provider), str(upstream), str(key), *rest)  # type: ignore[arg-type] # in the order of its fields
        assert told == attempt


@pytest.mark.parametrize("count", [0, 1, 6, 7, 49, 50, 51, 57, 137])
def test_no_record_is_missing_or_twice_whatever_their_number(
    path: Path, opened: Store, count: int
) -> None:
    opened.write([replace(RECORD, id=str(number)) for number in range(count)], {})
    kept = [request for (request,) in rows(path, "SELECT request FROM requests ORDER BY id")]
    assert kept == [str(number) for number in range(count)]
    assert rows(path, "SELECT count(*) FROM attempts") == [(count,)]


def test_days_are_added_up_over_batches(path: Path, opened: Store) -> None:
    later = replace(RECORD, at=RECORD.at + DAY, model="n")
    opened.write([RECORD, RECORD, later], {})
    opened.write([RECORD], {})
    day = TODAY // DAY
    assert rows(path, "SELECT * FROM days") == [
        (day, "ada", "m", 3, 21, 9, 30, 0.75),
        (day + 1, "ada", "n", 1, 7, 3, 10, 0.25),
    ]


def test_a_batch_is_written_whole_or_not_at_all(path: Path, opened: Store) -> None:
    opened.write([RECORD], {})
    opened.connection.execute("DROP TABLE taken")
    step = Step("client", "ada", "", "", "requests", DAY, 1)
    with pytest.raises(sqlite3.OperationalError):
        opened.write([RECORD] * 60, {step: Taken(1.0, 1)})
    assert rows(path, "SELECT count(*) FROM requests") == [(1,)]
    assert rows(path, "SELECT requests FROM days") == [(1,)]
    assert not opened.connection.in_transaction


def test_what_windows_have_counted_is_added_up_by_their_steps(path: Path, opened: Store) -> None:
    one = Step("client", "ada", "", "m", "tokens", DAY, 7)
    other = replace(one, step=8)
    opened.write([], {other: Taken(30.0, 5), one: Taken(20.0, 1)})
    opened.write([], {one: Taken(10.0, 2)})
    assert opened.taken(10) == ([(one, Taken(20.0, 3)), (other, Taken(30.0, 5))], True)


def test_labels_follow_the_configuration(path: Path, opened: Store) -> None:
    opened.write([], {}, {"k1": "ada", "k2": "openai #1"})
    opened.write([], {}, {"k1": "", "k2": "openai #2"})
    assert rows(path, "SELECT * FROM labels") == [("k2", "openai #2")]


# What strangers may say: a provider names its models and counts its tokens.
texts = st.text(st.characters(), max_size=8)  # lone surrogates among them
numbers = st.floats() | st.just(math.nan)
counts = st.integers(-(2**70), 2**70)
anything = st.builds(
    Record,
    **{
        field.name: {
            "str": texts,
            "float": numbers,
            "float | None": st.none() | numbers,
            "int": counts,
            "bool": st.booleans(),
            "Mapping[str, float]": st.dictionaries(texts, numbers, max_size=2),
            "tuple[str, ...]": st.lists(texts, max_size=2).map(tuple),
            "tuple[Attempted, ...]": st.lists(
                st.builds(
                    Attempted,
                    texts,
                    texts,
                    texts,
                    texts,
                    texts,
                    numbers,
                    st.none() | numbers,
                    counts,
                ),
                max_size=2,
            ).map(tuple),
        }[str(field.type)]
        for field in fields(Record)
        if field.name != "at"
    },
    at=st.floats(0, 1e12),
)


@given(st.lists(anything, min_size=1, max_size=3))
def test_no_record_is_refused_for_what_strangers_have_put_into_it(some: list[Record]) -> None:
    kept = Store.__new__(Store)
    kept.connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(kept.connection)
    with closing(kept.connection):
        kept.write([RECORD, *some], {})
        found = kept.connection.execute("SELECT count(*) FROM requests").fetchone()
        assert found == (1 + len(some),)


def test_a_reader_cannot_write_and_sees_what_was_written_since(path: Path, opened: Store) -> None:
    with closing(reader(path)) as connection:
        opened.write([RECORD], {})
        assert connection.execute("SELECT count(*) FROM requests").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM requests")


def test_a_reader_makes_no_file(path: Path) -> None:
    path.parent.mkdir()
    with pytest.raises(sqlite3.OperationalError):
        rows(path, "SELECT 1")
    assert not path.exists()


def test_a_file_is_opened_again_with_all_it_has(path: Path) -> None:
    for _ in range(2):
        with closing(open_store(path, MORNING)[0]) as found:
            found.write([RECORD], {})
    assert [name.name for name in path.parent.iterdir()] == ["stats.db"], "nothing is left beside"
    assert rows(path, "SELECT count(*) FROM requests") == [(2,)]


def test_an_older_file_is_brought_to_this_version_with_all_it_has(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store(path)) as found:
        found.write([RECORD], {})
    further = (*schema.MIGRATIONS, ("ALTER TABLE requests ADD COLUMN mood TEXT DEFAULT 'fair'",))
    monkeypatch.setattr(schema, "MIGRATIONS", further)
    Store(path).close()
    assert rows(path, "SELECT request, mood FROM requests") == [("r", "fair")]
    assert rows(path, "PRAGMA user_version") == [(2,)]


def test_a_migration_that_fails_leaves_the_older_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(path).close()
    broken = ("ALTER TABLE requests ADD COLUMN mood", "NONSENSE")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
    with pytest.raises(sqlite3.OperationalError):
        Store(path)
    assert rows(path, "PRAGMA user_version") == [(1,)]
    assert ("mood",) not in rows(path, "SELECT name FROM pragma_table_info('requests')")


def test_a_later_file_is_left_alone(path: Path) -> None:
    with closing(Store(path)) as found:
        found.connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(Unusable) as refused:
        open_store(path, MORNING)
    assert "later version" in refused.value.why
    assert "update uniapi" in refused.value.fix
    assert path.read_bytes() == before


def foreign(path: Path, table: str) -> bytes:
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {table} (id INTEGER)")
    return path.read_bytes()


def test_another_programs_database_is_left_alone(path: Path) -> None:
    before = foreign(path, "bookmarks")
    with pytest.raises(Unusable) as refused:
        open_store(path, MORNING)
    assert "another program" in refused.value.why
    assert "DB_PATH" in refused.value.fix
    assert path.read_bytes() == before
    assert [name.name for name in path.parent.iterdir()] == ["stats.db"]


def test_the_file_of_the_seeds_program_is_kept_beside_the_new_one(path: Path) -> None:
    before = foreign(path, "channel_stats")
    found, aside = open_store(path, MORNING)
    with closing(found):
        found.write([RECORD], {})
    assert aside is not None
    assert aside.now == path.with_name(f"stats.db.old-{STAMP}")
    assert aside.now.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"not a database at all",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"\0" * 100 + whole[100:],
        lambda whole: whole[:4096] + b"\xff" * 8192 + whole[12288:],
    ],
    ids=["another-file", "cut-in-half", "header", "pages"],
)
def test_a_damaged_file_is_kept_beside_the_new_one(
    path: Path, damage: Callable[[bytes], bytes]
) -> None:
    with closing(Store(path)) as found:
        found.write([RECORD] * 500, {})
    broken = damage(path.read_bytes())
    path.write_bytes(broken)
    path.with_name("stats.db-wal").write_bytes(b"\0" * 32)  # as a crash may leave it
    found, aside = open_store(path, MORNING)
    with closing(found):
        found.write([RECORD], {})
    assert aside is not None
    assert aside.now == path.with_name(f"stats.db.broken-{STAMP}")
    assert aside.now.read_bytes() == broken
    assert rows(path, "SELECT count(*) FROM requests") == [(1,)]


def test_what_was_moved_aside_in_the_same_second_is_kept_too(path: Path) -> None:
    path.parent.mkdir()
    for content in (b"one, which is no database", b"two, which is no database"):
        path.write_bytes(content)
        open_store(path, MORNING)[0].close()
    kept = {name.name: name.read_bytes()[:3] for name in path.parent.iterdir() if name != path}
    assert kept == {
        f"stats.db.broken-{STAMP}": b"one",
        f"stats.db.broken-{STAMP}-2": b"two",
    }


def test_a_folder_that_cannot_be_made_is_told_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(Unusable) as refused:
        open_store(tmp_path / "data" / "stats.db", MORNING)
    assert "DB_PATH" in refused.value.fix


def test_a_file_somebody_keeps_locked_is_told_with_its_cure(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_BUSY", 0.01)
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unusable) as refused:
            open_store(path, MORNING)
    assert "locked" in refused.value.why
    assert "locked" in refused.value.fix


def test_a_removed_or_replaced_file_is_noticed(path: Path, opened: Store) -> None:
    assert [opened.lost] == [False]
    path.rename(path.with_name("away"))
    assert [opened.lost] == [True]
    path.touch()
    assert [opened.lost] == [True]


def test_waits_are_the_latest_first_tokens_and_the_waits_of_those_given_up(opened: Store) -> None:
    def tried(at: float, attempt: Attempted, *, stream: bool) -> Record:
        return replace(RECORD, at=at, stream=stream, attempts=(attempt,))

    slow = replace(ATTEMPT, outcome="first_token_timeout", seconds=10.0, first=None)
    opened.write(
        [
            tried(10.0, replace(ATTEMPT, first=9.0), stream=True),
            tried(20.0, ATTEMPT, stream=True),
            tried(30.0, slow, stream=False),
            tried(40.0, replace(ATTEMPT, outcome="server_error", first=None), stream=True),
        ],
        {},
    )
    assert opened.waits(15.0, 100) == [("a", "up", True, 0.5), ("a", "up", False, 10.0)]
    assert opened.waits(0.0, 2) == [("a", "up", False, 10.0)]


def test_a_large_file_is_not_looked_through_before_the_first_request(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store(path)) as found:
        found.write([RECORD] * 5000, {})
    path.with_name("stats.db-wal").write_bytes(b"\0" * 32)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8192] + b"\xff" * 8192)
    monkeypatch.setattr(store, "_LOOK", len(whole) - 1)
    found, aside = open_store(path, MORNING)
    found.close()
    assert aside is None, "what it has not seen it does not condemn"


def test_a_file_that_cannot_be_moved_stays_and_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    path.parent.mkdir()
    path.write_bytes(b"not a database at all")
    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(Unusable) as told:
        open_store(path, MORNING)
    assert "let this user write" in told.value.fix
    assert path.read_bytes() == b"not a database at all"


def test_what_was_moved_is_told_of_though_no_new_file_could_be_begun(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Once(Store):
        def __init__(self, path: Path) -> None:
            if not path.exists():
                raise OSError(errno.ENOSPC, "no space")
            super().__init__(path)

    path.parent.mkdir()
    path.write_bytes(b"not a database at all")
    monkeypatch.setattr("uniapi.stats.opening.Store", Once)
    file = File(path, lambda: MORNING)
    with pytest.raises(Unusable) as told:
        file.use(lambda store: store.write([RECORD], {}))
    assert "free some space" in told.value.fix
    [aside] = file.asides
    assert aside.now.read_bytes() == b"not a database at all"


# Asks, as another process, whether a byte of the file that SQLite does not use is locked.
_LOCKED: Final = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1_000_000)
    except OSError:
        print("locked")
"""


def test_opening_takes_no_lock_of_this_process_away(path: Path) -> None:
    Store(path).close()
    with path.open("r+b") as held:
        fcntl.lockf(held, fcntl.LOCK_EX, 1, 1_000_000)
        with closing(Store(path)):
            said = subprocess.run(  # noqa: S603 - ourselves
                [sys.executable, "-c", _LOCKED, path], capture_output=True, text=True, check=True
            )
    assert said.stdout == "locked\n"


def test_a_link_to_a_file_that_is_not_there_yet_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "far.db")
    with closing(Store(tmp_path / "link.db")) as opened:
        assert not opened.lost
    assert mode(tmp_path / "far.db") == 0o600


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (OSError(errno.ENOSPC, "no space"), "free some space"),
        (OSError(errno.EROFS, "read-only"), "let this user write"),
        (OSError(errno.ENOTDIR, "no folder"), "DB_PATH"),
        (sqlite3.OperationalError("no code"), "DB_PATH"),
    ],
)
def test_every_way_to_have_no_file_has_a_cure(error: Exception, fix: str) -> None:
    assert fix in unusable(error).fix
