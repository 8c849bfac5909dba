"""What keys have spent: what the file knew when the process began, and what was told of since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.kit.records import DAY, RECORD, TODAY, records
from uniapi.config.types import ClientKey, Config, KeyPreferences, Secret
from uniapi.stats.budgets import _GONE, _MOST, _QUARTER, Budgets
from uniapi.stats.prune import Keep, prune
from uniapi.stats.reader import Reader
from uniapi.stats.record import Record
from uniapi.stats.store import Store

SECRETS = (Secret("sk-ada"), Secret("sk-bob"), Secret("sk-cyd"))
ADA, BOB, CYD = (secret.digest for secret in SECRETS)
BEGAN = TODAY + 1.5 * DAY


def config(credits: float | None = 1.0, created_at: float | None = None) -> Config:  # noqa: A002 - the file's own name
    begun = None if created_at is None else datetime.fromtimestamp(created_at, UTC)
    preferences = KeyPreferences(credits=credits, created_at=begun)
    return Config(keys=tuple(ClientKey(secret, preferences=preferences) for secret in SECRETS))


def named(record: Record) -> Record:
    digests = {"ada": ADA, "bob": BOB, "cyd": CYD, "": ""}
    via = tuple(digests[one] for one in record.via)
    parts = {digests[one]: part for one, part in record.parts.items()}
    return replace(record, key=digests[record.key], via=via, parts=parts)


def spent(told: Sequence[Record], since: float) -> dict[str, float]:
    """Naively."""
    found: Counter[str] = Counter({ADA: 0, BOB: 0, CYD: 0})
    for record in told:
        if record.key and record.at >= since:
            found[record.key] += record.cost  # type: ignore[assignment] # a counter of dollars
            for key in record.via:
                found[key] += record.paid_through(key)  # type: ignore[assignment] # as above
    return dict(found)


def pays(at: float, cost: float = 0.25, key: str = ADA) -> Record:
    return replace(RECORD, at=at, key=key, cost=cost)


def written(path: Path, told: Sequence[Record]) -> Reader:
    with closing(Store(path)) as file:
        file.write(told, {})
    return Reader(path)


@settings(max_examples=15)
@given(
    st.lists(records.map(named), max_size=20),
    st.integers(0, 12).map(lambda quarter_day: TODAY + quarter_day * DAY / 4),
)
def test_what_is_spent_is_every_request_since_created_at_before_the_start_and_after(
    tmp_path_factory: pytest.TempPathFactory, told: list[Record], since: float
) -> None:
    path = tmp_path_factory.mktemp("budgets") / "stats.db"
    reader = written(path, [record for record in told if record.at < BEGAN])

    async def main() -> None:
        known: dict[str, float] = {}
        budgets = Budgets(known, BEGAN)
        budgets.follow(config(created_at=since))
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(budgets.run, reader)
                await budgets.ready.wait()
                for record in told:
                    if record.at >= BEGAN:
                        budgets.note(record)
                assert known == spent(told, since)
                budgets.follow(config())  # all time
                while known != spent(told, 0):  # noqa: ASYNC110 - the thread says nothing
                    await trio.sleep(0.001)
                nursery.cancel_scope.cancel()

    trio.run(main)


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    path = tmp_path / "stats.db"
    with closing(Store(path)) as file:
        for process in range(3):
            known: dict[str, float] = {}
            budgets = Budgets(known, TODAY + process * 10.0)
            budgets.follow(config())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(budgets.run, Reader(path))
                await budgets.ready.wait()
                assert known[ADA] == 0.25 * process
                record = pays(TODAY + process * 10.0 + 1)
                budgets.note(record)
                file.write([record], {})
                assert known[ADA] == 0.25 * (process + 1)
                nursery.cancel_scope.cancel()


async def test_a_budget_that_begins_before_the_days_that_are_kept_forgets_none_of_them(
    tmp_path: Path,
) -> None:
    path = tmp_path / "stats.db"
    with closing(Store(path)) as file:
        file.write([pays(TODAY - 900.0 * DAY), pays(TODAY - 800.0 * DAY), pays(TODAY - 1.0)], {})
        prune(file.connection, Keep(3600, days=1), BEGAN)
    known: dict[str, float] = {}
    budgets = Budgets(known, BEGAN)
    budgets.follow(config(created_at=TODAY - 1000.0 * DAY))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(budgets.run, Reader(path))
        await budgets.ready.wait()
        nursery.cancel_scope.cancel()
    assert known[ADA] == 0.75


async def test_created_at_begins_a_budget_anew_while_the_process_runs() -> None:
    known: dict[str, float] = {}
    budgets = Budgets(known, float(TODAY))
    budgets.follow(config())
    for at, cost in ((TODAY + 10, 1.0), (TODAY + _QUARTER, 2.0), (TODAY + 3 * _QUARTER, 4.0)):
        budgets.note(pays(at, cost))
    assert known[ADA] == 7
    budgets.follow(config(created_at=TODAY + _QUARTER))
    assert known[ADA] == 6
    budgets.follow(config(created_at=TODAY + 2 * _QUARTER))
    assert known[ADA] == 4
    budgets.note(pays(TODAY + _QUARTER))  # it ended before the budget began
    assert known[ADA] == 4
    budgets.follow(config())
    assert known[ADA] == 7.25


def test_a_key_that_is_gone_is_not_counted_and_the_object_stays_the_same() -> None:
    known: dict[str, float] = {}
    budgets = Budgets(known, float(TODAY))
    budgets.follow(config())
    budgets.note(pays(TODAY + 1.0))
    whole = config()
    budgets.follow(replace(whole, keys=whole.keys[1:]))
    budgets.note(pays(TODAY + 2.0))
    assert known == {BOB: 0, CYD: 0}
    budgets.note(pays(TODAY + 2.0, key="nobody"))
    budgets.note(pays(TODAY + 2.0, key=""))
    assert known == {BOB: 0, CYD: 0}


def test_years_of_requests_take_bounded_memory_and_lose_no_cent() -> None:
    known: dict[str, float] = {}
    budgets = Budgets(known, float(TODAY))
    budgets.follow(config())
    for quarter in range(_MOST + 500):
        budgets.note(pays(TODAY + quarter * _QUARTER))
    assert len(budgets._own[ADA]) == _MOST
    budgets.follow(config(credits=5))
    assert known[ADA] == 0.25 * (_MOST + 500)


def test_keys_that_come_and_go_for_ever_take_bounded_memory_and_the_latest_may_return() -> None:
    known: dict[str, float] = {}
    budgets = Budgets(known, float(TODAY))
    everyone = [ClientKey(Secret(f"sk-{number}")) for number in range(_GONE + 50)]
    for one in everyone:
        budgets.follow(Config(keys=(one,)))
        budgets.note(pays(TODAY + 1.0, key=one.id))
    budgets.follow(config())
    assert len(budgets._own) == _GONE
    assert known == {ADA: 0, BOB: 0, CYD: 0}
    budgets.follow(Config(keys=(everyone[50], everyone[-1])))
    assert known == {everyone[50].id: 0.25, everyone[-1].id: 0.25}


async def test_a_file_that_cannot_be_read_is_tried_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "stats.db"
    known: dict[str, float] = {}
    budgets = Budgets(known, BEGAN)
    budgets.follow(config())
    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(budgets.run, Reader(path))
            await budgets.ready.wait()
            budgets.note(pays(BEGAN))
            assert known[ADA] == 0.25  # it serves all the same
            await trio.sleep(121)
            written(path, [pays(TODAY)])
            await trio.sleep(58)
            assert known[ADA] == 0.25
            await trio.sleep(3)
            assert known[ADA] == 0.5
            nursery.cancel_scope.cancel()
    assert [line["event"] for line in lines] == ["credits.unreadable"]


async def test_a_file_that_cannot_be_read_is_no_matter_of_credits_where_there_are_none(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    budgets = Budgets({}, BEGAN)
    budgets.follow(config(credits=None))
    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(budgets.run, Reader(tmp_path / "stats.db"))
            await budgets.ready.wait()
            assert lines == []  # why there are no statistics is the writer's to say
            budgets.follow(config(credits=5))
            while not lines:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert [line["event"] for line in lines] == ["credits.unreadable"]


async def test_a_budget_without_a_file_is_warned_about(autojump_clock: MockClock) -> None:
    budgets = Budgets({}, 0.0)
    budgets.follow(config(credits=None))
    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(budgets.run, None)
            await trio.sleep(1)
            assert lines == []
            budgets.follow(config())  # a reload brings one
            await trio.sleep(1000)
            nursery.cancel_scope.cancel()
    assert [line["event"] for line in lines] == ["credits.forgotten_at_restart"]
    assert lines[0]["keys"] == (ADA, BOB, CYD)
