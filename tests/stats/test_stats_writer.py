"""The writer: cheap for requests, whole in the file, quiet and patient when the file is not."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import trio
from structlog.typing import EventDict
from trio.testing import MockClock

from tests.kit.logged import lines
from tests.kit.records import ATTEMPT, RECORD, TODAY
from uniapi.buckets import Bucket, Scope
from uniapi.config.bounds import Unit, Window
from uniapi.config.types import ClientKey, Config, Preferences, Provider, Secret
from uniapi.state import State
from uniapi.stats import writer as writing
from uniapi.stats.prune import MAX_REQUESTS
from uniapi.stats.queries import Span, summary
from uniapi.stats.reader import Reader, Unreadable
from uniapi.stats.store import Store, reader
from uniapi.stats.writer import BATCH, ROOM, STRANGERS, Writer

ADA = ClientKey(Secret("sk-ada-0000"), role="ada")


@dataclass
class Desk:
    """A writer whose thread is the test's own, on a clock that jumps, and what became of it."""

    path: Path
    nursery: trio.Nursery
    config: Config
    cap: int = MAX_REQUESTS
    hangs: bool = False
    batches: int = 0
    slow: float = 0.0

    def __post_init__(self) -> None:
        self.state = State()
        self.writer = Writer(
            self.path, self.state, lambda: self.config, clock=now, cap=self.cap, thread=self.thread
        )

    async def thread(self, work: Callable[[], object]) -> object:
        if self.hangs:
            await trio.sleep_forever()
        await trio.sleep(self.slow)
        self.batches += 1
        return work()

    async def begin(self) -> None:
        await self.writer.start()
        self.nursery.start_soon(self.writer.run)

    def asked(self, query: str) -> list[tuple[object, ...]]:
        with closing(reader(self.path)) as connection:
            return connection.execute(query).fetchall()

    @property
    def count(self) -> object:
        return self.asked("SELECT count(*) FROM requests")[0][0]


def now() -> float:
    return TODAY + trio.current_time()


@pytest.fixture
async def desk(
    nursery: trio.Nursery, tmp_path: Path, autojump_clock: MockClock
) -> AsyncIterator[Desk]:
    assert trio.lowlevel.current_clock() is autojump_clock, "ask for autojump_clock as well"
    desk = Desk(tmp_path / "stats.db", nursery, Config(keys=(ADA,)))
    yield desk
    nursery.cancel_scope.cancel()
    desk.writer._file.close()


async def test_a_request_is_in_the_file_within_a_second(
    desk: Desk, autojump_clock: MockClock
) -> None:
    await desk.begin()
    await trio.sleep(0.3)
    desk.writer.note(RECORD)
    desk.writer.note(RECORD)
    await trio.sleep(0.6)
    assert (desk.count, desk.writer.waiting) == (0, 2)
    await trio.sleep(0.2)
    assert (desk.count, desk.writer.waiting, desk.writer.written) == (2, 0, 2)


async def test_many_are_not_kept_waiting_for_the_second(
    desk: Desk, autojump_clock: MockClock
) -> None:
    await desk.begin()
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(2 * BATCH + 1):
        desk.writer.note(RECORD)
    await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == 0
    assert (desk.count, desk.writer.waiting) == (2 * BATCH, 1)
    await trio.sleep(1.5)
    assert desk.count == 2 * BATCH + 1


async def test_what_comes_during_a_write_waits_for_the_next_and_is_no_batch_of_its_own(
    desk: Desk, autojump_clock: MockClock
) -> None:
    await desk.begin()
    await trio.sleep(1.5)
    desk.writer.note(RECORD)
    before, desk.slow = desk.batches, 0.2
    for _ in range(49):
        await trio.sleep(0.1)
        desk.writer.note(RECORD)
    await trio.sleep(1.5)
    assert desk.count == 50
    assert desk.batches - before <= 7


async def test_nothing_to_write_is_no_work_for_the_thread(
    desk: Desk, autojump_clock: MockClock
) -> None:
    await desk.begin()
    await trio.sleep(5)
    before = desk.batches
    await trio.sleep(3000)
    assert desk.batches == before


async def test_a_full_queue_drops_and_counts_and_says_so_now_and_then(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    for _ in range(ROOM + 3):
        desk.writer.note(RECORD)
    assert (desk.writer.waiting, desk.writer.dropped) == (ROOM, 3)
    await desk.begin()
    await trio.sleep(1.5)
    assert desk.count == ROOM
    assert [line["requests"] for line in lines(logs, "statistics.dropped")] == [3]


async def test_a_flood_of_strangers_does_not_push_out_what_is_known(
    desk: Desk, autojump_clock: MockClock
) -> None:
    await desk.begin()
    for minute in range(2):
        for _ in range(STRANGERS + 40):
            desk.writer.note(replace(RECORD, key="", at=TODAY + 60 * minute))
            desk.writer.note(replace(RECORD, at=TODAY + 60 * minute))
    await trio.sleep(1.5)
    kept = desk.asked("SELECT key, count(*) FROM requests GROUP BY key")
    assert kept == [("", 2 * STRANGERS), ("ada", 2 * (STRANGERS + 40))]
    assert desk.writer.dropped == 80


@pytest.mark.parametrize("endpoint", ["GET /v1/healthz", "HEAD /v1/readyz", "GET /v1/metrics"])
async def test_machines_that_look_every_few_seconds_are_not_history(
    desk: Desk, autojump_clock: MockClock, endpoint: str
) -> None:
    await desk.begin()
    desk.writer.note(replace(RECORD, endpoint=endpoint))
    await trio.sleep(1.5)
    assert (desk.count, desk.writer.dropped) == (0, 0)


async def test_the_end_waits_for_what_is_not_written_yet(
    desk: Desk, autojump_clock: MockClock
) -> None:
    await desk.begin()
    desk.writer.note(RECORD)
    await desk.writer.aclose()
    assert trio.current_time() == 0
    assert [name.name for name in desk.path.parent.iterdir()] == ["stats.db"], "hung up"
    assert desk.count == 1


async def test_the_end_does_not_wait_for_a_disk_that_hangs(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    await desk.begin()
    await trio.sleep(1.5)
    desk.hangs = True
    desk.writer.note(RECORD)
    await desk.writer.aclose()
    assert trio.current_time() == 1.5 + writing.END
    assert [line["requests"] for line in lines(logs, "statistics.unwritten")] == [1]


async def test_the_start_does_not_wait_for_a_disk_that_hangs(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    desk.hangs = True
    await desk.writer.start()
    assert trio.current_time() == writing.START
    assert len(lines(logs, "statistics.slow")) == 1


@asynccontextmanager
async def blocked(desk: Desk) -> AsyncIterator[None]:
    """Where the file should be there is a folder, and what was there is away."""
    away = desk.path.with_name("away")
    desk.path.rename(away)
    desk.path.mkdir()
    yield
    desk.path.rmdir()
    away.rename(desk.path)


async def test_a_file_out_of_reach_is_told_once_and_tried_again_less_and_less(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    await desk.begin()
    await trio.sleep(1.5)
    async with blocked(desk):
        desk.writer.note(RECORD)
        before = desk.batches
        await trio.sleep(3600)
        assert desk.batches - before < 20
        assert desk.writer.off
        [line] = lines(logs, "statistics.off")
        assert line["log_level"] == "warning"
        assert "DISABLE_DATABASE=true" in line["fix"]
    await trio.sleep(301)
    assert (desk.count, desk.writer.off, desk.writer.waiting) == (1, False, 0)
    assert len(lines(logs, "statistics.on")) == 2


async def test_a_full_disk_is_waited_out(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(Store):
        def write(self, *rest: object) -> None:
            pages = self.connection.execute("PRAGMA page_count").fetchone()[0]
            self.connection.execute(f"PRAGMA max_page_count = {pages}")
            super().write(*rest)  # type: ignore[arg-type] # as they came

    await desk.begin()
    await trio.sleep(1.5)
    desk.path.with_name("stats.db").unlink()
    monkeypatch.setattr("uniapi.stats.opening.Store", Full)
    for _ in range(BATCH):
        desk.writer.note(RECORD)
    await trio.sleep(10)
    [line] = lines(logs, "statistics.off")
    assert "full" in line["error"]
    assert "free some space" in line["fix"]
    monkeypatch.undo()
    await trio.sleep(60)
    assert desk.count == BATCH


async def test_a_file_that_breaks_in_mid_run_is_kept_and_a_new_one_begun(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    await desk.begin()
    desk.writer.note(RECORD)
    await trio.sleep(1.5)
    size = desk.path.stat().st_size
    for end in ("", "-wal"):
        part = desk.path.with_name(desk.path.name + end)
        part.write_bytes(b"\xff" * part.stat().st_size)
    desk.path.with_name("stats.db-shm").write_bytes(b"\xff" * 32_768)
    for number in range(3):
        desk.writer.note(replace(RECORD, id=f"later-{number}"))
    await trio.sleep(1.5)
    assert desk.asked("SELECT request FROM requests") == [("later-0",), ("later-1",), ("later-2",)]
    [line] = lines(logs, "statistics.renewed")
    kept = Path(line["kept"])
    assert kept.name.startswith("stats.db.broken-")
    assert await trio.Path(kept).read_bytes() == b"\xff" * size
    assert desk.asked("SELECT label FROM labels") == [("ada",)]


def overwritten(path: Path, begin: int = 0, end: int | None = None) -> None:
    """Overwrite a part of the file on the disk."""
    end = path.stat().st_size if end is None else end
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(b"\xff" * (end - begin))


def emptied(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [overwritten, emptied])
async def test_a_file_that_only_others_find_broken_takes_no_further_request(
    desk: Desk,
    autojump_clock: MockClock,
    logs: list[EventDict],
    damage: Callable[[Path], None],
) -> None:
    await desk.begin()
    desk.writer.note(RECORD)
    await trio.sleep(1.5)
    damage(desk.path)  # the writer has what it needs in memory
    desk.writer.note(replace(RECORD, id="later"))
    await trio.sleep(2)
    assert desk.asked("SELECT request FROM requests") == [("later",)]
    [line] = lines(logs, "statistics.renewed")
    assert Path(line["kept"]).name.startswith("stats.db.broken-")
    await trio.sleep(1)
    assert desk.asked("SELECT label FROM labels") == [("ada",)]


async def test_an_idle_gateway_finds_its_file_broken_within_the_hour(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    await desk.begin()
    await trio.sleep(1.5)
    overwritten(desk.path)
    await trio.sleep(3601)
    assert desk.count == 0
    assert len(lines(logs, "statistics.renewed")) == 1


MIDDLE = 20 * 4096, 25 * 4096  # bytes of the file, rows of requests


async def filled(desk: Desk) -> Reader:
    """A file of many pages; who reads it and finds it damaged tells the writer."""
    await desk.begin()
    for number in range(BATCH):
        desk.writer.note(replace(RECORD, id=f"{number:0100}"))
    await trio.sleep(1.5)
    with closing(sqlite3.connect(desk.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Reader(desk.path, damaged=desk.writer.look)


async def test_what_a_reader_finds_broken_is_replaced_at_once(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    asked = partial(summary, span=Span(0, 2 * TODAY))
    reading = await filled(desk)
    overwritten(desk.path, *MIDDLE)
    for _ in range(2):
        desk.writer.note(RECORD)
        await trio.sleep(2)
    assert lines(logs, "statistics.renewed") == [], "to write is not to read all of it"
    since = trio.current_time()
    with pytest.raises(Unreadable, match="malformed"):
        await reading.read(asked)
    await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == since
    assert (await reading.read(asked)).channels.entries == ()
    [line] = lines(logs, "statistics.renewed")
    kept = await trio.Path(line["kept"]).read_bytes()
    begin, end = MIDDLE
    assert kept[begin:end] == b"\xff" * (end - begin)


async def test_a_word_that_was_wrong_moves_nothing_and_costs_one_look_a_minute(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    await filled(desk)
    before = desk.batches
    for _ in range(5):
        desk.writer.look()
        await trio.sleep(10)
    assert desk.batches == before + 1
    await trio.sleep(11)
    assert desk.batches == before + 2, "the last word is kept until then"
    await trio.sleep(1000)
    assert desk.batches == before + 2
    assert (desk.count, lines(logs, "statistics.renewed")) == (BATCH, [])


@pytest.mark.parametrize(
    "code",
    [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR_READ],
)
async def test_what_others_cannot_reach_is_neither_moved_nor_given_up(
    desk: Desk,
    autojump_clock: MockClock,
    logs: list[EventDict],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    def out_of_reach(*_: object) -> sqlite3.Connection:
        error = sqlite3.OperationalError("not now")
        error.sqlite_errorcode = code
        raise error

    await filled(desk)
    with monkeypatch.context() as patch:
        patch.setattr("uniapi.stats.store.reader", out_of_reach)
        desk.writer.look()
        desk.writer.note(RECORD)
        await trio.sleep(2)
    assert (desk.count, desk.writer.off) == (BATCH + 1, False)
    assert lines(logs, "statistics.renewed") == []


async def test_a_bug_in_looking_is_told_and_no_reason_to_stop(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.begin()
    await trio.sleep(1.5)
    monkeypatch.setattr(Store, "look_through", lambda *_: 1 / 0)
    desk.writer.look()
    desk.writer.note(RECORD)
    await trio.sleep(1.5)
    assert len(lines(logs, "statistics.crashed")) == 1
    assert desk.count == 1


async def test_a_file_that_is_damaged_as_soon_as_it_is_made_is_left_where_it_is(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    await desk.begin()
    for _ in range(5):
        await trio.sleep(100)
        desk.path.write_bytes(b"somebody else thinks this file is his")
        desk.writer.note(RECORD)
    await trio.sleep(50)
    kept = [name for name in desk.path.parent.iterdir() if "broken" in name.name]
    assert len(kept) == 1
    assert desk.writer.off
    await trio.sleep(600)
    assert (desk.count, desk.writer.off) == (4, False)


async def test_a_disk_that_breaks_file_after_file_is_not_filled_with_them(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(*_: object) -> None:
        damage = sqlite3.DatabaseError("database disk image is malformed")
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage

    await desk.begin()
    monkeypatch.setattr(Store, "write", torn)
    desk.writer.note(RECORD)
    await trio.sleep(500)
    kept = [name for name in desk.path.parent.iterdir() if "broken" in name.name]
    assert len(kept) == 1
    assert len(lines(logs, "statistics.off")) == 1


async def test_a_file_that_somebody_removed_is_begun_anew(
    desk: Desk, autojump_clock: MockClock
) -> None:
    await desk.begin()
    desk.writer.note(RECORD)
    await trio.sleep(1.5)
    for name in list(desk.path.parent.iterdir()):
        name.unlink()
    desk.writer.note(RECORD)
    await trio.sleep(2.5)
    assert desk.count == 1
    assert desk.asked("SELECT label FROM labels") == [("ada",)]


async def test_a_bug_loses_its_batch_and_nothing_else(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.begin()
    await trio.sleep(1.5)
    with monkeypatch.context() as broken:
        broken.setattr(Store, "write", lambda *_: 1 / 0)
        desk.writer.note(RECORD)
        await trio.sleep(1.5)
    assert (desk.writer.lost, desk.writer.waiting) == (1, 0)
    assert len(lines(logs, "statistics.crashed")) == 1
    desk.writer.note(RECORD)
    await trio.sleep(1.5)
    assert desk.count == 1


async def test_labels_follow_a_reload_and_hold_nothing_of_a_key(
    desk: Desk, autojump_clock: MockClock
) -> None:
    await desk.begin()
    await trio.sleep(1.5)
    keys = (Secret("sk-one-000000"), Secret("sk-two-000000"))
    shared = Provider("b", keys=(keys[1], Secret("sk-three-0000")))
    desk.config = Config(
        (Provider("a", keys=keys), shared),
        (replace(ADA, role=None), ClientKey(Secret("sk-bob-0000"), role="bob")),
    )
    await trio.sleep(1.5)
    found = {label for (label,) in desk.asked("SELECT label FROM labels")}
    assert found == {"a #1", "a #2", "b #2", "bob"}


async def test_labels_of_keys_that_are_gone_go_with_the_last_that_refers_to_them(
    desk: Desk, autojump_clock: MockClock
) -> None:
    used, unused, new = (Secret(f"sk-{name}-0000") for name in ("used", "unused", "new"))
    desk.config = Config(
        (Provider("a", keys=(used, unused)),), preferences=Preferences(stats_retention=9000.0)
    )
    await desk.begin()
    desk.writer.note(replace(RECORD, attempts=(replace(ATTEMPT, key=used.digest),)))
    await trio.sleep(3700)
    labels = "SELECT label FROM labels ORDER BY label"
    assert desk.asked(labels) == [("a #1",), ("a #2",)]
    desk.config = replace(desk.config, providers=(Provider("b", keys=(new,)),))
    await trio.sleep(3600)
    assert desk.asked(labels) == [("a #1",), ("b #1",)]
    await trio.sleep(3600)
    assert desk.asked(labels) == [("b #1",)]


async def test_what_long_windows_count_is_in_the_file_before_the_request_is_over(
    desk: Desk, autojump_clock: MockClock
) -> None:
    await desk.begin()
    await trio.sleep(10)
    windows = (Window(5, 86_400.0), Window(2, 60.0))
    at = trio.current_time()
    desk.state.buckets.count(Bucket(Scope.CLIENT, ADA.id), windows, Unit.REQUESTS, 1, at, at)
    await trio.sleep(1.5)
    assert desk.asked("SELECT owner, unit, window, last, amount FROM taken") == [
        (ADA.id, "requests", 86_400.0, TODAY + 10.0, 1)
    ]


async def test_a_week_of_traffic_leaves_memory_and_the_file_bounded(
    desk: Desk, autojump_clock: MockClock
) -> None:
    """200,000 requests of 20 keys for 7 models, two attempts each; a day and 20,000 are kept."""
    speed = 500.0
    desk.config = replace(desk.config, preferences=Preferences(stats_retention=86_400.0))
    desk.writer = writer = Writer(
        desk.path,
        desk.state,
        lambda: desk.config,
        clock=lambda: TODAY + speed * trio.current_time(),
        cap=20_000,
        thread=desk.thread,
    )
    await desk.begin()
    ticks, sizes = 400, list[int]()
    pause = 7 * 86_400 / ticks  # seconds
    for _ in range(ticks):
        at = TODAY + speed * trio.current_time()
        for number in range(20):
            names = f"key-{number}", f"model-{number % 7}"
            one = replace(RECORD, at=at, key=names[0], model=names[1], attempts=(ATTEMPT,) * 2)
            for _ in range(25):
                writer.note(one)
        await trio.sleep(pause / speed)
        sizes.append(desk.path.stat().st_size)
    await trio.sleep(3601 / speed)
    assert (writer.written, writer.waiting, writer.dropped, writer.lost) == (200_000, 0, 0, 0)
    assert desk.asked("SELECT sum(requests), count(*) FROM days") == [(200_000, 7 * 20)]
    [(count, oldest)] = desk.asked("SELECT count(*), min(at) FROM requests")
    assert (count, oldest) == (20_000, TODAY + 360 * pause)
    assert desk.asked("SELECT count(*) FROM attempts") == [(40_000,)]
    assert max(sizes) < 20_000_000
    assert max(sizes[200:]) < 1.1 * max(sizes[:200]), "the second half of the week adds nothing"
    assert desk.path.with_name("stats.db-wal").stat().st_size <= 8_000_000


async def test_a_file_out_of_reach_at_the_start_is_no_reason_not_to_serve(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    desk.path.mkdir()
    await desk.begin()
    assert desk.writer.off
    assert [line["event"] for line in logs] == ["statistics.off"]
    desk.path.rmdir()
    desk.writer.note(RECORD)
    await trio.sleep(5)
    assert desk.count == 1


async def test_the_file_of_the_seeds_program_is_told_to_be_kept(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    with closing(sqlite3.connect(desk.path)) as old:
        old.execute("CREATE TABLE request_stats (id INTEGER)")
    await desk.begin()
    assert [line["event"] for line in logs] == ["statistics.renewed", "statistics.on"]
    assert Path(logs[0]["kept"]).name.startswith("stats.db.old-")


async def test_a_bug_at_the_start_is_no_reason_not_to_serve(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "restore", lambda *_: 1 / 0)
    await desk.begin()
    assert len(lines(logs, "statistics.crashed")) == 1
    desk.writer.note(RECORD)
    await trio.sleep(1.5)
    assert desk.count == 1


async def test_a_bug_in_pruning_is_told_once_an_hour(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "prune", lambda *_: 1 / 0)
    await desk.begin()
    await trio.sleep(3500)
    assert len(lines(logs, "statistics.crashed")) == 1
    desk.writer.note(RECORD)
    await trio.sleep(200)
    assert len(lines(logs, "statistics.crashed")) == 2
    assert desk.count == 1


async def test_what_the_file_will_never_take_is_lost_and_counted(
    desk: Desk, autojump_clock: MockClock, logs: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise sqlite3.IntegrityError("NOT NULL constraint failed")

    await desk.begin()
    await trio.sleep(1.5)
    with monkeypatch.context() as strict:
        strict.setattr(Store, "write", refused)
        desk.writer.note(RECORD)
        await trio.sleep(1.5)
    assert (desk.writer.lost, desk.writer.off) == (1, False)


async def test_what_blocks_runs_in_a_thread_of_its_own_and_one_at_a_time() -> None:
    thread, running, most = writing.own_thread(), 0, 0
    ours = threading.get_ident()

    def work() -> None:
        nonlocal running, most
        assert threading.get_ident() != ours
        running += 1
        most = max(most, running)
        running -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(thread, work)
    assert most == 1
