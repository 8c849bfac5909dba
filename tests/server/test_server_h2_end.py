"""How connections of HTTP/2 end: with a GOAWAY, and not before the last stream is over.

A GOAWAY before the last stream is over would end it in every client that goes by h2: to h2 a
connection that is going away is closed, and data that comes over it a mistake.
"""

from __future__ import annotations

import inspect
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
import trio
from h2.errors import ErrorCodes
from hypercorn.config import Config
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from trio.testing import MockClock, memory_stream_pair

from tests.kit.world import World
from tests.server.peer import begun, chat
from uniapi.server.bind import Bind
from uniapi.server.connection import IDLE_TIMEOUT, Tasks
from uniapi.server.h2 import H2

TLS = Path(__file__).parents[1] / "fixtures" / "tls"


def test_what_is_overridden_here_is_what_hypercorn_calls() -> None:
    assert "await self._send_data(stream_id)" in inspect.getsource(H2Protocol.send_task)
    assert inspect.iscoroutinefunction(H2Protocol._close_stream)
    assert isinstance(vars(H2Protocol)["idle"], property)
    closed = inspect.getsource(H2Protocol.stream_send).partition("(event, StreamClosed)")[2]
    assert "await self._close_stream(event.stream_id)" in closed
    assert "await self.send(Updated(idle=idle))" in closed


@dataclass
class Client:
    """One HTTP/2 connection over TLS over memory, and all it heard with the second it came.

    Attributes:
        heads: status by stream.
        bodies: what came of a body by stream.
        ended: by stream: when, and with which error, None for an answer that is whole.
        goodbyes: of every GOAWAY: when it came, its error and the last stream it promises.
        closed_at: when the connection was closed.
    """

    stream: trio.SSLStream[trio.abc.Stream]
    http: h2.connection.H2Connection = field(
        default_factory=lambda: h2.connection.H2Connection(h2.config.H2Configuration())
    )
    heads: dict[int, str] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    ended: dict[int, tuple[float, int | None]] = field(default_factory=dict)
    goodbyes: list[tuple[float, int | None, int | None]] = field(default_factory=list)
    closed_at: float | None = None

    async def listen(self) -> None:
        self.http.initiate_connection()
        await self.flush()
        while data := bytes(await self.stream.receive_some()):
            for event in self.http.receive_data(data):
                self.take(event)
            await self.flush()
        self.closed_at = trio.current_time()

    async def flush(self) -> None:
        if data := self.http.data_to_send():
            await self.stream.send_all(data)

    def take(self, event: h2.events.Event) -> None:
        now = trio.current_time()
        match event:
            case h2.events.ResponseReceived(stream_id=stream, headers=headers):
                self.heads[stream] = dict(headers)[b":status"].decode()
            case h2.events.DataReceived(stream_id=stream, data=part):
                self.bodies[stream] = self.bodies.get(stream, b"") + part
                self.http.acknowledge_received_data(event.flow_controlled_length, stream)
            case h2.events.StreamEnded(stream_id=stream):
                self.ended[stream] = (now, None)
            case h2.events.StreamReset(stream_id=stream, error_code=code):
                self.ended[stream] = (now, int(code))
            case h2.events.ConnectionTerminated(error_code=code, last_stream_id=last):
                self.goodbyes.append((now, code, last))
            case _:
                pass

    async def begin(self, method: str, path: str, body: bytes = b"") -> int:
        stream = begun(self.http, method, path, end=not body)
        if body:
            self.http.send_data(stream, body, end_stream=True)
        await self.flush()
        return stream

    async def ask(self) -> int:
        return await self.begin("POST", "/v1/chat/completions", chat())


class Listener(trio.abc.Listener[trio.SSLStream[trio.abc.Stream]]):
    """Accepts clients over TLS over memory."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self._send, self._receive = trio.open_memory_channel[trio.SSLStream[trio.abc.Stream]](10)
        context = Bind("m", 0, f"{TLS / 'localhost.pem'}", f"{TLS / 'localhost.key'}").ssl_context()
        assert context is not None
        self.context = context

    async def connect(self) -> Client:
        ours, theirs = memory_stream_pair()
        self._send.send_nowait(trio.SSLStream(theirs, self.context, server_side=True))
        trust = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
        trust.set_alpn_protocols(["h2"])
        client = Client(trio.SSLStream(ours, trust, server_hostname="localhost"))
        self.nursery.start_soon(client.listen)
        await trio.testing.wait_all_tasks_blocked()
        return client

    async def accept(self) -> trio.SSLStream[trio.abc.Stream]:
        return await self._receive.receive()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@dataclass
class Running:
    """A server told to stop at a second of the test's choosing; 60 tokens take it 29.5 s."""

    world: World
    listener: Listener
    ended_at: float | None = None

    async def run(self) -> None:
        await self.world.server.serve([self.listener], self.world.server.serve_transport)
        self.ended_at = trio.current_time()

    async def stop_at(self, second: float) -> None:
        await trio.sleep_until(second)
        self.world.server.stop()
        await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
async def running(world: World) -> Running:
    world.provider("a", gap=0.5)
    world.chain("a")
    built = Running(world, Listener(world.nursery))
    world.nursery.start_soon(built.run)
    return built


async def test_an_idle_connection_is_told_and_closed_at_once(
    running: Running, autojump_clock: MockClock
) -> None:
    fresh, used = await running.listener.connect(), await running.listener.connect()
    health = await used.begin("GET", "/healthz")
    await running.stop_at(3)
    assert (used.heads[health], used.ended[health]) == ("200", (0, None))
    assert fresh.goodbyes == [(3, ErrorCodes.NO_ERROR, 0)]
    assert used.goodbyes == [(3, ErrorCodes.NO_ERROR, health)]
    assert (fresh.closed_at, used.closed_at, running.ended_at) == (3, 3, 3)


async def test_open_streams_finish_whole_before_the_goodbye(
    running: Running, autojump_clock: MockClock
) -> None:
    client = await running.listener.connect()
    first = await client.ask()
    await trio.sleep(2)
    last = await client.ask()
    await running.stop_at(5)
    assert client.goodbyes == []
    await trio.sleep(40)
    assert client.ended == {first: (29.5, None), last: (31.5, None)}
    assert all(body.endswith(b"data: [DONE]\n\n") for body in client.bodies.values())
    assert client.goodbyes == [(31.5, ErrorCodes.NO_ERROR, last)]
    assert (client.closed_at, running.ended_at) == (31.5, 31.5)


async def test_what_is_asked_later_may_safely_be_asked_elsewhere_and_harms_no_open_stream(
    running: Running, autojump_clock: MockClock
) -> None:
    client = await running.listener.connect()
    answer = await client.ask()
    await running.stop_at(5)
    refused = []
    for _ in range(3):
        refused.append(await client.ask())
        await trio.sleep(1)
    assert [client.ended[stream] for stream in refused] == [
        (5, ErrorCodes.REFUSED_STREAM),
        (6, ErrorCodes.REFUSED_STREAM),
        (7, ErrorCodes.REFUSED_STREAM),
    ]
    assert len(running.world.network.providers["a"].requests) == 1
    await trio.sleep(30)
    assert client.ended[answer] == (29.5, None)
    assert (client.closed_at, running.ended_at) == (29.5, 29.5)


async def test_a_stream_that_its_client_gives_up_is_waited_for_no_longer(
    running: Running, autojump_clock: MockClock
) -> None:
    client = await running.listener.connect()
    answer = await client.ask()
    await running.stop_at(5)
    await trio.sleep(5)
    client.http.reset_stream(answer, ErrorCodes.CANCEL)
    await client.flush()
    await trio.sleep(5)
    assert client.goodbyes == [(10, ErrorCodes.NO_ERROR, answer)]
    assert (client.closed_at, running.ended_at) == (10, 10)


async def test_a_connection_whose_last_stream_was_given_up_is_idle(
    running: Running, autojump_clock: MockClock
) -> None:
    client = await running.listener.connect()
    answer = await client.ask()
    await trio.sleep(5)
    client.http.reset_stream(answer, ErrorCodes.CANCEL)
    await client.flush()
    await trio.sleep(200)
    assert client.closed_at == 5 + IDLE_TIMEOUT


async def test_a_stream_given_up_beside_another_makes_nothing_idle(
    running: Running, autojump_clock: MockClock
) -> None:
    running.world.provider("a", gap=10, tokens=20)
    client = await running.listener.connect()
    given_up, answer = await client.ask(), await client.ask()
    await trio.sleep(5)
    client.http.reset_stream(given_up, ErrorCodes.CANCEL)
    await client.flush()
    await trio.sleep(200)
    assert client.ended == {answer: (190, None)}


async def test_the_grace_ends_streams_at_its_exact_second_and_in_words(
    running: Running, autojump_clock: MockClock
) -> None:
    running.world.provider("a", gap=1, tokens=1000)
    client = await running.listener.connect()
    answer = await client.ask()
    await running.stop_at(5)
    await trio.sleep(40)
    assert client.ended[answer] == (35, None)
    assert b'"code":"stopped"' in client.bodies[answer]
    assert b"[DONE]" not in client.bodies[answer], "what was cut must not look whole"
    assert (client.closed_at, running.ended_at) == (35, 35)


async def test_a_connection_in_its_handshake_is_not_waited_for(
    running: Running, autojump_clock: MockClock
) -> None:
    ours, theirs = memory_stream_pair()
    context = running.listener.context
    running.listener._send.send_nowait(trio.SSLStream(theirs, context, server_side=True))
    await running.stop_at(3)
    await trio.sleep(20)
    assert running.ended_at == 10, "the time a handshake may take"
    await ours.aclose()


async def test_a_connection_that_ends_in_the_same_instant_is_no_trouble() -> None:
    async with trio.open_nursery() as nursery:
        pass

    async def send(event: object) -> None:
        raise AssertionError(event)

    gone = H2(
        None,  # type: ignore[arg-type] # nobody asks anything
        Config(), WorkerContext(None),
        Tasks(nursery),  # type: ignore[arg-type] # as the connection gives it
        ConnectionState({}), True, None, None, send,
    )  # fmt: skip
    gone.leave()
