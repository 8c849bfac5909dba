"""A gateway that restarts admits no more in a long window than one that did not."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.kit.records import ATTEMPT, DAY, RECORD, TODAY
from tests.kit.wire import Heard
from tests.kit.world import KEY, World
from uniapi.buckets import Bucket, Scope, Taking
from uniapi.config.bounds import ByModel, RateLimit, RateLimits, Unit, Window
from uniapi.config.types import ClientKey, Config, KeyPreferences, Provider, Secret
from uniapi.routing import limits
from uniapi.routing.limits import Claim
from uniapi.state import State
from uniapi.stats.restore import Memory, add_up, restore
from uniapi.stats.store import Step, Store, Taken, reader
from uniapi.stats.writer import Writer

OTHER = "sk-other-0000"


def now() -> float:
    return TODAY + trio.current_time()


async def at_once(work: Callable[[], object]) -> object:
    await trio.lowlevel.checkpoint()
    return work()


@dataclass
class Life:
    """One gateway after another, with one statistics file."""

    world: World
    path: Path
    writers: list[Writer] = field(default_factory=list)

    @asynccontextmanager
    async def run(self, text: str, *, killed: bool = False) -> AsyncIterator[None]:
        """One gateway, from its start to its end."""
        gateway = self.world.start(text).gateway
        writer = Writer(self.path, gateway.state, lambda: gateway.config, clock=now, thread=at_once)
        await writer.start()
        gateway.ledger.listeners.append(writer.note)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            yield
            if killed:
                await trio.sleep(1.1)  # what a kill loses is the last second
            else:
                await writer.aclose()
            nursery.cancel_scope.cancel()
        self.writers.append(writer)

    async def statuses(self, number: int, **fields: object) -> list[int]:
        """The status of so many requests, one after the other."""
        heard: list[Heard] = [
            await self.world.ask(stream=False, **fields)  # type: ignore[arg-type] # fields of the body
            for _ in range(number)
        ]
        return [one.status for one in heard]


@pytest.fixture
def life(world: World, tmp_path: Path) -> Iterator[Life]:
    world.provider("a", tokens=10)
    life = Life(world, tmp_path / "stats.db")
    yield life
    for writer in life.writers:  # a process that is killed lets go of its files
        writer._file.close()


def config(key: str = "", *, provider: str = "", top: str = "", other: str = "") -> str:
    """One provider with the models m and n, one key; with preferences where they are given."""
    return f"""
providers:
  - provider: a
    base_url: http://a/v1/chat/completions
    api: [sk-up-1, sk-up-2]
    model: [m, n]
    preferences: {{{provider}}}
api_keys:
  - api: {KEY}
    model: [{f"{OTHER}/m" if other else "all"}]
    preferences: {{{key}}}
  - api: {OTHER}
    model: [all]
    preferences: {{{other}}}
preferences: {{{top}}}
"""


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
@pytest.mark.parametrize(
    "text",
    [
        config("rate_limit: 10/day"),
        config("rate_limit: '100/min, 10/day'"),
        config("rate_limit: '10/day, 100/month'"),
        config("rate_limit: {m: 10/day, default: 1/day}"),
        config("rate_limit: {default: 10/year}"),
        config(provider="api_key_rate_limit: 5/day"),
        config(provider="api_key_rate_limit: {m: 5/day}"),
        config(top="rate_limit: 10/day"),
        config(top="rate_limit: {m: 10/day}"),
        config(other="rate_limit: 10/day"),
        config(other="rate_limit: {m: 10/day}"),
    ],
    ids=[
        "key", "with-minutes", "with-months", "key-and-model", "default", "provider-key",
        "provider-key-and-model", "server", "server-and-model", "nested", "nested-and-model",
    ],
)  # fmt: skip
async def test_seven_of_ten_a_day_are_used_and_three_are_left_after_a_restart(
    life: Life, autojump_clock: MockClock, text: str, *, killed: bool
) -> None:
    async with life.run(text, killed=killed):
        assert await life.statuses(7) == [200] * 7
    await trio.sleep(3600)
    async with life.run(text):
        assert await life.statuses(5) == [200] * 3 + [429] * 2


async def test_the_tokens_of_a_day_are_remembered_with_those_nobody_counted(
    life: Life, autojump_clock: MockClock
) -> None:
    text = config("rate_limit: 100 tokens/day")
    async with life.run(text):
        assert await life.statuses(3) == [200] * 3
        key = life.world.gateway.config.keys[0]
        [claim] = limits.of_client(life.world.gateway.config, life.world.gateway.state, key, "m")
        [(_, left)] = limits.left(life.world.gateway.state, claim, trio.current_time())
        assert 0 < left < 100
    async with life.run(text):
        state = life.world.gateway.state
        assert [left for _, left in limits.left(state, claim, trio.current_time())] == [left]


async def test_room_comes_back_when_it_would_have_without_a_restart(
    life: Life, autojump_clock: MockClock
) -> None:
    text = config("rate_limit: 1/day")
    begun = trio.current_time()
    async with life.run(text):
        assert await life.statuses(1) == [200]
    await trio.sleep(DAY - 1)
    async with life.run(text):
        assert await life.statuses(1) == [429]
        await trio.sleep(1)
        assert trio.current_time() - begun == DAY
        assert await life.statuses(1) == [200]


async def test_another_number_for_the_same_window_counts_what_was_used(
    life: Life, autojump_clock: MockClock
) -> None:
    async with life.run(config("rate_limit: 10/day")):
        assert await life.statuses(4) == [200] * 4
    async with life.run(config("rate_limit: 5/day")):
        assert await life.statuses(2) == [200, 429]
    async with life.run(config("rate_limit: 7/day")):
        assert await life.statuses(3) == [200, 200, 429]


async def test_a_request_nobody_was_asked_for_counts_after_a_restart_too(
    life: Life, autojump_clock: MockClock
) -> None:
    async with life.run(config("rate_limit: 4/day", provider="api_key_rate_limit: 1/day")):
        assert await life.statuses(3) == [200, 200, 429]
    async with life.run(config("rate_limit: 4/day")):
        assert await life.statuses(2) == [200, 429]


async def test_a_stream_counts_before_it_has_ended(life: Life, autojump_clock: MockClock) -> None:
    life.world.provider("a", gap=10.0, tokens=60)
    text = config("rate_limit: 1/day")
    async with life.run(text, killed=True):
        life.world.nursery.start_soon(life.world.ask)
        await trio.sleep(5)
    async with life.run(text):
        assert await life.statuses(1) == [429]


async def test_windows_of_an_hour_are_not_worth_a_file(
    life: Life, autojump_clock: MockClock
) -> None:
    text = config("rate_limit: 2/h")
    async with life.run(text):
        assert await life.statuses(3) == [200, 200, 429]
    with closing(reader(life.path)) as connection:
        assert connection.execute("SELECT count(*) FROM taken").fetchone() == (0,)


# The same without a gateway, over drawn histories.

ADA = ClientKey(
    Secret("sk-ada-0000"),
    preferences=KeyPreferences(
        rate_limit=RateLimits(
            per_model=False, rules=ByModel((), RateLimit((Window(5, DAY), Window(9, 30 * DAY))))
        )
    ),
)
CONFIG = Config((Provider("a"),), (ADA,))


class Kept:
    """A state whose long windows are written down, and that may restart."""

    def __init__(self, clock: float) -> None:
        self.steps: dict[Step, Taken] = {}
        self.ahead = clock
        self.begin()

    def begin(self) -> deque[Taking]:
        self.state = State()
        self.takings = self.state.buckets.keep_takings()
        return self.takings

    def take(self, claim: Claim, now: float) -> bool:
        denied = limits.take(self.state, (claim,), 0, now)
        for taking in self.takings:
            add_up(taking, taking.start + self.ahead, self.steps)
        self.takings.clear()
        return denied is None

    def restart(self, now: float, shift: float) -> None:
        """Begin anew, on a clock of the process that stands elsewhere."""
        unix = now + self.ahead
        self.ahead -= shift
        self.begin()
        memory = Memory(sorted(self.steps.items(), key=lambda pair: pair[0].step), (), whole=True)
        restore(memory, self.state, CONFIG, now + shift, unix)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 1.0, 600.0, 7200.0, 50_000.0, DAY - 1.0, 10.0 * DAY]),
            st.booleans(),
        ),
        min_size=5,
        max_size=60,
    )
)
def test_no_window_admits_more_than_its_limit_however_often_it_restarts(
    history: list[tuple[float, bool]],
) -> None:
    [claim] = limits.of_client(CONFIG, State(), ADA, "m")
    kept, at, moved = Kept(TODAY), 0.0, 0.0
    admitted: list[float] = []
    for pause, restarts in history:
        at += pause
        if restarts:
            kept.restart(at + moved, 1000.0)
            moved += 1000.0
        if kept.take(claim, at + moved):
            admitted.append(at)
        for window in claim.limit.windows:
            assert len([one for one in admitted if one > at - window.seconds]) <= window.limit


@given(st.lists(st.floats(0, DAY / 2), min_size=1, max_size=5))
def test_a_few_that_were_used_are_given_back_a_256th_late_at_most(times: list[float]) -> None:
    [claim] = limits.of_client(CONFIG, State(), ADA, "m")
    kept = Kept(TODAY)
    for at in sorted(times):
        assert kept.take(claim, at)
    kept.restart(DAY / 2, 0.0)
    meter = kept.state.buckets.get(claim.bucket)
    assert meter is not None
    day = claim.limit.windows[0]
    assert meter.left(day, DAY / 2) == day.limit - len(times)
    for place, at in enumerate(sorted(times), start=1):
        assert meter.left(day, at + DAY + DAY / 256) >= day.limit - len(times) + place


def remembered(bucket: Bucket, window: float, last: float, unit: Unit = Unit.REQUESTS) -> Memory:
    step = Step(*bucket, unit, window, 0)
    return Memory([(step, Taken(last, 3))], (), whole=True)


def test_what_the_file_has_from_the_future_was_taken_now() -> None:
    state, bucket = State(), Bucket(Scope.CLIENT, ADA.id)
    assert restore(remembered(bucket, DAY, TODAY + 9999.0), state, CONFIG, 50.0, TODAY) == 1
    meter = state.buckets.get(bucket)
    assert meter is not None
    assert meter.left(Window(5, DAY), 50.0 + DAY - 1) == 2
    assert meter.left(Window(5, DAY), 50.0 + DAY) == 5


@pytest.mark.parametrize(
    "memory",
    [
        remembered(Bucket(Scope.CLIENT, ADA.id), DAY, TODAY - DAY),
        remembered(Bucket(Scope.CLIENT, ADA.id), 7 * DAY, TODAY),
        remembered(Bucket(Scope.CLIENT, ADA.id), DAY, TODAY, Unit.TOKENS),
        remembered(Bucket(Scope.CLIENT, "gone"), DAY, TODAY),
        remembered(Bucket(Scope.PROVIDER, "a"), DAY, TODAY),
        remembered(Bucket(Scope.SERVER), DAY, TODAY),
    ],
    ids=["over", "another-window", "another-unit", "another-key", "no-limit", "no-server-limit"],
)
def test_what_nobody_asks_for_any_more_is_not_taken_over(memory: Memory) -> None:
    state = State()
    assert restore(memory, state, CONFIG, 0.0, TODAY) == 0
    [(step, _)] = memory.taken
    assert state.buckets.get(Bucket(Scope(step.scope), step.owner, step.key, step.model)) is None


def test_how_long_channels_take_is_taken_over_for_those_there_are(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "stats.db")) as store:
        numbers = count(1)
        attempts = [replace(ATTEMPT, first=float(next(numbers))) for _ in range(30)]
        strange = replace(ATTEMPT, provider="gone")
        store.write([replace(RECORD, attempts=(one, strange), stream=True) for one in attempts], {})
        memory = Memory((), store.waits(0.0, 1000), whole=True)
    state = State()
    restore(memory, state, CONFIG, 0.0, TODAY)
    assert state.waits.percentile(("a", "up", True), 90) == 27.0
    assert state.waits.percentile(("a", "up", False), 90) is None
    assert state.waits.percentile(("gone", "up", True), 90) is None
