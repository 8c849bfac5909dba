"""Requests sent ahead: answered in order, and never a blindfold."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.kit.world import World
from tests.server.peer import GET_HEALTH, chat, end_of, post, settled
from uniapi.codec import loads
from uniapi.demo import SIXTY


async def test_pipelined_requests_are_answered_in_order(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", gap=0.5)
    wire = world.chain("a").connect()
    first, second = post(chat(stream=False)), post(chat())
    await wire.stream.send_all(first + GET_HEALTH + second)
    heard = await wire.hear()
    assert heard.ended_at == 29.5
    match loads(heard.body):
        case {"choices": [{"message": {"content": text}}]}:
            assert text == SIXTY
        case other:
            raise AssertionError(other)
    health = await wire.hear("GET")
    assert health.status == 200
    assert health.ended_at == 0
    streamed = await wire.hear()
    assert streamed.text() == SIXTY
    assert streamed.ended_at == 29.5
    await wire.stream.aclose()
    await settled(world)


async def test_a_pipelined_request_may_come_in_pieces(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", gap=0.5)
    wire = world.chain("a").connect()
    await wire.stream.send_all(post(chat()) + GET_HEALTH[:10])
    await trio.sleep(10)
    await wire.stream.send_all(GET_HEALTH[10:])
    assert (await wire.hear()).ended_at == 29.5 - 10
    assert (await wire.hear("GET")).status == 200


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("ahead", [b"", GET_HEALTH, b"GE"], ids=["nothing", "a request", "a bit"])
async def test_the_clients_leaving_cancels_the_upstream_at_once(
    world: World, autojump_clock: MockClock, ahead: bytes, *, stream: bool
) -> None:
    upstream = world.provider("a", ttft=2, gap=1)
    wire = world.chain("a").connect()
    await wire.stream.send_all(post(chat(stream=stream)))
    await trio.sleep(1)
    await wire.stream.send_all(ahead or b"\r\n")
    await trio.sleep(6)
    await wire.stream.aclose()
    await settled(world)
    assert upstream.requests[0].disconnected_at == 7
    assert upstream.open_connections == 0
    assert trio.current_time() == 7


async def test_a_half_close_is_a_leaving(world: World, autojump_clock: MockClock) -> None:
    upstream = world.provider("a", ttft=2, gap=1)
    wire = world.chain("a").connect()
    await wire.stream.send_all(post(chat()) + GET_HEALTH)
    await trio.sleep(1)
    assert isinstance(wire.stream, trio.StapledStream)
    await wire.stream.send_eof()
    await end_of(wire.stream)
    await settled(world)
    assert upstream.requests[0].disconnected_at == 1


async def test_more_than_64_kb_ahead_is_hung_up_on(world: World, autojump_clock: MockClock) -> None:
    upstream = world.provider("a", gap=1)
    wire = world.chain("a").connect()
    await wire.stream.send_all(post(chat()))
    await trio.sleep(5.5)
    for _ in range(3):
        await wire.stream.send_all(GET_HEALTH * 1000)
    assert await end_of(wire.stream) == 5.5
    await wire.stream.aclose()
    await settled(world)
    assert upstream.requests[0].disconnected_at == 5.5


async def test_64_kb_ahead_are_kept_and_answered(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", gap=1, tokens=4)
    wire = world.chain("a").connect()
    many = 60_000 // len(GET_HEALTH)
    await wire.stream.send_all(post(chat()) + GET_HEALTH * many)
    assert (await wire.hear()).status == 200
    for _ in range(many):
        assert (await wire.hear("GET")).status == 200
