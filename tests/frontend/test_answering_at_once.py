"""Batches that the leg's own task shows: only while nothing comes before them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import cast

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.kit.world import config_of
from uniapi.errors import Failure, Kind
from uniapi.events import Batch, StreamFailed, Text
from uniapi.frontend.answering import Answering
from uniapi.frontend.asking import Asking
from uniapi.race import Leg, run_race
from uniapi.routing.plan import Ask, make_plan
from uniapi.routing.walk import Walk
from uniapi.state import State
from uniapi.upstream.translator import Translator

CONFIG = config_of(
    "providers:\n  - {provider: p, base_url: 'http://p', model: [m]}\n"
    "api_keys:\n  - api: sk-show-0000\n"
)
BROKEN = Failure(Kind.CUT, "the connection broke", 502)


def words(*texts: str) -> Batch:
    return Batch(tuple(Text(text) for text in texts))


def text(batch: Batch | None) -> str:
    return "" if batch is None else "".join(e.text for e in batch.events if isinstance(e, Text))


@dataclass
class Scene:
    """One leg that does as it is told, and the answer that is read from it."""

    told: Answering
    leg: Leg
    says: trio.MemorySendChannel[tuple[Batch, ...]]
    shown: list[str] = field(default_factory=list)

    async def say(self, *batches: Batch) -> None:
        """The leg hands these on without a pause between them."""
        await self.says.send(batches)
        await wait_all_tasks_blocked()


@asynccontextmanager
async def answering(show: Callable[[str], bool]) -> AsyncIterator[Scene]:
    """The leg has said "one", which waits to be read."""
    rng, state, shown = Random(1), State(), list[str]()  # noqa: S311 - a fixed seed, for jitter
    walk = Walk(make_plan(CONFIG, state, CONFIG.keys[0], Ask("m"), 0.0, rng), CONFIG, state, rng)
    send, receive = trio.open_memory_channel[tuple[Batch, ...]](9)

    async def translate(leg: Leg) -> None:
        await leg.pass_on(words("one"))
        async for batches in receive:
            for batch in batches:
                await leg.pass_on(batch)

    def showing(batch: Batch) -> bool:
        shown.append(text(batch))
        return show(text(batch))

    async with trio.open_nursery() as nursery:
        leg = await run_race(nursery, walk, translate, [])
        assert leg is not None
        # Nobody else is asked here, and nothing but the leg is looked at.
        asking, translator = cast("Asking", None), cast("Translator", None)
        told = Answering(asking, translator, leg, rescues=False, show=showing)
        yield Scene(told, leg, send, shown)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def waiting(show: Callable[[str], bool]) -> AsyncIterator[tuple[Scene, list[Batch | None]]]:
    """The writer has read "one" and waits for more; what it comes to is in the list."""
    async with answering(show) as scene, trio.open_nursery() as nursery:
        assert text(await scene.told.next()) == "one"
        found: list[Batch | None] = []

        async def read() -> None:
            found.append(await scene.told.next())

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        yield scene, found
        nursery.cancel_scope.cancel()


async def test_what_comes_while_the_writer_waits_is_shown_and_the_writer_sleeps_on(
    autojump_clock: MockClock,
) -> None:
    async with waiting(lambda _text: True) as (scene, found):
        await scene.say(words("two"), words("three"))
        assert scene.shown == ["two", "three"]
        assert found == []
    assert scene.leg.taker is None


async def test_nothing_is_shown_before_what_already_waits(autojump_clock: MockClock) -> None:
    async with answering(lambda _text: True) as scene:
        assert text(await scene.told.next()) == "one"
        for _ in range(20):  # which of the two tasks is the first in a tick is trio's to draw
            await scene.say(words("two"))
            scene.says.send_nowait((words("three"),))  # comes while "two" is being received
            assert text(await scene.told.next()) == "two"
            await wait_all_tasks_blocked()
            assert scene.shown == []
            assert text(await scene.told.next()) == "three"


async def test_what_follows_a_batch_of_which_some_is_owing_waits_for_the_writer(
    autojump_clock: MockClock,
) -> None:
    async with waiting(lambda text: text != "two") as (scene, found):
        await scene.say(words("two"), words("three"))
        assert scene.shown == ["two"]
        assert found == [Batch((), b"")]  # the writer sends what is owing
        assert text(scene.told.ready()) == "three"


async def test_a_failure_wakes_the_writer_while_the_leg_still_hangs_up(
    autojump_clock: MockClock,
) -> None:
    async with waiting(lambda _text: True) as (scene, found):
        await scene.say(Batch((Text("two"), StreamFailed(BROKEN))))
        assert [text(batch) for batch in found] == ["two"]
        assert scene.told.failure == BROKEN
        assert not scene.leg.closed.is_set()
