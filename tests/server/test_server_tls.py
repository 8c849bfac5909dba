"""HTTPS over real sockets: HTTP/2 by ALPN, streams that end alone, handshakes that fail."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
import trio
from h2.settings import SettingCodes

from tests.kit.wire import Wire
from tests.kit.world import KEY, World
from tests.server.peer import begun, chat, end_of, post, until
from uniapi.codec import JsonObject, loads
from uniapi.demo import SIXTY, Fault, Provider
from uniapi.server.bind import Bind

TLS = Path(__file__).parents[1] / "fixtures" / "tls"
ASK: JsonObject = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hello"}],
    "stream": True,
}
AUTH = {"authorization": f"Bearer {KEY}"}


@dataclass
class Site:
    """A gateway behind TLS on loopback, and its one provider."""

    world: World
    upstream: Provider
    port: int = 0
    opened: list[trio.abc.Stream] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def trust(self, *protocols: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
        context.set_alpn_protocols(list(protocols))
        return context

    def client(self, *, http2: bool) -> httpx.AsyncClient:
        trust = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
        return httpx.AsyncClient(
            http2=http2, verify=trust, base_url=self.url, headers=AUTH, trust_env=False
        )

    async def tls(self, *protocols: str) -> trio.SSLStream[trio.SocketStream]:
        stream = await trio.open_ssl_over_tcp_stream(
            "localhost", self.port, ssl_context=self.trust(*protocols), https_compatible=True
        )
        self.opened.append(stream)
        return stream

    async def tcp(self) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self.opened.append(stream)
        return stream

    async def settled(self) -> None:
        server, upstream = self.world.server, self.upstream
        with trio.fail_after(10):
            await until(lambda: not server.open_connections and not upstream.active)

    async def well(self) -> bool:
        async with self.client(http2=False) as client:
            return (await client.get("/healthz")).status_code == 200


@pytest.fixture
async def site(nursery: trio.Nursery) -> AsyncIterator[Site]:
    world = World(nursery)
    built = Site(world, world.provider("a", gap=0.002))
    world.chain("a", top="preferences: {max_request_body_bytes: 100000}")
    bind = Bind("localhost", 0, str(TLS / "localhost.pem"), str(TLS / "localhost.key"))
    context = bind.ssl_context()
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    built.port = listeners[0].socket.getsockname()[1]

    async def handler(stream: trio.SocketStream) -> None:
        await world.server.serve_stream(stream, context)

    nursery.start_soon(world.server.serve, listeners, handler)
    try:
        with trio.fail_after(20):
            yield built
    finally:
        for stream in built.opened:
            await trio.aclose_forcefully(stream)
    nursery.cancel_scope.cancel()


class Two:
    """A bare HTTP/2 client: one connection, what it heard by stream."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream], *, window: int = 65_535) -> None:
        self.stream = stream
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.http.initiate_connection()
        self.http.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.heads: dict[int, dict[str, str]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: dict[int, str] = {}

    async def flush(self) -> None:
        await self.stream.send_all(self.http.data_to_send())

    async def begin(self, method: str, path: str, *, key: str = KEY, end: bool = True) -> int:
        stream = begun(self.http, method, path, key=key, end=end)
        await self.flush()
        return stream

    async def ask(self, body: bytes, *, key: str = KEY) -> int:
        stream = await self.begin("POST", "/v1/chat/completions", key=key, end=False)
        self.http.send_data(stream, body, end_stream=True)
        await self.flush()
        return stream

    async def more(self) -> None:
        """Take in one read."""
        data = await self.stream.receive_some()
        assert data, "the connection was closed"
        for event in self.http.receive_data(bytes(data)):
            match event:
                case h2.events.ResponseReceived(stream_id=stream, headers=headers):
                    self.heads[stream] = {str(name): str(value) for name, value in headers}
                case h2.events.DataReceived(stream_id=stream, data=part):
                    self.bodies[stream] = self.bodies.get(stream, b"") + part
                    self.http.acknowledge_received_data(event.flow_controlled_length, stream)
                case h2.events.StreamEnded(stream_id=stream):
                    self.ended[stream] = "whole"
                case h2.events.StreamReset(stream_id=stream):
                    self.ended[stream] = "reset"
                case h2.events.ConnectionTerminated():
                    raise AssertionError(event)
                case _:
                    pass
        await self.flush()

    async def until_ended(self, stream: int) -> str:
        while stream not in self.ended:
            await self.more()
        return self.ended[stream]


async def test_http2_is_chosen_by_alpn_and_streams(site: Site) -> None:
    async with (
        site.client(http2=True) as client,
        client.stream("POST", "/v1/chat/completions", json=ASK) as answer,
    ):
        assert answer.http_version == "HTTP/2"
        assert answer.status_code == 200
        assert "x-request-id" in answer.headers
        parts = [part async for part in answer.aiter_raw()]
    assert len(parts) > 10, "it came in one piece"
    assert b"".join(parts).endswith(b"data: [DONE]\n\n")


async def test_http_1_1_over_tls_works(site: Site) -> None:
    async with site.client(http2=False) as client:
        for _ in range(2):
            answer = await client.post("/v1/chat/completions", json={**ASK, "stream": False})
            assert answer.http_version == "HTTP/1.1"
            assert answer.json()["choices"][0]["message"]["content"] == SIXTY
    await site.settled()


async def test_connection_close_over_tls_ends_with_a_goodbye(site: Site) -> None:
    stream = trio.SSLStream(await site.tcp(), site.trust("http/1.1"), server_hostname="localhost")
    # Not `https_compatible`: an end without a goodbye would raise.
    await stream.send_all(post(chat(stream=False), "connection: close"))
    heard = b""
    while data := await stream.receive_some():
        heard += data
    assert loads(heard.partition(b"\r\n\r\n")[2]) is not None


async def test_413_over_tls_reaches_a_client_that_is_still_sending(site: Site) -> None:
    stream = await site.tls("http/1.1")
    await stream.send_all(post(b"", "content-length: 1000000"))
    for _ in range(20):
        await stream.send_all(b"x" * 20_000)
        await trio.sleep(0.005)
    heard = await Wire(stream).hear()
    assert heard.status == 413
    await trio.aclose_forcefully(stream)
    await site.settled()


async def test_a_client_that_vanishes_in_http_1_1_over_tls_cancels_its_upstream(site: Site) -> None:
    site.world.provider("a", ttft=30)
    upstream = site.upstream = site.world.network.providers["a"]
    stream = await site.tls("http/1.1")
    await stream.send_all(post(chat()))
    await until(lambda: upstream.active == 1)
    await trio.aclose_forcefully(stream)
    await site.settled()
    assert upstream.requests[0].disconnected_at is not None


async def test_a_stream_that_is_reset_cancels_its_upstream_and_no_other(site: Site) -> None:
    upstream = site.upstream = site.world.provider(
        "a", behaviour=None, ttft=0.0, gap=0.01, tokens=200
    )
    two = Two(await site.tls("h2"))
    first, second = await two.ask(chat()), await two.ask(chat())
    await _until_heard(two, first)
    two.http.reset_stream(first)
    await two.flush()
    with trio.fail_after(10):
        await until(lambda: upstream.requests[0].disconnected_at is not None)
    assert await two.until_ended(second) == "whole"
    assert two.bodies[second].endswith(b"data: [DONE]\n\n")
    assert sum(seen.disconnected_at is not None for seen in upstream.requests) == 1
    await trio.aclose_forcefully(two.stream)
    await site.settled()


async def test_a_refusal_before_the_body_ends_its_stream_only(site: Site) -> None:
    two = Two(await site.tls("h2"))
    good = await two.ask(chat())
    bad = await two.begin("POST", "/v1/chat/completions", key="sk-wrong", end=False)
    while bad not in two.heads:
        await two.more()
    assert two.heads[bad][":status"] == "401"
    for _ in range(10):  # the rest of a body nobody waits for
        try:
            two.http.send_data(bad, b"x" * 3000)
        except h2.exceptions.StreamClosedError:
            break
        await two.flush()
        await trio.sleep(0.002)
    assert await two.until_ended(good) == "whole"
    health = await two.begin("GET", "/healthz")
    assert await two.until_ended(health) == "whole"
    assert two.heads[health][":status"] == "200"
    await trio.aclose_forcefully(two.stream)


async def test_413_in_http2_has_a_head_a_client_can_read(site: Site) -> None:
    async with site.client(http2=True) as client:
        answer = await client.post("/v1/chat/completions", content=b" " * 200_000)
        assert answer.http_version == "HTTP/2"
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"
        assert "connection" not in answer.headers


async def test_an_answer_that_is_given_up_is_reset(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uniapi.frontend.answer.WRITE_TIMEOUT", 0.2)
    two = Two(await site.tls("h2"), window=100)
    big = await two.begin("POST", "/v1/chat/completions", end=False)
    site.world.provider("a", text="x" * 200_000)
    two.http.send_data(big, chat(), end_stream=True)
    two.http.acknowledge_received_data = lambda *_: None  # type: ignore[method-assign] # a client that does not open its window
    await two.flush()
    assert await two.until_ended(big) == "reset"
    health = await two.begin("GET", "/healthz")
    while health not in two.heads:
        await two.more()
    assert two.heads[health][":status"] == "200"
    await trio.aclose_forcefully(two.stream)
    await site.settled()


async def test_pings_do_not_begin_the_deadline_of_a_head(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uniapi.server.connection.HEAD_TIMEOUT", 0.05)
    two = Two(await site.tls("h2"))
    await two.flush()
    for _ in range(4):
        two.http.ping(b"12345678")
        await two.flush()
        await trio.sleep(0.05)
    health = await two.begin("GET", "/healthz")
    assert await two.until_ended(health) == "whole"
    await trio.aclose_forcefully(two.stream)


async def test_a_non_ascii_path_in_http2_ends_that_connection_only(site: Site) -> None:
    two = Two(await site.tls("h2"))
    two.http.send_headers(
        1,
        [
            (b":method", b"GET"),
            (b":path", b"/\xff\xfe"),
            (b":authority", b"localhost"),
            (b":scheme", b"https"),
        ],
        end_stream=True,
    )
    await two.flush()
    await end_of(two.stream)
    assert await site.well()
    await trio.aclose_forcefully(two.stream)
    await site.settled()


async def test_a_websocket_in_http2_is_refused_and_ends_alone(site: Site) -> None:
    two = Two(await site.tls("h2"))
    good = await two.ask(chat())
    stream = two.http.get_next_available_stream_id()
    head = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":path", "/v1/realtime"),
        (":authority", "localhost"),
        (":scheme", "https"),
        ("sec-websocket-version", "13"),
    ]
    two.http.send_headers(stream, head)
    await two.flush()
    assert await two.until_ended(stream) in {"whole", "reset"}
    assert two.heads.get(stream, {}).get(":status", "403").startswith("4")
    assert await two.until_ended(good) == "whole"


async def test_an_idle_http2_connection_is_closed_when_draining(site: Site) -> None:
    two = Two(await site.tls("h2"))
    health = await two.begin("GET", "/healthz")
    assert await two.until_ended(health) == "whole"
    site.world.server.stop()
    with trio.fail_after(10):
        await end_of(two.stream)


@pytest.mark.parametrize(
    "noise", [b"", b"GET / HTTP/1.1\r\nhost: g\r\n\r\n", b"\x16\x03\x01\x00\x05hello"]
)
async def test_a_failed_handshake_leaves_the_server_alive(site: Site, noise: bytes) -> None:
    stream = await site.tcp()
    if noise:
        await stream.send_all(noise)
        await end_of(stream)
    await stream.aclose()
    assert await site.well()
    await site.settled()


async def test_an_untrusting_client_leaves_the_server_alive(site: Site) -> None:
    stranger = ssl.create_default_context()
    stream = trio.SSLStream(await site.tcp(), stranger, server_hostname="localhost")
    with pytest.raises(trio.BrokenResourceError):
        await stream.do_handshake()
    assert await site.well()


async def test_a_handshake_that_never_comes_is_given_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uniapi.server.connection.HANDSHAKE_TIMEOUT", 0.05)
    stream = await site.tcp()
    with trio.fail_after(10):
        await end_of(stream)


async def test_a_provider_that_breaks_ends_the_http2_stream_with_an_error(site: Site) -> None:
    site.world.provider("a", fault=Fault.ABORT, at=3)
    two = Two(await site.tls("h2"))
    stream = await two.ask(chat())
    assert await two.until_ended(stream) == "whole"
    assert b'"error"' in two.bodies[stream]
    assert b"[DONE]" not in two.bodies[stream]
    await trio.aclose_forcefully(two.stream)


async def _until_heard(two: Two, stream: int) -> None:
    while len(two.bodies.get(stream, b"")) < 500:
        await two.more()
