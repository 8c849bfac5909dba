"""Calls through a proxy: counted while they last, and no connection outlives its use."""

from __future__ import annotations

import gzip
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import trio
from trio.testing import MockClock

from uniapi.config.types import Secret
from uniapi.engines.base import Call
from uniapi.upstream.client import Client, network_failure
from uniapi.upstream.proxied import KEPT, Proxies, ProxyError

TLS = Path(__file__).parents[1] / "fixtures" / "tls"
PROXY = Secret("http://me:swordfish@proxy:3128")
OTHER = Secret("socks5://other:1080")
CALL = Call("POST", "http://a/v1/chat/completions", (("authorization", "Bearer sk"),), b"{}")


@dataclass
class Body(httpx.AsyncByteStream):
    """A body in pieces; the last ends it unless it is an error, and `held` keeps it from coming."""

    pieces: list[bytes | Exception]
    held: trio.Event = field(default_factory=trio.Event)
    closed: int = 0
    stuck: bool = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece
        await self.held.wait()

    async def aclose(self) -> None:
        self.closed += 1
        if self.stuck:
            await trio.sleep_forever()


@dataclass
class Fake(httpx.AsyncBaseTransport):
    """The stock transport's place: what it was asked, and how often it was closed."""

    url: str
    asked: list[httpx.Request] = field(default_factory=list)
    closed: int = 0
    body: Body = field(default_factory=lambda: Body([b"hello"]))
    headers: dict[str, str] = field(default_factory=dict)
    error: Exception | None = None
    slow: bool = False
    breaks: bool = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.slow:
            await trio.sleep_forever()
        if self.error is not None:
            raise self.error
        return httpx.Response(200, headers=self.headers, stream=self.body)

    async def aclose(self) -> None:
        self.closed += 1
        if self.breaks:
            raise trio.BrokenResourceError


@dataclass
class Scene:
    """A client and the transports it made."""

    made: list[Fake] = field(default_factory=list)
    prepare: Callable[[Fake], None] = lambda fake: None
    client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = Client(proxies=Proxies(self.make))

    def make(self, url: str) -> Fake:
        fake = Fake(url)
        fake.body.held.set()
        self.prepare(fake)
        self.made.append(fake)
        return fake

    async def ask(self, proxy: Secret = PROXY) -> bytes:
        answer = await self.client.send(CALL, proxy)
        try:
            return await answer.error_body()
        finally:
            await answer.aclose()


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_one_transport_serves_all_calls_through_one_proxy(scene: Scene) -> None:
    assert await scene.ask() == await scene.ask() == b"hello"
    await scene.ask(OTHER)
    assert [fake.url for fake in scene.made] == [PROXY.reveal(), OTHER.reveal()]
    assert [len(fake.asked) for fake in scene.made] == [2, 1]


# ---- what is counted -------------------------------------------------------------------------


async def test_a_call_counts_from_its_sending_to_its_end(scene: Scene) -> None:
    assert scene.client.open_connections == 0
    first = await scene.client.send(CALL, PROXY)
    second = await scene.client.send(CALL, OTHER)
    assert (scene.client.open_connections, scene.client.idle_connections) == (2, 0)
    assert await first.error_body() == b"hello"
    assert first.over(), "its connection has gone back with the last byte"
    assert scene.client.open_connections == 1
    await first.aclose()
    await second.aclose()
    await second.aclose()
    assert scene.client.open_connections == 0
    assert [fake.body.closed for fake in scene.made] == [1, 1]


async def test_a_call_that_waits_for_its_answer_counts_until_it_is_given_up(
    scene: Scene, autojump_clock: MockClock
) -> None:
    scene.prepare = lambda fake: setattr(fake, "slow", True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.client.send, CALL, PROXY)
        await trio.testing.wait_all_tasks_blocked()
        assert scene.client.open_connections == 1
        nursery.cancel_scope.cancel()
    assert scene.client.open_connections == 0


async def test_a_call_that_fails_is_counted_no_more(scene: Scene) -> None:
    scene.prepare = lambda fake: setattr(fake, "error", httpx.ProxyError("407"))
    with pytest.raises(httpx.ProxyError):
        await scene.client.send(CALL, PROXY)
    assert scene.client.open_connections == 0


async def test_a_url_that_cannot_be_asked_is_counted_no_more(scene: Scene) -> None:
    with pytest.raises(httpx.InvalidURL):
        await scene.client.send(Call("GET", "http://a:port/", ()), PROXY)
    assert scene.client.open_connections == 0


async def test_a_body_that_breaks_is_counted_until_it_is_closed(scene: Scene) -> None:
    broken = Body([b"hel", httpx.ReadError("gone")])
    scene.prepare = lambda fake: setattr(fake, "body", broken)
    answer = await scene.client.send(CALL, PROXY)
    with pytest.raises(httpx.ReadError):
        await answer.error_body()
    await answer.aclose()
    assert (scene.client.open_connections, broken.closed) == (0, 1)


async def test_a_goodbye_that_hangs_is_left_after_a_second_and_counts_no_more(
    scene: Scene, autojump_clock: MockClock
) -> None:
    answer = await scene.client.send(CALL, PROXY)
    scene.made[0].body.stuck = True
    await answer.aclose()
    assert trio.current_time() == 1
    assert scene.client.open_connections == 0


# ---- what is closed --------------------------------------------------------------------------


async def test_a_proxy_that_is_no_longer_named_is_closed_at_once(scene: Scene) -> None:
    await scene.ask()
    await scene.ask(OTHER)
    scene.client.keep([OTHER])
    assert await scene.client.sweep() == 1
    assert [fake.closed for fake in scene.made] == [1, 0]
    assert await scene.client.sweep() == 0


async def test_a_proxy_that_is_no_longer_named_serves_what_is_under_way(scene: Scene) -> None:
    answer = await scene.client.send(CALL, PROXY)
    scene.client.keep([])
    assert await scene.client.sweep() == 0
    assert scene.made[0].closed == 0
    assert await answer.error_body() == b"hello"
    await answer.aclose()
    assert await scene.client.sweep() == 1
    assert scene.made[0].closed == 1


async def test_a_request_with_the_old_configuration_may_still_use_it(scene: Scene) -> None:
    await scene.ask()
    scene.client.keep([])
    await scene.client.sweep()
    assert await scene.ask() == b"hello"
    assert await scene.client.sweep() == 1
    assert [fake.closed for fake in scene.made] == [1, 1]


async def test_a_proxy_nobody_uses_keeps_no_connection(
    scene: Scene, autojump_clock: MockClock
) -> None:
    scene.client.keep([PROXY])
    await trio.sleep(5)
    await scene.ask()
    await trio.sleep(KEPT - 1)
    assert await scene.client.sweep() == 0
    await scene.ask()
    await trio.sleep(KEPT - 1)
    assert await scene.client.sweep() == 0
    await trio.sleep(1)
    assert await scene.client.sweep() == 1
    assert [fake.closed for fake in scene.made] == [1]
    assert await scene.ask() == b"hello"


async def test_a_connection_that_breaks_while_it_is_closed_keeps_no_other_open(
    scene: Scene,
) -> None:
    await scene.ask()
    await scene.ask(OTHER)
    scene.made[0].breaks = True
    scene.client.keep([])
    assert await scene.client.sweep() == 2
    assert [fake.closed for fake in scene.made] == [1, 1]
    await scene.ask()
    await scene.ask(OTHER)
    scene.made[2].breaks = True
    await scene.client.aclose()
    assert scene.made[3].closed == 1


async def test_a_long_answer_is_not_taken_for_idleness(
    scene: Scene, autojump_clock: MockClock
) -> None:
    answer = await scene.client.send(CALL, PROXY)
    await trio.sleep(10 * KEPT)
    assert await scene.client.sweep() == 0
    assert await answer.error_body() == b"hello"
    await answer.aclose()


async def test_the_end_closes_every_transport(scene: Scene) -> None:
    await scene.ask()
    await scene.ask(OTHER)
    await scene.client.aclose()
    assert [fake.closed for fake in scene.made] == [1, 1]


# ---- what is said ----------------------------------------------------------------------------


async def test_a_header_of_the_users_may_hold_any_character(scene: Scene) -> None:
    call = Call("POST", "http://a/", (("x-title", "Grüße, 世界"),), b"{}")
    await (await scene.client.send(call, PROXY)).aclose()
    [request] = scene.made[0].asked
    assert dict(request.headers.raw)[b"x-title"] == "Grüße, 世界".encode()


async def test_what_cannot_be_said_in_http_is_told_without_its_words(scene: Scene) -> None:
    quoting = httpx.LocalProtocolError("Illegal header value b'Bearer sk'")
    scene.prepare = lambda fake: setattr(fake, "error", quoting)
    with pytest.raises(httpx.LocalProtocolError) as caught:
        await scene.client.send(CALL, PROXY)
    assert "Bearer" not in str(caught.value)
    assert scene.client.open_connections == 0


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [("gzip", gzip.compress(b"plain")), ("Deflate", zlib.compress(b"plain"))],
    ids=["gzip", "Deflate"],
)
async def test_a_compressed_answer_is_made_plain(
    scene: Scene, encoding: str, packed: bytes
) -> None:
    def prepare(fake: Fake) -> None:
        fake.headers = {"content-encoding": encoding, "content-length": str(len(packed))}
        fake.body.pieces = [packed[:3], packed[3:]]

    scene.prepare = prepare
    answer = await scene.client.send(CALL, PROXY)
    assert dict(answer.headers) == {}
    assert await answer.error_body() == b"plain"
    await answer.aclose()


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        pytest.param("gzip", b"no gzip at all", id="malformed"),
        pytest.param("gzip", gzip.compress(b"plain")[:-4], id="cut"),
        pytest.param("br", b"x", id="not asked for"),
        pytest.param("gzip", gzip.compress(bytes(20_000_000)), id="a bomb"),
    ],
)
async def test_what_cannot_be_made_plain_is_a_broken_connection(
    scene: Scene, encoding: str, packed: bytes
) -> None:
    def prepare(fake: Fake) -> None:
        fake.headers = {"content-encoding": encoding}
        fake.body.pieces = [packed]

    scene.prepare = prepare
    answer = await scene.client.send(CALL, PROXY)
    with pytest.raises(httpx.RemoteProtocolError):
        async for _ in answer.body:
            pass
    await answer.aclose()
    assert scene.client.open_connections == 0


async def test_an_encoding_of_nothing_is_nothing(scene: Scene) -> None:
    def prepare(fake: Fake) -> None:
        fake.headers = {"content-encoding": "br"}
        fake.body.pieces = []

    scene.prepare = prepare
    assert await scene.ask() == b""


@pytest.mark.parametrize("url", ["gopher://proxy:70", "http://proxy:port", "http://[::1"])
async def test_a_proxy_that_cannot_be_one_is_told_without_its_url(url: str) -> None:
    client = Client()
    with pytest.raises(ProxyError) as caught:
        await client.send(CALL, Secret(url))
    assert url not in str(caught.value)
    assert network_failure(caught.value).code == "proxy_error"
    assert client.open_connections == 0


# ---- the stock transport itself --------------------------------------------------------------


async def test_the_stock_transport_is_closed_under_a_proxy_that_holds_on(
    nursery: trio.Nursery,
) -> None:
    """A real proxy on a socket: it sees the end of its kept connection."""
    ended = trio.Event()
    targets: list[bytes] = []

    async def proxy(stream: trio.SocketStream) -> None:
        heard = b""
        while data := bytes(await stream.receive_some()):
            heard += data
            if heard.endswith(b"\r\n\r\n{}"):
                targets.append(heard.split(b" ", 2)[1])
                await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
                heard = b""
        ended.set()
        await stream.aclose()

    listeners = await nursery.start(
        trio.serve_listeners, proxy, await trio.open_tcp_listeners(0, host="127.0.0.1")
    )
    url = Secret(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
    client = Client()
    with trio.fail_after(10):
        for _ in range(2):
            answer = await client.send(CALL, url)
            assert await answer.error_body() == b"hello"
            await answer.aclose()
        client.keep([url])
        assert await client.sweep() == 0
        client.keep([])
        assert not ended.is_set()
        assert await client.sweep() == 1
        await ended.wait()
    assert targets == [CALL.url.encode()] * 2, "one connection, kept between them"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_stock_transport_trusts_whom_direct_calls_trust(
    scheme: str, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of a company, whose authority is in the system's store; over TLS itself or not."""
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "localhost.pem", TLS / "localhost.key")
    targets: list[bytes] = []

    def tls(stream: trio.abc.Stream) -> trio.SSLStream[trio.abc.Stream]:
        return trio.SSLStream(stream, context, server_side=True, https_compatible=True)

    async def proxy(stream: trio.abc.Stream) -> None:
        stream = tls(stream) if scheme == "https" else stream
        targets.append(bytes(await stream.receive_some()).split(b"\r\n")[0])
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        inner, heard = tls(stream), b""
        while not heard.endswith(b"\r\n\r\n{}"):
            heard += bytes(await inner.receive_some())
        await inner.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
        await inner.receive_some()
        await inner.aclose()

    listeners = await nursery.start(
        trio.serve_listeners, proxy, await trio.open_tcp_listeners(0, host="127.0.0.1")
    )
    port = listeners[0].socket.getsockname()[1]
    client = Client()
    call = Call("POST", "https://localhost:8443/v1", (), b"{}")
    with trio.fail_after(10):
        answer = await client.send(call, Secret(f"{scheme}://localhost:{port}"))
        assert await answer.error_body() == b"hello"
        await client.aclose()
    assert targets == [b"CONNECT localhost:8443 HTTP/1.1"]
    nursery.cancel_scope.cancel()
