"""Our transport's own promises, over streams of memory and in virtual time."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import httpx
import pytest
import trio
from trio.testing import (
    MemoryReceiveStream,
    MockClock,
    lockstep_stream_pair,
    memory_stream_pair,
)

from tests.upstream.bodies import chunks
from uniapi.upstream.httperrors import StaleConnectionError
from uniapi.upstream.transport import Transport


class Wire(trio.abc.Stream):
    """The client's end of a memory stream, which knows when it was closed and what waits."""

    def __init__(self, stream: trio.abc.Stream, *, probed: bool = True) -> None:
        self.stream = stream
        self.closed_at: float | None = None
        self.reads = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self.reads += 1
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        if self.closed_at is None:
            self.closed_at = trio.current_time()
        await self.stream.aclose()


class ProbedWire(Wire):
    """As the real network's streams: can be asked whether there is something to read."""

    def readable(self) -> bool:
        match self.stream:
            case trio.StapledStream(receive_stream=MemoryReceiveStream() as end):
                return end._incoming._closed or bool(end._incoming._data)
            case _:
                raise AssertionError(self.stream)


class Line:
    """The server's end of one connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.buffer = b""

    async def request(self) -> tuple[bytes, bytes]:
        """Head and body of the next request; EndOfChannel when there is none."""
        while b"\r\n\r\n" not in self.buffer:
            await self.more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(self.buffer) < length:
            await self.more()
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return head, body

    async def more(self) -> None:
        data = await self.stream.receive_some()
        if not data:
            raise trio.EndOfChannel
        self.buffer += data

    async def say(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def close(self) -> None:
        await self.stream.aclose()


Script: TypeAlias = Callable[[Line], Awaitable[None]]


def echo(line: Line) -> Awaitable[None]:
    """Answers every request with its own body."""

    async def run() -> None:
        while True:
            _, body = await line.request()
            await line.say(sized(body))

    return run()


def sized(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


@dataclass
class MemoryNetwork:
    """A server behind every host, run by `script`."""

    nursery: trio.Nursery
    script: Script = echo
    delay: float = 0
    probed: bool = True
    pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = memory_stream_pair
    wires: list[Wire] = field(default_factory=list)
    asked: list[tuple[str, int, bool]] = field(default_factory=list)

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        self.asked.append((host, port, tls))
        await trio.sleep(self.delay)
        ours, theirs = self.pair()
        wire = ProbedWire(ours) if self.probed else Wire(ours)
        self.wires.append(wire)
        self.nursery.start_soon(self._serve, theirs)
        return wire

    async def _serve(self, stream: trio.abc.Stream) -> None:
        async with stream:
            # the client hung up, as it may
            with suppress(trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError):
                await self.script(Line(stream))

    @property
    def open(self) -> int:
        return sum(wire.closed_at is None for wire in self.wires)


def post(content: bytes = b"hi", url: str = "http://a/") -> httpx.Request:
    return httpx.Request("POST", url, content=content)


async def ask(transport: Transport, request: httpx.Request | None = None) -> bytes:
    response = await transport.handle_async_request(request or post())
    try:
        return await response.aread()
    finally:
        await response.aclose()


@pytest.fixture
async def network(nursery: trio.Nursery) -> MemoryNetwork:
    return MemoryNetwork(nursery)


async def silence(line: Line) -> None:
    await line.request()
    await trio.sleep_forever()


# connecting


async def test_connecting_is_given_up_at_exactly_its_timeout(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    network.delay = 15.1
    transport = Transport(network)
    with pytest.raises(httpx.ConnectTimeout, match=r"^cannot connect to a:80 within 15 s$"):
        await ask(transport)
    assert trio.current_time() == 15
    assert transport.open_connections == 0


async def test_a_connection_that_takes_nearly_as_long_is_used(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    network.delay = 14.9
    assert await ask(Transport(network)) == b"hi"
    assert trio.current_time() == 14.9


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://a/", ("a", 80, False)),
        ("https://a/", ("a", 443, True)),
        ("https://a:8443/", ("a", 8443, True)),
        ("http://user:pass@[::1]:81/", ("::1", 81, False)),
        ("http://bücher.example/", ("xn--bcher-kva.example", 80, False)),
    ],
)
async def test_the_network_is_asked_for_host_port_and_tls(
    network: MemoryNetwork, autojump_clock: MockClock, url: str, asked: tuple[str, int, bool]
) -> None:
    await ask(Transport(network), post(url=url))
    assert network.asked == [asked]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (OSError(1, "x" * 5000), "x{200}"),
        (UnicodeError("label too long"), "label too long"),
        (trio.BrokenResourceError(), "BrokenResourceError"),
    ],
)
async def test_what_the_network_raises_becomes_a_connect_error(
    error: Exception, words: str
) -> None:
    class Nobody:
        async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
            raise error

    transport = Transport(Nobody())
    with pytest.raises(httpx.ConnectError, match=f"^cannot connect to a:80: {words}$"):
        await ask(transport)
    assert transport.open_connections == 0


# keeping connections


async def test_an_idle_connection_is_used_until_it_expires(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    transport = Transport(network, keepalive_expiry=30)
    await ask(transport)
    await trio.sleep(29.9)
    await ask(transport)
    assert len(network.wires) == 1
    await trio.sleep(30)
    await ask(transport)
    assert len(network.wires) == 2
    assert network.wires[0].closed_at == 59.9


async def test_expired_connections_of_other_origins_go_as_well(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    transport = Transport(network, keepalive_expiry=30)
    await ask(transport, post(url="http://a/"))
    await trio.sleep(30)
    await ask(transport, post(url="http://b/"))
    assert network.wires[0].closed_at == 30
    assert transport.idle_origins == 1


async def test_sweeping_leaves_no_expired_connection(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    transport = Transport(network, keepalive_expiry=30)
    await ask(transport, post(url="http://a/"))
    await trio.sleep(15)
    await ask(transport, post(url="http://b/"))
    await trio.sleep(15)
    assert await transport.sweep() == 1
    assert (transport.open_connections, network.open) == (1, 1)
    await trio.sleep(15)
    assert await transport.sweep() == 1
    assert (transport.open_connections, network.open, transport.idle_origins) == (0, 0, 0)


async def test_the_connection_used_last_is_used_next(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    network.script = slow_body
    transport = Transport(network)
    first, second = [await transport.handle_async_request(post()) for _ in range(2)]
    for response in (second, first):
        await response.aread()
    reads = [wire.reads for wire in network.wires]
    await ask(transport)
    await ask(transport)
    assert [wire.reads - n for wire, n in zip(network.wires, reads, strict=True)] == [4, 0]


async def test_an_origin_keeps_only_so_many_idle_connections(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    network.script = slow_body
    transport = Transport(network, max_idle_per_origin=2)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(ask, transport)
    assert transport.idle_connections == 2
    assert (transport.open_connections, network.open) == (2, 2)


async def slow_body(line: Line) -> None:
    while True:
        _, body = await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
        await trio.sleep(1)
        await line.say(body)


async def test_a_connection_the_server_closed_is_not_used_again(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async def once(line: Line) -> None:
        await line.request()
        await line.say(sized(b"once"))

    network.script = once
    transport = Transport(network)
    for _ in range(2):
        assert await ask(transport) == b"once"
        await trio.sleep(1)
    assert [wire.closed_at for wire in network.wires] == [1, None]
    assert transport.open_connections == 1


async def test_a_connection_that_spoke_out_of_turn_is_not_used_again(
    network: MemoryNetwork,
    autojump_clock: MockClock,
) -> None:
    async def chatty(line: Line) -> None:
        await line.request()
        await line.say(sized(b"mine"))
        await trio.sleep(1)
        await line.say(sized(b"poison"))
        await trio.sleep_forever()

    network.script = chatty
    transport = Transport(network)
    for _ in range(2):
        assert await ask(transport) == b"mine"
        await trio.sleep(2)
    assert network.wires[0].closed_at == 2


async def test_bytes_behind_an_answer_are_never_the_next_answer(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async def double(line: Line) -> None:
        await line.request()
        await line.say(sized(b"mine") + sized(b"poison"))
        await trio.sleep_forever()

    network.script, network.probed = double, False
    transport = Transport(network)
    assert [await ask(transport) for _ in range(2)] == [b"mine", b"mine"]
    assert network.open == 0


async def test_a_stale_connection_is_told_apart_and_nothing_is_sent_twice(
    network: MemoryNetwork,
    autojump_clock: MockClock,
) -> None:
    seen = []

    async def once(line: Line) -> None:
        seen.append(await line.request())
        await line.say(sized(b"once"))

    network.script, network.probed = once, False
    transport = Transport(network)
    await ask(transport)
    await trio.sleep(1)
    with pytest.raises(StaleConnectionError):
        await ask(transport)
    assert len(seen) == 1
    assert (len(network.wires), network.open, transport.open_connections) == (1, 0, 0)


async def test_a_fresh_connection_is_never_called_stale(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async def hangs_up(line: Line) -> None:
        await line.request()

    network.script = hangs_up
    with pytest.raises(httpx.RemoteProtocolError, match="without an answer"):
        await ask(Transport(network))


async def test_a_kept_connection_that_began_to_answer_is_not_stale(
    network: MemoryNetwork,
    autojump_clock: MockClock,
) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.say(sized(b"once"))
        await line.request()
        await line.say(b"HTTP/1.1 200")

    network.script = script
    transport = Transport(network)
    await ask(transport)
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(transport)


# limits


async def test_requests_beyond_the_limit_wait_in_order(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    network.script = slow_body
    transport = Transport(network, max_connections=2)
    done = []

    async def one(name: int) -> None:
        await ask(transport)
        done.append((name, trio.current_time()))

    async with trio.open_nursery() as nursery:
        for name in range(5):
            nursery.start_soon(one, name)
            await trio.testing.wait_all_tasks_blocked()
            assert transport.open_connections <= 2
    assert dict(done) == {0: 1, 1: 1, 2: 2, 3: 2, 4: 3}
    assert len(network.wires) == 2


async def test_who_waits_may_leave(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    network.script = slow_body
    transport = Transport(network, max_connections=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, transport)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.5) as scope:
            await ask(transport)
        assert scope.cancelled_caught
        assert trio.current_time() == 0.5
    assert trio.current_time() == 1
    assert await ask(transport) == b"hi"
    assert transport.open_connections == 1


async def test_an_idle_connection_makes_room_for_another_origin(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    transport = Transport(network, max_connections=2)
    for url in ("http://a/", "http://b/", "http://c/"):
        await trio.sleep(1)
        await ask(transport, post(url=url))
    assert [wire.closed_at for wire in network.wires] == [3, None, None]
    assert (transport.open_connections, transport.idle_connections) == (2, 2)


# who is cancelled closes


@pytest.mark.parametrize("phase", ["connecting", "sending", "waiting", "reading"])
async def test_a_cancelled_request_closes_at_that_very_second(
    network: MemoryNetwork, autojump_clock: MockClock, phase: str
) -> None:
    content = b"hi"
    match phase:
        case "connecting":
            network.delay = 10
        case "sending":
            network.script, network.pair = forever, lockstep_stream_pair
            content = bytes(1_000_000)
        case "waiting":
            network.script = silence
        case _:
            network.script = half_a_body
    transport = Transport(network)
    with trio.move_on_at(7) as scope:
        await ask(transport, post(content))
    assert scope.cancelled_caught
    assert trio.current_time() == 7
    assert [wire.closed_at for wire in network.wires] == ([] if phase == "connecting" else [7])
    assert transport.open_connections == 0


async def forever(line: Line) -> None:
    await trio.sleep_forever()


async def half_a_body(line: Line) -> None:
    await line.request()
    await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    await trio.sleep_forever()


async def test_an_answer_closed_before_its_end_closes_the_connection(
    network: MemoryNetwork,
    autojump_clock: MockClock,
) -> None:
    network.script = half_a_body
    transport = Transport(network)
    response = await transport.handle_async_request(post())
    assert (transport.open_connections, transport.idle_connections) == (1, 0)
    await response.aclose()
    assert (transport.open_connections, network.open) == (0, 0)


async def test_a_body_closed_under_its_reader_is_no_whole_body(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    network.script = half_a_body
    transport = Transport(network)
    response = await transport.handle_async_request(post())
    body = chunks(response)
    assert await anext(body) == b"half"
    await response.aclose()
    with pytest.raises(httpx.StreamClosed):
        await anext(body)


async def test_closing_the_transport_ends_every_phase(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    network.script = half_a_body
    transport = Transport(network, max_connections=3)
    ends = []

    async def one() -> None:
        try:
            await ask(transport)
        except httpx.TransportError as error:
            ends.append((type(error), trio.current_time()))

    async with trio.open_nursery() as nursery:
        for _ in range(2):  # both are reading at second 5
            nursery.start_soon(one)
        await trio.sleep(4)
        network.delay = 3
        for _ in range(2):  # one is connecting, one is waiting for its turn
            nursery.start_soon(one)
        await trio.sleep(1)
        await transport.aclose()
    assert trio.current_time() == 5
    assert sorted(kind.__name__ for kind, _ in ends) == [
        "ConnectError",
        "ConnectError",
        "ReadError",
        "ReadError",
    ]
    assert (transport.open_connections, transport.idle_connections, network.open) == (0, 0, 0)
    with pytest.raises(httpx.ConnectError, match="closed"):
        await ask(transport)


async def test_a_connection_made_too_late_is_closed(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    class Stubborn:
        async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
            with trio.CancelScope(shield=True):
                return await network.connect(host, port, tls=tls)
            raise AssertionError

    network.delay = 2
    transport = Transport(Stubborn())
    async with trio.open_nursery() as nursery:
        with pytest.RaisesGroup(httpx.ConnectError):
            async with trio.open_nursery() as requests:
                requests.start_soon(ask, transport)
                await trio.sleep(1)
                nursery.start_soon(transport.aclose)
    assert trio.current_time() == 2
    assert (transport.open_connections, network.open, len(network.wires)) == (0, 0, 1)


# bodies


async def test_one_read_gives_one_chunk(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        await trio.sleep(1)
        await line.say(b"1\r\nb\r\n1\r\nc\r\n2\r\nd")
        await trio.sleep(1)
        await line.say(b"e\r\n0\r\n\r\n")
        await trio.sleep_forever()

    network.script = script
    transport = Transport(network)
    response = await transport.handle_async_request(post())
    assert [chunk async for chunk in response.aiter_raw()] == [b"a", b"bcd", b"e"]
    assert transport.idle_connections == 1


async def test_a_connection_is_back_with_the_last_bytes_and_only_once(
    network: MemoryNetwork,
    autojump_clock: MockClock,
) -> None:
    network.script = slow_body
    transport = Transport(network)
    response = await transport.handle_async_request(post())
    body = chunks(response)
    assert transport.idle_connections == 0
    assert await anext(body) == b"hi"
    assert transport.idle_connections == 1
    with pytest.raises(StopAsyncIteration):
        await anext(body)
    await response.aclose()
    assert (transport.open_connections, transport.idle_connections) == (1, 1)


async def test_what_came_before_the_damage_is_given_first(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.say(
            b"HTTP/1.1 500 Oh\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\nnonsense\r\n"
        )
        await trio.sleep_forever()

    network.script = script
    transport = Transport(network)
    response = await transport.handle_async_request(post())
    assert response.status_code == 500
    assert network.open == 0
    body = chunks(response)
    assert await anext(body) == b"ab"
    with pytest.raises(httpx.RemoteProtocolError):
        await anext(body)


# compressed bodies


async def test_a_compressed_stream_is_made_plain_as_it_comes(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)

    async def script(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nx-a: b\r\n\r\n")
        for text in (b"data: one\n\n", b"data: two\n\n"):
            await trio.sleep(1)
            await line.say(packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH))
        await line.say(packer.flush())

    network.script = script
    response = await Transport(network).handle_async_request(post())
    assert response.headers.raw == [(b"x-a", b"b")]
    got = [(chunk, trio.current_time()) async for chunk in response.aiter_bytes()]
    assert got == [(b"data: one\n\n", 1), (b"data: two\n\n", 2)]


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(bytes(10_000_000))),
        ("gzip", gzip.compress(b"whole", mtime=0)[:-1]),
        ("gzip", b"not gzip"),
        ("br", b"whatever"),
    ],
)
async def test_what_cannot_be_made_plain_is_an_error_and_the_end(
    network: MemoryNetwork, autojump_clock: MockClock, encoding: str, body: bytes
) -> None:
    async def script(line: Line) -> None:
        await line.request()
        head = f"HTTP/1.1 429 Slow\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(body)}"
        await line.say(head.encode() + b"\r\n\r\n" + body[:5000])
        await trio.sleep(1)
        await line.say(body[5000:])
        await trio.sleep_forever()

    network.script = script
    transport = Transport(network)
    response = await transport.handle_async_request(post())
    assert response.status_code == 429
    with pytest.raises(httpx.RemoteProtocolError):
        await response.aread()
    assert transport.open_connections == transport.idle_connections


async def test_no_body_is_not_in_any_encoding(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 9\r\n\r\n")
        await trio.sleep_forever()

    network.script = script
    response = await Transport(network).handle_async_request(httpx.Request("HEAD", "http://a/"))
    assert response.headers["content-length"] == "9"
    assert await response.aread() == b""


# uploads


async def refusal(line: Line) -> None:
    """Refuses without reading the body, and keeps the connection open."""
    while b"\r\n\r\n" not in line.buffer:
        await line.more()
    await line.say(b"HTTP/1.1 413 No\r\ncontent-length: 8\r\n\r\ntoo ")
    await line.say(b"big!")
    await trio.sleep_forever()


async def test_a_refusal_is_seen_although_nobody_reads_the_body(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    network.script, network.pair = refusal, lockstep_stream_pair
    transport = Transport(network)
    response = await transport.handle_async_request(post(bytes(1_000_000)))
    assert (response.status_code, await response.aread()) == (413, b"too big!")
    assert trio.current_time() == 0
    assert (transport.open_connections, network.open) == (0, 0)


class Long(httpx.AsyncByteStream):
    """A request body of 2 MB, which knows whether it was closed."""

    closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for _ in range(200):
                yield bytes(10_000)
        finally:
            self.closed = True


async def test_a_refused_upload_stops_while_its_refusal_is_read(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async def script(line: Line) -> None:
        while b"\r\n\r\n" not in line.buffer:
            await line.more()
        await line.say(b"HTTP/1.1 413 No\r\ncontent-length: 8\r\n\r\ntoo ")
        with trio.move_on_after(1):
            while True:
                await line.more()
        await line.say(b"big!")
        with suppress(trio.EndOfChannel):
            await line.more()
        drained.append(len(line.buffer))

    drained: list[int] = []
    network.script = script
    transport = Transport(network)
    content = Long()
    request = httpx.Request(
        "POST", "http://a/", stream=content, headers={"host": "a", "transfer-encoding": "chunked"}
    )
    response = await transport.handle_async_request(request)
    assert await response.aread() == b"too big!"
    assert content.closed
    await trio.testing.wait_all_tasks_blocked()
    assert drained < [500_000]
    assert (transport.open_connections, network.open) == (0, 0)


async def test_a_refusal_cut_short_is_an_error_after_its_bytes(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async def script(line: Line) -> None:
        while b"\r\n\r\n" not in line.buffer:
            await line.more()
        await line.say(b"HTTP/1.1 413 No\r\ncontent-length: 8\r\n\r\ntoo ")

    network.script, network.pair = script, lockstep_stream_pair
    response = await Transport(network).handle_async_request(post(bytes(1_000_000)))
    assert response.status_code == 413
    with pytest.raises(httpx.RemoteProtocolError, match="received 4 bytes, expected 8"):
        await response.aread()


async def test_an_early_success_does_not_stop_the_upload(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async def script(line: Line) -> None:
        while b"\r\n\r\n" not in line.buffer:
            await line.more()
        await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n")
        _, body = await line.request()
        await line.say(b"%7d" % len(body))
        await line.request()

    network.script = script
    transport = Transport(network)
    assert await ask(transport, post(bytes(1_000_000))) == b"1000000"
    assert transport.idle_connections == 1


async def test_an_answer_is_found_when_the_write_breaks(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    class Deaf(Wire):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            raise trio.BrokenResourceError from BrokenPipeError(32, "Broken pipe")

    class Refusing:
        async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
            ours, theirs = memory_stream_pair()
            if answer:
                await theirs.send_all(answer)
            await theirs.aclose()
            return Deaf(ours)

    transport = Transport(Refusing())
    for content in (b"small", bytes(1_000_000)):
        answer = b"HTTP/1.1 429 Slow down\r\ncontent-length: 4\r\n\r\nwait"
        response = await transport.handle_async_request(post(content))
        assert (response.status_code, await response.aread()) == (429, b"wait")
        answer = b""
        with pytest.raises(httpx.WriteError, match="Broken pipe"):
            await ask(transport, post(content))
    assert transport.open_connections == 0


async def test_a_failing_request_stream_fails_the_request(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    class OwnError(Exception):
        pass

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        raise OwnError

    transport = Transport(network)
    with pytest.raises(OwnError):
        await transport.handle_async_request(httpx.Request("POST", "http://a/", content=body()))
    assert (transport.open_connections, network.open) == (0, 0)


@pytest.mark.parametrize("length", ["1", "3"])
async def test_a_body_unlike_its_length_is_a_local_error(
    network: MemoryNetwork, autojump_clock: MockClock, length: str
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"ab"

    transport = Transport(network)
    contents: list[bytes | AsyncIterator[bytes]] = [b"ab", body()]
    for content in contents:
        request = httpx.Request(
            "POST", "http://a/", content=content, headers={"content-length": length}
        )
        with pytest.raises(httpx.LocalProtocolError):
            await transport.handle_async_request(request)
    assert (transport.open_connections, network.open) == (0, 0)


# words


async def test_no_error_tells_a_secret(network: MemoryNetwork, autojump_clock: MockClock) -> None:
    async def hangs_up(line: Line) -> None:
        await line.request()

    network.script = hangs_up
    transport = Transport(network)
    url = "http://user:SECRET@a/SECRET?key=SECRET"
    bad = httpx.Request("GET", url, headers={"authorization": "Bearer SECRET\n"})
    good = httpx.Request("POST", url, headers={"authorization": "Bearer SECRET"}, content=b"SECRET")
    for request in (bad, good):
        with pytest.raises(httpx.TransportError) as caught:
            await transport.handle_async_request(request)
        error: BaseException | None = caught.value
        while error is not None:
            assert "SECRET" not in repr(error)
            error = error.__cause__ or error.__context__


async def test_a_peers_words_are_quoted_in_part_only(
    network: MemoryNetwork, autojump_clock: MockClock
) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.say(b"x" * 50_000 + b"\r\n\r\n")
        await trio.sleep_forever()

    network.script = script
    with pytest.raises(httpx.RemoteProtocolError) as caught:
        await ask(Transport(network))
    assert len(str(caught.value)) <= 200
