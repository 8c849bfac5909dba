"""Everything a client may keep waiting for has its second, and it is kept exactly."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.kit.world import World
from tests.server.peer import GET_HEALTH, chat, end_of, post, settled, unhurried
from uniapi.demo import Fault


async def test_a_silent_connection_is_closed_after_75_seconds(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a")
    wire = world.chain("a").connect()
    assert await end_of(wire.stream) == 75
    await settled(world)


async def test_a_kept_alive_connection_is_closed_75_seconds_after_its_answer(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", gap=0.1, tokens=11)
    wire = world.chain("a").connect()
    for nth in range(2):
        await world.send(wire)
        heard = await wire.hear()
        assert heard.ended == "whole", nth
        await trio.sleep(50)
    assert await end_of(wire.stream) == 50 + 1 + 1 + 75
    await settled(world)


async def test_a_head_that_drips_is_closed_10_seconds_after_its_first_byte(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a")
    wire = world.chain("a").connect()
    await trio.sleep(20)
    ends: list[float] = []

    async def listen() -> None:
        ends.append(await end_of(wire.stream))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        for byte in b"GET /healthz HTTP":
            try:
                await wire.stream.send_all(bytes([byte]))
            except trio.BrokenResourceError:
                break
            await trio.sleep(1)
    assert ends == [30]


async def test_a_second_head_that_drips_has_10_seconds_too(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a")
    wire = world.chain("a").connect()
    await wire.stream.send_all(GET_HEALTH)
    assert (await wire.hear("GET")).status == 200
    await trio.sleep(40)
    await wire.stream.send_all(b"GET /hea")
    assert await end_of(wire.stream) == 50


@pytest.mark.parametrize("encoding", ["content-length: 1000", "transfer-encoding: chunked"])
async def test_a_body_that_stalls_gets_408_after_60_seconds(
    world: World, autojump_clock: MockClock, encoding: str
) -> None:
    world.provider("a")
    wire = world.chain("a").connect()
    await wire.stream.send_all(post(b"5\r\nabcde\r\n", encoding))
    heard = await wire.hear()
    assert (heard.status, heard.head_at) == (408, 60)
    assert await end_of(wire.stream) == 60
    await wire.stream.aclose()
    await settled(world)
    assert trio.current_time() == 60


async def test_a_client_that_stops_reading_is_cut_and_its_upstream_with_it(
    world: World, autojump_clock: MockClock
) -> None:
    upstream = world.provider("a", gap=1, tokens=1000)
    world.chain("a")
    wire = unhurried(world)
    await world.send(wire)
    assert (await wire.stream.receive_some(1)) == b"H"
    await trio.sleep(60)
    await settled(world)
    assert trio.current_time() == 60
    assert upstream.requests[0].disconnected_at == 60
    assert upstream.open_connections == 0


async def test_a_client_that_stops_reading_half_way_is_cut_60_seconds_later(
    world: World, autojump_clock: MockClock
) -> None:
    upstream = world.provider("a", gap=1, tokens=1000)
    world.chain("a")
    wire = unhurried(world)
    await world.send(wire)
    with trio.move_on_after(10.5):
        await end_of(wire.stream)
    await trio.sleep_until(71)
    await settled(world)
    # What came at the second 11 was the first it did not take.
    assert upstream.requests[0].disconnected_at == 71


async def test_a_slow_reader_of_a_large_answer_is_not_a_stalled_one(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", text="x" * 200_000)
    world.chain("a")
    wire = unhurried(world)
    await world.send(wire)
    got = b""
    while not got.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
        data = await wire.stream.receive_some(2048)
        assert data, f"cut after {len(got)} bytes"
        got += bytes(data)
        await trio.sleep(1)
    assert trio.current_time() > 90


async def test_a_client_that_never_reads_an_error_is_cut_too(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.REFUSE)
    world.chain("a")
    wire = unhurried(world)
    await wire.stream.send_all(post(chat(), key="sk-nobody"))
    await trio.sleep(60)
    await settled(world)
