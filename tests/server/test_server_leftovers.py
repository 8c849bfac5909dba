"""What requests leave behind in memory: nothing that must wait for the garbage collector."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.kit.world import World
from uniapi.demo import Fault


@contextmanager
def cycles() -> Iterator[Counter[str]]:
    """Count, by type, what of ours only the garbage collector can free after the block."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        names = (f"{type(item).__module__}.{type(item).__qualname__}" for item in gc.garbage)
        found.update(name for name in names if name.startswith("uniapi."))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answered_request_leaves_no_cycle(
    world: World, autojump_clock: MockClock, stream: bool
) -> None:
    world.provider("a")
    world.chain("a")
    await world.ask(stream=stream)
    with cycles() as left:
        for _ in range(3):
            await world.ask(stream=stream)
    assert left == Counter()


async def test_a_failover_leaves_no_cycle(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", fault=Fault.CUT)
    world.provider("b")
    world.chain("a", "b", top="preferences: {cooldown_period: 0}")
    await world.ask()
    with cycles() as left:
        for _ in range(3):
            await world.ask()
    assert left == Counter()


async def test_a_client_that_leaves_leaves_no_cycle(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", gap=1)
    world.chain("a")
    await world.ask()
    with cycles() as left:
        wire = world.connect()
        await world.send(wire)
        await wire.stream.receive_some()
        await wire.stream.aclose()
        await trio.sleep(30)
    assert left == Counter()


async def test_a_client_that_leaves_before_the_first_token_leaves_no_cycle(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.HANG)
    world.chain("a")
    with cycles() as left:
        wire = world.connect()
        await world.send(wire)
        await trio.sleep(1)
        await wire.stream.aclose()
        await trio.sleep(30)
    assert left == Counter()


async def test_a_hedged_request_leaves_no_cycle(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", ttft=60)
    world.provider("b")
    world.chain("a", "b", top="preferences: {hedge: {after: 5s, budget: 100%}}")
    with cycles() as left:
        heard = await world.ask()
        assert heard.ended_at == 5
        await trio.sleep(30)
    assert left == Counter()
