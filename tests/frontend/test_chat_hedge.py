"""A second channel is asked beside a slow one, where the configuration wants it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.kit.world import World
from uniapi.demo import SIXTY, Behaviour, Fault

AFTER = "preferences: {hedge: {after: 2s, budget: 100%}}"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_the_second_answers_where_the_first_is_slow(
    stream: bool, world: World, autojump_clock: MockClock
) -> None:
    first = world.provider("a", fault=Fault.HANG)
    second = world.provider("b", ttft=1)
    world.chain("a", "b", top=AFTER)
    heard = await world.ask(stream=stream)
    assert SIXTY.encode() in heard.body or heard.text() == SIXTY
    assert heard.ended_at == 3
    assert second.requests[0].time == 2
    assert first.requests[0].disconnected_at == 3
    assert "b/m;ok;hedge;ms=1000" in heard.headers["x-uniapi-attempts"]
    assert "a/m;cancelled;ms=3000" in heard.headers["x-uniapi-attempts"]
    counted = world.gateway.state.counters
    assert (counted["hedges"], counted["hedges_won"], counted["attempts_cancelled"]) == (1, 1, 1)


async def test_the_first_may_still_win(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", ttft=3, gap=1)
    second = world.provider("b", ttft=5)
    world.chain("a", "b", top=AFTER)
    heard = await world.ask()
    assert heard.text() == SIXTY
    assert heard.ended_at == 3 + 59
    assert second.requests[0].disconnected_at == 3
    counted = world.gateway.state.counters
    assert (counted["hedges"], counted["hedges_won"], counted["attempts_cancelled"]) == (1, 0, 1)


async def test_who_loses_is_not_punished(world: World, autojump_clock: MockClock) -> None:
    first = world.provider("a", ttft=3)
    world.provider("b")
    world.chain("a", "b", top=AFTER)
    for _ in range(3):
        await world.ask()
    assert len(first.requests) == 3


async def test_at_most_two_are_asked_at_once_and_one_hedge_a_request(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", ttft=20)
    world.provider("b", ttft=30)
    third = world.provider("c")
    world.chain("a", "b", "c", top=AFTER)
    heard = await world.ask()
    assert heard.ended_at == 20
    assert third.requests == []


async def test_a_channel_is_not_hedged_with_itself(world: World, autojump_clock: MockClock) -> None:
    only = world.provider("a", ttft=20)
    world.chain("a", top=AFTER)
    assert (await world.ask()).text() == SIXTY
    assert len(only.requests) == 1


async def test_when_the_hedge_fails_the_first_is_waited_for(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", ttft=10)
    world.provider("b", status=400)
    world.chain("a", "b", top=AFTER)
    heard = await world.ask()
    assert heard.text() == SIXTY
    assert heard.head_at == 10


@pytest.mark.parametrize(
    ("top", "key", "hedged"),
    [
        ("", "", False),
        ("preferences: {hedge: off}", "", False),
        ("preferences: {hedge: 2s}", "", True),  # the first of ten
        ("preferences: {hedge: 2s}", "preferences: {hedge: off}\n", False),
        ("", "preferences: {hedge: 2s}\n", True),
        ("preferences: {hedge: {after: 2s, budget: 0}}", "", False),
        ("preferences: {hedge: 2s}", "preferences: {AUTO_RETRY: false}\n", False),
    ],
)
async def test_it_is_done_where_it_is_wanted(
    top: str, key: str, hedged: bool, world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", ttft=5)
    second = world.provider("b", ttft=5)
    world.chain("a", "b", top=top, key=key)
    await world.ask()
    assert bool(second.requests) is hedged


async def test_a_tenth_of_the_requests_is_the_budget(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", ttft=5)
    second = world.provider("b")
    world.chain("a", "b", top="preferences: {hedge: 2s}")
    for _ in range(30):
        await world.ask()
    assert len(second.requests) == 3


async def test_the_usual_wait_is_learnt_first(world: World, autojump_clock: MockClock) -> None:
    waits = iter([1.0] * 18 + [4.0] * 2 + [30.0])
    world.provider("a").behaviour = lambda _: Behaviour(ttft=next(waits))
    second = world.provider("b")
    world.chain("a", "b", top="preferences: {hedge: p90}")
    for _ in range(20):
        await world.ask()
    assert second.requests == []
    began = trio.current_time()
    heard = await world.ask()
    assert second.requests[0].time == began + 1  # eighteen of twenty took no longer
    assert heard.ended_at == 1


async def test_a_client_that_leaves_ends_both(world: World, autojump_clock: MockClock) -> None:
    first = world.provider("a", fault=Fault.HANG)
    second = world.provider("b", fault=Fault.HANG)
    world.chain("a", "b", top=AFTER)
    wire = world.connect()
    await world.send(wire)
    await trio.sleep(5)
    await wire.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert first.requests[0].disconnected_at == second.requests[0].disconnected_at == 5
    assert world.gateway.client.open_connections == 0
