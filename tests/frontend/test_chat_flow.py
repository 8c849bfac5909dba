"""What a client sees of one request, over the whole gateway, to the exact second."""

from __future__ import annotations

from trio.testing import MockClock

from tests.kit.world import World
from uniapi.demo import SIXTY, Fault


async def test_an_answer_streams_through(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", gap=0.5)
    world.chain("a")
    heard = await world.ask()
    assert heard.status == 200
    assert heard.text() == SIXTY
    assert heard.events()[-1] == b"[DONE]"
    assert heard.ended == "whole"
    assert heard.ended_at == 59 * 0.5


async def test_an_answer_comes_whole(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", gap=0.5)
    world.chain("a")
    heard = await world.ask(stream=False)
    match heard.json():
        case {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}:
            assert text == SIXTY
        case other:
            raise AssertionError(other)


async def test_the_second_answers_when_the_first_stalls(
    world: World, autojump_clock: MockClock
) -> None:
    first = world.provider("a", fault=Fault.HANG)
    world.provider("b")
    world.chain("a", "b", top="preferences: {model_timeout: {m: 10}}")
    heard = await world.ask()
    assert heard.text() == SIXTY
    assert heard.ended_at == 10
    assert len(first.requests) == 1
    assert first.requests[0].disconnected_at == 10
