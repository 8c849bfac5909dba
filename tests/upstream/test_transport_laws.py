"""What holds whatever servers say and clients do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import httpx
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from tests.upstream.bodies import chunks
from uniapi.upstream.transport import Transport

LOST = (trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel)


@dataclass
class Counted(trio.abc.Stream):
    """The client's end of a connection; counts those not yet closed."""

    stream: trio.abc.Stream
    open: list[Counted]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        self.open[:] = [other for other in self.open if other is not self]
        await self.stream.aclose()


@dataclass
class Network:
    nursery: trio.Nursery
    serve: Callable[[trio.abc.Stream], Awaitable[None]]
    open: list[Counted]

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        await trio.sleep(0.5)
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self._serve, theirs)
        counted = Counted(ours, self.open)
        self.open.append(counted)
        return counted

    async def _serve(self, stream: trio.abc.Stream) -> None:
        async with stream:
            with suppress(*LOST):
                await self.serve(stream)


def run(
    serve: Callable[[trio.abc.Stream], Awaitable[None]],
    client: Callable[[Transport], Awaitable[None]],
) -> None:
    """Run a client against servers; afterwards nothing may be left."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            network = Network(nursery, serve, [])
            transport = Transport(network, max_connections=3, max_idle_per_origin=2)
            with trio.fail_after(1000):
                await client(transport)
            assert transport.open_connections == transport.idle_connections == len(network.open)
            await transport.aclose()
            assert transport.open_connections == transport.idle_connections == 0
            assert network.open == []
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


wire = st.one_of(
    st.binary(max_size=100),
    st.lists(
        st.sampled_from(
            [
                b"HTTP/1.1 200 OK\r\n",
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
                b"HTTP/1.1 100 Continue\r\n\r\n",
                b"HTTP/1.0 204 \r\n",
                b"content-length: 3\r\n",
                b"content-length: -3\r\n",
                b"transfer-encoding: chunked\r\n",
                b"content-encoding: gzip\r\n",
                b"connection: close\r\n",
                b"\r\n",
                b"3\r\nabc\r\n",
                b"0\r\n\r\n",
                b"\x00\xff",
                b"fffffffffffffffff\r\n",
            ]
        ),
        max_size=8,
    ).map(b"".join),
)


@example([b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n"])
@example([b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"])
@given(st.lists(wire, max_size=4))
def test_any_bytes_are_an_answer_or_a_transport_error(said: list[bytes]) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        for piece in said:
            await stream.send_all(piece)
            await trio.sleep(1)

    async def client(transport: Transport) -> None:
        for method in ("POST", "HEAD"):
            request = httpx.Request(method, "http://a/", content=b"x")
            with suppress(httpx.TransportError):
                response = await transport.handle_async_request(request)
                try:
                    await response.aread()
                finally:
                    await response.aclose()

    run(serve, client)


@dataclass(frozen=True)
class Act:
    """One request: when it is made, how it is answered, and when the client has had enough."""

    at: int
    answer: str
    patience: float
    chunks: int | None


acts = st.lists(
    st.builds(
        Act,
        at=st.integers(0, 12),
        answer=st.sampled_from(["sized", "chunked", "close", "cut", "more", "silent", "reset"]),
        patience=st.sampled_from([0, 0.25, 0.5, 1.5, 2.5, 100]),
        chunks=st.sampled_from([None, None, None, 0, 1]),
    ),
    max_size=8,
)


async def reply(stream: trio.abc.Stream, kind: str, token: bytes) -> bool:
    """Answer with three times the token, as `kind` has it; whether to go on."""
    match kind:
        case "sized" | "more":
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(token * 3))
            await trio.sleep(1)
            await stream.send_all(token)
            await trio.sleep(1)
            tail = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison" if kind == "more" else b""
            await stream.send_all(token * 2 + tail)
        case "chunked" | "cut" | "reset":
            await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(3):
                await trio.sleep(1)
                await stream.send_all(b"%x\r\n%s\r\n" % (len(token), token))
                if kind == "cut":
                    return False
            if kind == "reset":
                return False
            await stream.send_all(b"0\r\n\r\n")
        case "close":
            await stream.send_all(b"HTTP/1.0 200 OK\r\n\r\n" + token * 3)
            return False
        case _:
            await trio.sleep_forever()
    return True


@settings(max_examples=150)
@given(acts)
def test_no_answer_is_ever_mixed_with_another_and_nothing_is_left_open(script: list[Act]) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        buffer = b""
        while True:
            while not buffer.endswith(b"\r\n\r\n"):
                data = await stream.receive_some()
                if not data:
                    return
                buffer += data
            number = int(buffer.split(b" ")[1].rpartition(b"/")[2])
            buffer = b""
            if not await reply(stream, script[number].answer, b"<%d>" % number):
                return

    async def one(transport: Transport, number: int, act: Act) -> None:
        await trio.sleep(act.at)
        token = b"<%d>" % number
        got = b""
        with trio.move_on_after(act.patience) as scope, suppress(httpx.TransportError):
            response = await transport.handle_async_request(
                httpx.Request("GET", f"http://{'ab'[number % 2]}/{number}")
            )
            try:
                async for chunk in chunks(response):
                    got += chunk
                    if act.chunks is not None and got.count(token) > act.chunks:
                        break
                else:
                    assert got == token * 3
                    assert act.answer not in {"cut", "reset", "silent"}
            finally:
                await response.aclose()
        assert (token * 3).startswith(got)
        assert scope.cancelled_caught or act.answer != "silent"

    async def client(transport: Transport) -> None:
        async with trio.open_nursery() as nursery:
            for number, act in enumerate(script):
                nursery.start_soon(one, transport, number, act)

    run(serve, client)
