"""What our transport and httpx's own must both do, over real sockets on loopback."""

from __future__ import annotations

import gzip
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import httpx
import pytest
import trio

from uniapi.upstream.network import TcpNetwork
from uniapi.upstream.transport import Transport


class Line:
    """The server's end of one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def head(self) -> bytes:
        while b"\r\n\r\n" not in self._buffer:
            data = await self.stream.receive_some()
            if not data:
                raise trio.EndOfChannel
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    async def request(self) -> tuple[bytes, bytes]:
        head = await self.head()
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(self._buffer) < length:
            self._buffer += await self.stream.receive_some()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return head, body

    async def say(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def drain(self) -> None:
        """Until the client has closed."""
        try:
            while await self.stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass

    async def reset(self) -> None:
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.stream.aclose()


Script = Callable[[Line], Awaitable[None]]


@dataclass
class Server:
    """Serves every connection by the script; counts them."""

    script: Script
    url: str = ""
    connections: int = 0
    ended: list[trio.Event] = field(default_factory=list)

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        ended = trio.Event()
        self.ended.append(ended)
        try:
            await self.script(Line(stream))
        except (trio.EndOfChannel, trio.BrokenResourceError):
            pass  # the client hung up, as it may
        finally:
            ended.set()


Serve = Callable[[Script], Awaitable[Server]]


@pytest.fixture
def serve(nursery: trio.Nursery) -> Serve:
    async def start(script: Script) -> Server:
        server = Server(script)
        listeners = await nursery.start(
            trio.serve_listeners, server.serve, await trio.open_tcp_listeners(0, host="127.0.0.1")
        )
        server.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/v1/chat?key=secret"
        return server

    return start


@pytest.fixture(params=["ours", "stock"])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncBaseTransport]:
    made: httpx.AsyncBaseTransport
    if request.param == "ours":
        made = Transport(TcpNetwork())
    else:
        made = httpx.AsyncHTTPTransport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    with trio.fail_after(10):
        yield made
        await made.aclose()


async def ask(
    transport: httpx.AsyncBaseTransport, url: str, content: bytes = b"{}", method: str = "POST"
) -> tuple[httpx.Response, bytes]:
    response = await transport.handle_async_request(httpx.Request(method, url, content=content))
    try:
        return response, await response.aread()
    finally:
        await response.aclose()


def answers(*replies: bytes, close: bool = False) -> Script:
    """One reply to each request of a connection, then the end or silence."""

    async def script(line: Line) -> None:
        for reply in replies:
            await line.request()
            await line.say(reply)
        if not close:
            await line.drain()

    return script


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n"
)


async def test_a_sized_answer_is_read(transport: httpx.AsyncBaseTransport, serve: Serve) -> None:
    server = await serve(answers(OK))
    response, body = await ask(transport, server.url)
    assert (response.status_code, body) == (200, b"hello")
    assert response.headers["content-type"] == "text/plain"
    assert response.extensions["http_version"] == b"HTTP/1.1"
    assert response.extensions["reason_phrase"] == b"OK"


async def test_the_request_arrives_as_it_was_made(
    transport: httpx.AsyncBaseTransport, serve: Serve
) -> None:
    seen = []

    async def script(line: Line) -> None:
        seen.append(await line.request())
        await line.say(OK)
        await line.drain()

    server = await serve(script)
    await ask(transport, server.url, b'{"a": 1}')
    [(head, body)] = seen
    assert head.startswith(b"POST /v1/chat?key=secret HTTP/1.1\r\n")
    assert b"\r\nhost: 127.0.0.1:" in head.lower()
    assert b"\r\ncontent-length: 8" in head.lower()
    assert body == b'{"a": 1}'


async def test_a_chunked_answer_is_read(transport: httpx.AsyncBaseTransport, serve: Serve) -> None:
    server = await serve(answers(CHUNKED))
    assert (await ask(transport, server.url))[1] == b"hello"


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
async def test_an_answer_may_end_with_the_connection(
    transport: httpx.AsyncBaseTransport, serve: Serve, version: bytes
) -> None:
    server = await serve(answers(version + b" 200 OK\r\n\r\nhello", close=True))
    for times in (1, 2):
        response, body = await ask(transport, server.url)
        assert body == b"hello"
        assert response.extensions["http_version"] == version
        assert server.connections == times


async def test_a_connection_is_used_again(
    transport: httpx.AsyncBaseTransport, serve: Serve
) -> None:
    server = await serve(answers(OK, CHUNKED, OK))
    for _ in range(3):
        assert (await ask(transport, server.url))[1] == b"hello"
    assert server.connections == 1


async def test_connection_close_is_honoured(
    transport: httpx.AsyncBaseTransport, serve: Serve
) -> None:
    reply = OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    server = await serve(answers(reply, reply))
    for _ in range(2):
        assert (await ask(transport, server.url))[1] == b"hello"
    assert server.connections == 2


async def test_a_connection_closed_while_idle_is_not_used_again(
    transport: httpx.AsyncBaseTransport, serve: Serve
) -> None:
    server = await serve(answers(OK, close=True))
    for _ in range(2):
        assert (await ask(transport, server.url))[1] == b"hello"
        await server.ended[-1].wait()
    assert server.connections == 2


async def test_interim_answers_are_passed_over(
    transport: httpx.AsyncBaseTransport, serve: Serve
) -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    server = await serve(answers(b"HTTP/1.1 100 Continue\r\n\r\n" + interim + OK))
    response, body = await ask(transport, server.url)
    assert (response.status_code, body) == (200, b"hello")
    assert "link" not in response.headers


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 500\r\n\r\n"),
    ],
)
async def test_answers_without_a_body_leave_the_connection_usable(
    transport: httpx.AsyncBaseTransport, serve: Serve, method: str, reply: bytes
) -> None:
    server = await serve(answers(reply, OK))
    assert (await ask(transport, server.url, b"", method))[1] == b""
    assert (await ask(transport, server.url))[1] == b"hello"
    assert server.connections == 1


async def test_a_redirect_is_an_answer_like_others(
    transport: httpx.AsyncBaseTransport, serve: Serve
) -> None:
    reply = b"HTTP/1.1 307 Away\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
    server = await serve(answers(reply))
    assert (await ask(transport, server.url))[0].status_code == 307


async def test_a_gzip_answer_is_made_plain(
    transport: httpx.AsyncBaseTransport, serve: Serve
) -> None:
    packed = gzip.compress(b"hello " * 1000)
    reply = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    server = await serve(answers(reply + packed, OK))
    assert (await ask(transport, server.url))[1] == b"hello " * 1000
    assert (await ask(transport, server.url))[1] == b"hello"
    assert server.connections == 1


async def test_a_large_body_arrives_whole(
    transport: httpx.AsyncBaseTransport, serve: Serve
) -> None:
    content = bytes(range(256)) * 8192  # 2 MiB
    seen = []

    async def script(line: Line) -> None:
        for _ in range(2):
            seen.append((await line.request())[1])
            await line.say(OK)
        await line.drain()

    server = await serve(script)
    for _ in range(2):
        assert (await ask(transport, server.url, content))[1] == b"hello"
    assert seen == [content, content]
    assert server.connections == 1


async def test_a_streamed_body_is_sent_in_chunks(
    transport: httpx.AsyncBaseTransport, serve: Serve
) -> None:
    seen = bytearray()

    async def script(line: Line) -> None:
        seen.extend(await line.head())
        seen.extend(line._buffer)
        while not seen.endswith(b"0\r\n\r\n"):
            seen.extend(await line.stream.receive_some())
        await line.say(OK)
        await line.drain()

    async def body() -> AsyncIterator[bytes]:
        yield b"abc"
        await trio.lowlevel.checkpoint()
        yield b"defgh"

    server = await serve(script)
    request = httpx.Request("POST", server.url, content=body())
    response = await transport.handle_async_request(request)
    assert await response.aread() == b"hello"
    assert b"transfer-encoding: chunked" in bytes(seen).lower()
    assert seen.endswith(b"3\r\nabc\r\n5\r\ndefgh\r\n0\r\n\r\n")


async def test_a_refusal_before_the_body_is_read_is_seen(
    transport: httpx.AsyncBaseTransport, serve: Serve
) -> None:
    async def script(line: Line) -> None:
        await line.head()
        await line.say(
            b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbig!"
        )
        await line.stream.send_eof()
        await line.drain()

    server = await serve(script)
    response, body = await ask(transport, server.url, bytes(8 * 1024 * 1024))
    assert (response.status_code, body) == (413, b"big!")


async def test_nobody_there_is_a_connect_error(transport: httpx.AsyncBaseTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(httpx.ConnectError):
        await ask(transport, f"http://127.0.0.1:{port}/")


async def test_a_host_without_address_is_a_connect_error(
    transport: httpx.AsyncBaseTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_args: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(httpx.ConnectError, match="not known"):
        await ask(transport, "http://no-such-host.invalid/")


async def test_other_schemes_are_unsupported(transport: httpx.AsyncBaseTransport) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await ask(transport, "ftp://127.0.0.1/file")


async def test_a_header_that_would_split_is_refused(
    transport: httpx.AsyncBaseTransport, serve: Serve
) -> None:
    server = await serve(answers(OK))
    request = httpx.Request("GET", server.url, headers={"x-name": "a\r\nx-other: b"})
    with pytest.raises(httpx.LocalProtocolError):
        await transport.handle_async_request(request)


async def test_a_reset_before_the_answer_is_a_read_error(
    transport: httpx.AsyncBaseTransport, serve: Serve
) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.reset()

    server = await serve(script)
    with pytest.raises(httpx.ReadError):
        await ask(transport, server.url)


async def test_a_reset_in_the_body_is_a_read_error(
    transport: httpx.AsyncBaseTransport, serve: Serve
) -> None:
    read = trio.Event()

    async def script(line: Line) -> None:
        await line.request()
        await line.say(OK[:-2])
        await read.wait()
        await line.reset()

    server = await serve(script)
    response = await transport.handle_async_request(httpx.Request("GET", server.url))
    got = []
    with pytest.raises(httpx.ReadError):  # noqa: PT012 - the point is what came before it
        async for chunk in response.aiter_raw():
            got.append(chunk)
            read.set()
    assert got == [b"hel"]
    await response.aclose()


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(OK[:20], id="half a head"),
        pytest.param(OK[:-2], id="a cut sized body"),
        pytest.param(CHUNKED[:-7], id="a cut chunk"),
        pytest.param(CHUNKED[:-5], id="no last chunk"),
        pytest.param(CHUNKED[:-2], id="no end of the trailer"),
        pytest.param(CHUNKED.replace(b"3\r\n", b"zz\r\n"), id="a chunk size that is none"),
        pytest.param(CHUNKED.replace(b"3\r\n", b"2\r\n"), id="a chunk longer than its size"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", id="not http"),
        pytest.param(b"HTTP/1.1 abc\r\n\r\n", id="no status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", id="no header"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\n", id="two lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", id="other transfer"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n" + b"x-filler: %s\r\n" % (b"y" * 1000) * 300 + b"\r\n",
            id="300 KB of headers",
        ),
    ],
)
async def test_what_is_not_http_is_a_remote_protocol_error(
    transport: httpx.AsyncBaseTransport, serve: Serve, reply: bytes
) -> None:
    async def script(line: Line) -> None:
        await line.request()
        await line.say(reply)
        await line.stream.send_eof()
        await line.drain()

    server = await serve(script)
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(transport, server.url)
    with trio.fail_after(10):
        await server.ended[0].wait()


# the stock transport leaves the generator of a body half sent to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("phase", ["sending", "waiting", "reading"])
async def test_a_cancelled_request_hangs_up(
    transport: httpx.AsyncBaseTransport, serve: Serve, phase: str
) -> None:
    there = trio.Event()

    async def script(line: Line) -> None:
        await line.head()
        if phase == "reading":
            await line.say(OK[:-2])
        else:
            there.set()
        if phase == "sending":
            await cancelled.wait()
        await line.drain()

    async def call(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        content = bytes(64 * 1024 * 1024) if phase == "sending" else b""
        with trio.CancelScope() as scope:
            task_status.started(scope)
            response = await transport.handle_async_request(
                httpx.Request("POST", server.url, content=content)
            )
            async for _ in response.aiter_raw():
                there.set()
        assert scope.cancelled_caught

    cancelled = trio.Event()
    server = await serve(script)
    async with trio.open_nursery() as nursery:
        scope: trio.CancelScope = await nursery.start(call)
        await there.wait()
        scope.cancel()
    cancelled.set()
    with trio.fail_after(10):
        await server.ended[0].wait()


async def test_an_answer_closed_before_its_end_hangs_up(
    transport: httpx.AsyncBaseTransport, serve: Serve
) -> None:
    server = await serve(answers(OK[:-2]))
    response = await transport.handle_async_request(httpx.Request("GET", server.url))
    await response.aclose()
    with trio.fail_after(10):
        await server.ended[0].wait()


async def test_closing_the_transport_closes_idle_connections(
    transport: httpx.AsyncBaseTransport, serve: Serve
) -> None:
    server = await serve(answers(OK))
    await ask(transport, server.url)
    assert not server.ended[0].is_set()
    await transport.aclose()
    with trio.fail_after(10):
        await server.ended[0].wait()
