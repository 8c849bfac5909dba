"""The end: no new connections, streams that finish, and a grace kept to the second."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from tests.kit.replies import Reply
from tests.kit.wire import Heard
from tests.kit.world import World
from tests.server.peer import GET_HEALTH, MemoryListener, chat, end_of, everything, post
from uniapi.codec import Json, dumps, loads
from uniapi.demo import SIXTY

STOPPED: Json = {
    "error": {
        "message": "the gateway was stopped; ask again",
        "type": "server_error",
        "param": None,
        "code": "stopped",
    }
}


@dataclass
class Running:
    """A server on a listener of memory, told to stop at a second of the test's choosing."""

    world: World
    listener: MemoryListener = field(default_factory=MemoryListener)
    ended_at: float | None = None
    ended: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        await self.world.server.serve([self.listener], self.world.server.serve_transport)
        self.ended_at = trio.current_time()
        self.ended.set()


@pytest.fixture
def running(world: World) -> Running:
    running = Running(world)
    world.provider("a", gap=0.5)
    world.chain("a")
    world.nursery.start_soon(running.run)
    return running


async def streaming(running: Running, into: list[Heard]) -> None:
    wire = running.listener.connect()
    await wire.stream.send_all(post(chat()))

    async def hear() -> None:
        into.append(await wire.hear())
        await end_of(wire.stream)
        await wire.stream.aclose()

    running.world.nursery.start_soon(hear)


async def streamed_until_the_grace_ends(running: Running) -> Heard:
    """What a client of a stream heard of a server that was told to stop at 5 s."""
    heard: list[Heard] = []
    await streaming(running, heard)
    await trio.sleep(5)
    running.world.server.stop()
    await running.ended.wait()
    assert running.ended_at == 5 + 30
    await trio.testing.wait_all_tasks_blocked()
    return heard[0]


async def test_with_nothing_to_do_it_ends_at_once(
    running: Running, autojump_clock: MockClock
) -> None:
    await trio.sleep(3)
    running.world.server.stop()
    await running.ended.wait()
    assert (running.listener.closed_at, running.ended_at) == (3, 3)


async def test_idle_connections_are_closed_at_once(
    running: Running, autojump_clock: MockClock
) -> None:
    fresh, kept = running.listener.connect(), running.listener.connect()
    await kept.stream.send_all(GET_HEALTH)
    assert (await kept.hear("GET")).status == 200
    await trio.sleep(3)
    running.world.server.stop()
    assert await end_of(fresh.stream) == 3
    assert await end_of(kept.stream) == 3
    await running.ended.wait()
    assert running.ended_at == 3


async def test_a_stream_is_let_finish_and_then_closed(
    running: Running, autojump_clock: MockClock
) -> None:
    heard: list[Heard] = []
    await streaming(running, heard)
    await trio.sleep(5)
    running.world.server.stop()
    await running.ended.wait()
    assert running.ended_at == 29.5
    assert heard[0].text() == SIXTY
    assert heard[0].events()[-1] == b"[DONE]"


async def test_a_head_under_way_is_still_served(
    running: Running, autojump_clock: MockClock
) -> None:
    wire = running.listener.connect()
    await wire.stream.send_all(GET_HEALTH[:10])
    await trio.sleep(2)
    running.world.server.stop()
    await trio.sleep(2)
    await wire.stream.send_all(GET_HEALTH[10:])
    assert (await wire.hear("GET")).status == 200
    assert await end_of(wire.stream) == 4
    await running.ended.wait()


async def test_what_was_pipelined_behind_the_last_answer_is_not_begun(
    running: Running, autojump_clock: MockClock
) -> None:
    wire = running.listener.connect()
    await wire.stream.send_all(post(chat()) + GET_HEALTH)
    await trio.sleep(5)
    running.world.server.stop()
    answer = await everything(wire.stream)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert trio.current_time() == 29.5


async def test_the_grace_ends_streams_at_its_exact_second_and_in_words(
    running: Running, autojump_clock: MockClock
) -> None:
    upstream = running.world.provider("a", gap=1, tokens=1000)
    heard = await streamed_until_the_grace_ends(running)
    assert upstream.requests[0].disconnected_at == 35
    assert heard.ended_at == 35
    assert loads(heard.events()[-1]) == STOPPED, "what was cut must not look whole"


async def test_who_has_heard_nothing_yet_gets_a_503(
    running: Running, autojump_clock: MockClock
) -> None:
    upstream = running.world.provider("a", ttft=1000)
    heard = await streamed_until_the_grace_ends(running)
    assert upstream.requests[0].disconnected_at == 35
    assert (heard.status, heard.json()) == (503, STOPPED)
    assert heard.headers["x-uniapi-attempts"].startswith("a/m;cancelled;")


async def test_an_answer_whose_format_has_no_word_for_it_is_cut(
    running: Running, autojump_clock: MockClock
) -> None:
    pieces = [(second, b"sound") for second in range(1000)]
    running.world.fake("a", {"/v1/audio/speech": Reply(kind="audio/mpeg", pieces=pieces)})
    wire, heard = running.listener.connect(), list[Heard]()
    asked = dumps({"model": "m", "input": "Hello", "voice": "alloy"})
    await wire.stream.send_all(
        post(asked, "content-type: application/json", path="/v1/audio/speech")
    )

    async def hear() -> None:
        heard.append(await wire.hear())
        await wire.stream.aclose()

    running.world.nursery.start_soon(hear)
    await trio.sleep(5.5)
    running.world.server.stop()
    await running.ended.wait()
    assert running.ended_at == 35.5
    await trio.testing.wait_all_tasks_blocked()
    assert (heard[0].status, heard[0].ended) == (200, "cut")
    assert heard[0].body == b"sound" * 36


async def test_a_client_that_does_not_read_its_last_words_has_a_second_for_them(
    running: Running, autojump_clock: MockClock
) -> None:
    running.world.provider("a", gap=1, tokens=1000)
    wire = running.listener.connect_unhurried()
    await wire.stream.send_all(post(chat()))
    await trio.sleep(1)
    running.world.server.stop()
    await running.ended.wait()
    assert running.ended_at == 1 + 30 + 1


async def test_cancelling_ends_everything_in_the_same_second(
    world: World, autojump_clock: MockClock
) -> None:
    running = Running(world)
    upstream = world.provider("a", gap=1, tokens=1000)
    world.chain("a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.run)
        heard: list[Heard] = []
        await streaming(running, heard)
        stalled = running.listener.connect_unhurried()
        await stalled.stream.send_all(post(chat()))
        await trio.sleep(7)
        nursery.cancel_scope.cancel()
    assert trio.current_time() == 7
    await trio.testing.wait_all_tasks_blocked()
    assert [seen.disconnected_at for seen in upstream.requests] == [7, 7]
