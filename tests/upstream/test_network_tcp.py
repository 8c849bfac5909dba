"""The real network: sockets, certificates, and whether an idle stream has gone bad."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import trio
from trio.testing import memory_stream_pair

from uniapi.tcp import Tcp
from uniapi.upstream import network as network_module
from uniapi.upstream.network import TcpNetwork, client_context, probe
from uniapi.upstream.transport import Transport

TLS = Path(__file__).parent.parent / "fixtures" / "tls"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"

Handler = Callable[[trio.SocketStream], Awaitable[None]]


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """One that trusts the test's own authority."""
    context = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
    async with Transport(TcpNetwork(context)) as made:
        yield made


@pytest.fixture
async def listen(nursery: trio.Nursery) -> AsyncIterator[Callable[[Handler], Awaitable[int]]]:
    async def start(handler: Handler) -> int:
        listeners = await nursery.start(
            trio.serve_listeners, handler, await trio.open_tcp_listeners(0, host="127.0.0.1")
        )
        port: int = listeners[0].socket.getsockname()[1]
        return port

    with trio.fail_after(10):
        yield start


def tls(inner: Callable[[trio.SSLStream[trio.SocketStream]], Awaitable[None]]) -> Handler:
    """A handler that speaks TLS with the certificate for localhost."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "localhost.pem", TLS / "localhost.key")

    async def handler(stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            await inner(secure)
        except trio.BrokenResourceError:
            await stream.aclose()

    return handler


async def polite(stream: trio.SSLStream[trio.SocketStream]) -> None:
    while await stream.receive_some():
        await stream.send_all(OK)


async def ask(transport: Transport, url: str, content: bytes = b"") -> httpx.Response:
    response = await transport.handle_async_request(httpx.Request("POST", url, content=content))
    await response.aread()
    return response


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_trusted_server_is_asked_over_one_connection(
    transport: Transport, listen: Callable[[Handler], Awaitable[int]], host: str
) -> None:
    port = await listen(tls(polite))
    for _ in range(3):
        assert (await ask(transport, f"https://{host}:{port}/")).text == "hello"
        assert (transport.open_connections, transport.idle_connections) == (1, 1)


async def test_an_unknown_certificate_is_a_connect_error(
    listen: Callable[[Handler], Awaitable[int]],
) -> None:
    port = await listen(tls(polite))
    transport = Transport(TcpNetwork())
    with pytest.raises(httpx.ConnectError, match="certificate not trusted: "):
        await ask(transport, f"https://localhost:{port}/")
    assert transport.open_connections == 0


async def test_a_certificate_for_another_name_is_a_connect_error(
    transport: Transport,
    listen: Callable[[Handler], Awaitable[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = await listen(tls(polite))
    open_tcp = trio.open_tcp_stream

    async def to_loopback(_host: str, port: int) -> trio.SocketStream:
        return await open_tcp("127.0.0.1", port)

    monkeypatch.setattr(trio, "open_tcp_stream", to_loopback)
    with pytest.raises(httpx.ConnectError, match="Hostname mismatch"):
        await ask(transport, f"https://other.example:{port}/")


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_a_server_without_tls_is_a_connect_error(
    transport: Transport, listen: Callable[[Handler], Awaitable[int]], greeting: bytes
) -> None:
    async def plain(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(greeting)

    port = await listen(plain)
    with pytest.raises(httpx.ConnectError, match=r"TLS|closed by the peer"):
        await ask(transport, f"https://localhost:{port}/")


async def test_a_cancelled_handshake_hangs_up(
    transport: Transport, listen: Callable[[Handler], Awaitable[int]]
) -> None:
    hello, gone = trio.Event(), trio.Event()

    async def mute(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            hello.set()
        gone.set()

    port = await listen(mute)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, transport, f"https://localhost:{port}/")
        await hello.wait()
        nursery.cancel_scope.cancel()
    with trio.fail_after(10):
        await gone.wait()
    assert transport.open_connections == 0


async def test_a_cancelled_answer_over_tls_hangs_up(
    transport: Transport, listen: Callable[[Handler], Awaitable[int]]
) -> None:
    gone = trio.Event()

    async def half(stream: trio.SSLStream[trio.SocketStream]) -> None:
        await stream.receive_some()
        await stream.send_all(OK[:-1])
        assert await stream.receive_some() == b""
        gone.set()

    port = await listen(tls(half))
    response = await transport.handle_async_request(
        httpx.Request("GET", f"https://localhost:{port}/")
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(response.aread)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with trio.fail_after(10):
        await gone.wait()


async def test_a_refusal_over_tls_is_read_although_the_upload_is_cut(
    transport: Transport, listen: Callable[[Handler], Awaitable[int]]
) -> None:
    async def refuse(stream: trio.SSLStream[trio.SocketStream]) -> None:
        await stream.receive_some()
        await trio.testing.wait_all_tasks_blocked(0.02)  # the client's write fills every buffer
        await stream.send_all(b"HTTP/1.1 413 No\r\ncontent-length: 4\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked(0.02)  # the client has seen the refusal
        await stream.send_all(b"big!")
        await trio.sleep_forever()

    port = await listen(tls(refuse))
    response = await ask(transport, f"https://localhost:{port}/", bytes(64 * 1024 * 1024))
    assert (response.status_code, response.text) == (413, "big!")


async def test_an_idle_tls_connection_which_the_server_closed_is_not_used(
    transport: Transport, listen: Callable[[Handler], Awaitable[int]]
) -> None:
    closed = trio.Event()
    count = 0

    async def once(stream: trio.SSLStream[trio.SocketStream]) -> None:
        nonlocal count
        count += 1
        await stream.receive_some()
        await stream.send_all(OK)
        await stream.aclose()
        closed.set()

    port = await listen(tls(once))
    for _ in range(2):
        assert (await ask(transport, f"https://localhost:{port}/")).text == "hello"
        await closed.wait()
    assert count == 2


async def test_a_socket_is_readable_once_something_came_or_it_ended() -> None:
    ours, theirs = trio.socket.socketpair()
    async with Tcp(trio.SocketStream(ours)) as stream, trio.SocketStream(theirs) as peer:
        readable = probe(stream)
        assert not readable()
        await peer.send_all(b"x")
        assert readable()
        assert await stream.receive_some() == b"x"
        assert not readable()
        await peer.aclose()
        assert readable()


async def test_a_stream_that_cannot_be_asked_is_presumed_quiet() -> None:
    stream, _ = memory_stream_pair()
    assert not probe(stream)()


def test_the_system_store_is_trusted_or_else_certifi(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    [only] = client_context().get_ca_certs()
    assert ("commonName", "uniapi test CA") in only["subject"][0]
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    assert len(client_context().get_ca_certs()) > 50
    (tmp_path / "5ed36f99.0").write_bytes((TLS / "ca.pem").read_bytes())
    assert client_context().get_ca_certs() == []


def test_the_context_is_made_once_and_only_for_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ssl.SSLContext] = []

    def make() -> ssl.SSLContext:
        made.append(client_context())
        return made[-1]

    monkeypatch.setattr(network_module, "client_context", make)
    network = TcpNetwork()
    assert made == []
    assert network._context() is network._context()
    assert len(made) == 1
    assert made[0].verify_mode is ssl.CERT_REQUIRED
    assert made[0].check_hostname
