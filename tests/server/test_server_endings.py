"""How an answer ends: at once, wholly, and seen by whoever asked."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.kit.world import World
from tests.server.peer import chat, end_of, everything, post, settled, unhurried, well
from uniapi.demo import SIXTY


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_connection_close_gets_its_end_at_once(
    world: World, autojump_clock: MockClock, *, stream: bool
) -> None:
    world.provider("a", gap=0.5)
    wire = world.chain("a").connect()
    await wire.stream.send_all(post(chat(stream=stream), "connection: close"))
    heard = await wire.hear()
    assert (heard.ended, heard.ended_at) == ("whole", 29.5)
    assert await end_of(wire.stream) == 29.5
    await wire.stream.aclose()
    await settled(world)
    assert trio.current_time() == 29.5


async def test_http_1_0_gets_its_answer_and_the_end(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", gap=0.5)
    wire = world.chain("a").connect()
    await wire.stream.send_all(post(chat(), http="1.0"))
    answer = await everything(wire.stream)
    assert b"transfer-encoding" not in answer.partition(b"\r\n\r\n")[0]
    assert answer.endswith(b"data: [DONE]\n\n")
    assert trio.current_time() == 29.5


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/nowhere"])
async def test_head_is_get_without_the_body(
    world: World, autojump_clock: MockClock, path: str
) -> None:
    world.provider("a")
    world.chain("a")
    plain = await world.get(path)
    wire = world.connect()
    ask = f"HEAD {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer sk-client-0000\r\n\r\n"
    await wire.stream.send_all(ask.encode())
    heard = await wire.hear("HEAD")
    assert heard.status == plain.status
    assert heard.body == b""
    assert heard.headers["content-length"] == str(len(plain.body))
    await wire.stream.send_all(ask.encode())
    assert (await wire.hear("HEAD")).status == plain.status, "the connection was to be kept"


async def test_100_continue_is_said_before_the_body_is_waited_for(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a")
    wire = world.chain("a").connect()
    body = chat()
    head = post(b"", "expect: 100-continue", f"content-length: {len(body)}")
    await wire.stream.send_all(head)
    assert await wire.stream.receive_some() == b"HTTP/1.1 100 \r\n\r\n"
    await wire.stream.send_all(body)
    assert (await wire.hear()).text() == SIXTY


@pytest.mark.parametrize(
    ("key", "length", "status"), [("sk-wrong", 50, 401), ("sk-client-0000", 100_000_000, 413)]
)
async def test_a_body_that_is_not_wanted_is_not_asked_for(
    world: World, autojump_clock: MockClock, key: str, length: int, status: int
) -> None:
    world.provider("a")
    wire = world.chain("a").connect()
    await wire.stream.send_all(
        post(b"", "expect: 100-continue", f"content-length: {length}", key=key)
    )
    heard = await everything(wire.stream)
    assert heard.startswith(b"HTTP/1.1 %d " % status)
    assert trio.current_time() == 0


async def test_413_reaches_a_client_that_is_still_sending(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a")
    world.chain("a")
    wire = unhurried(world)
    await wire.stream.send_all(post(b"", "content-length: 100000000"))
    heard = []

    async def send() -> None:
        try:
            while True:
                await wire.stream.send_all(b"x" * 50_000)
                await trio.sleep(0.1)
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        heard.append(await wire.hear())
        assert await end_of(wire.stream) == 0
        await trio.sleep(1.5)  # it goes on sending for a while and is read
        assert world.server.open_connections == 1
        await trio.sleep(1)
        await settled(world)
    assert heard[0].status == 413
    assert heard[0].headers["connection"] == "close"


async def test_413_by_counting_answers_a_client_that_sends_faster_than_it_is_read(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a")
    world.chain("a", top="preferences: {max_request_body_bytes: 1000}")
    wire = unhurried(world)
    await wire.stream.send_all(post(b"", "transfer-encoding: chunked"))
    await trio.testing.wait_all_tasks_blocked()
    # Far more pieces, in one read, than may wait between the reader and the application.
    await wire.stream.send_all((b"64\r\n" + b" " * 100 + b"\r\n") * 50)
    await trio.sleep(1)
    heard = await wire.hear()
    assert (heard.status, heard.ended_at) == (413, 0)
    assert await end_of(wire.stream) == 1
    await wire.stream.aclose()
    await settled(world)
    assert await well(world)


async def test_an_early_refusal_leaves_nothing_behind_when_the_body_never_comes(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a")
    wire = world.chain("a").connect()
    await wire.stream.send_all(post(b"", "content-length: 500", key="sk-wrong"))
    assert (await wire.hear()).status == 401
    assert await end_of(wire.stream) == 0
    await trio.sleep(2)
    await settled(world)


async def test_a_refused_request_whose_body_was_read_keeps_its_connection(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a")
    wire = world.chain("a").connect()
    await wire.stream.send_all(post(b"{}"))
    assert (await wire.hear()).status == 422
    await wire.stream.send_all(post(chat()))
    assert (await wire.hear()).status == 200
