"""Tokens are asked for once, early, through the provider's proxy, and never shown to others."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing
from trio.testing import memory_stream_pair

from tests.kit.world import KEY, World, config_of
from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.config.types import Config, Provider, Secret
from uniapi.demo.http1 import Connection, Message
from uniapi.engines.base import Call
from uniapi.engines.vertex_gemini import VertexGemini
from uniapi.errors import Failure, Kind
from uniapi.upstream.client import Client
from uniapi.upstream.credentials import Credentials

PEM = (Path(__file__).parent.parent / "fixtures" / "keys" / "service_account.pem").read_text()
ACCOUNT: JsonObject = {
    "provider": "v",
    "base_url": "http://vertex.example",
    "project_id": "proj",
    "client_email": "bot@proj.example",
    "private_key": PEM,
    "token_uri": "http://tokens.example/token",
    "model": ["gemini-2.5-flash"],
}
TEXT = codec.dumps({"providers": [ACCOUNT], "api_keys": [{"api": KEY}]}).decode()


@dataclass
class Tokens:
    """A token endpoint made of memory: it numbers its tokens, takes its time, and may refuse."""

    nursery: trio.Nursery
    status: int = 200
    body: JsonObject | None = None
    takes: float = 0.0
    lasts: int = 3600
    asked: int = 0
    gone: bool = False

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        assert host == "tokens.example"
        if self.gone:
            raise OSError("unreachable")
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self.serve, theirs)
        return ours

    async def serve(self, stream: trio.abc.Stream) -> None:
        connection = Connection(stream)
        while await connection.request() is not None:
            self.asked += 1
            said: JsonObject = {"access_token": f"ya29.{self.asked}", "expires_in": self.lasts}
            body = codec.dumps(self.body or said)
            await trio.sleep(self.takes)
            head = f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(body)}\r\n\r\n"
            with suppress(trio.BrokenResourceError):  # whoever asked has left
                await stream.send_all(head.encode() + body)


class Signed(VertexGemini):
    """The engine with its call made beforehand: threads do not wait for a virtual clock."""

    def __init__(self) -> None:
        self.calls = 0

    def grant(self, provider: Provider, now: float) -> Call | None:
        self.calls += 1
        assert abs(now - time.time()) < 60
        return Call("POST", provider.token_uri or "", (), b"grant_type=x&assertion=y")


@dataclass
class Desk:
    """Credentials, and those who ask for them."""

    tokens: Tokens
    config: Config = field(default_factory=lambda: config_of(TEXT))
    engine: Signed = field(default_factory=Signed)

    def __post_init__(self) -> None:
        self.credentials = Credentials(Client(self.tokens))

    async def ask(self) -> str | Failure:
        provider = self.config.providers[0]
        found = await self.credentials.key(self.engine, provider, self.config, None)
        match found:
            case Secret():
                return found.reveal()
            case Failure():
                return found
            case None:
                raise AssertionError("no key, no token, no failure")


@pytest.fixture
def desk(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> Desk:
    async def at_once(sync: Callable[..., object], *args: object) -> object:
        await trio.lowlevel.checkpoint()
        return sync(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    return Desk(Tokens(nursery))


async def many(desk: Desk, count: int) -> list[str | Failure]:
    found: list[str | Failure] = []

    async def one() -> None:
        found.append(await desk.ask())

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return found


async def test_one_refresh_serves_all_who_wait(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    desk.tokens.takes = 2.0
    assert await many(desk, 50) == ["ya29.1"] * 50
    assert trio.current_time() == 2.0
    assert (desk.tokens.asked, desk.engine.calls) == (1, 1)


async def test_one_failure_serves_all_who_wait(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    desk.tokens.takes = 2.0
    desk.tokens.status, desk.tokens.body = (
        400,
        {"error": "invalid_grant", "error_description": "No"},
    )
    found = await many(desk, 50)
    assert {failure.kind for failure in found if isinstance(failure, Failure)} == {Kind.KEY}
    assert len(found) == 50
    assert (trio.current_time(), desk.tokens.asked) == (2.0, 1)
    desk.tokens.status, desk.tokens.body = 200, None
    assert await desk.ask() == "ya29.2", "the next to come asks again"


async def test_a_token_is_kept_and_another_is_had_five_minutes_early(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    assert await desk.ask() == "ya29.1"
    await trio.sleep(3299)
    assert await desk.ask() == "ya29.1"
    await trio.sleep(1)
    assert await desk.ask() == "ya29.2"


async def test_a_short_token_is_used_for_half_its_life(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    desk.tokens.lasts = 100
    assert await desk.ask() == "ya29.1"
    await trio.sleep(49)
    assert await desk.ask() == "ya29.1"
    await trio.sleep(1)
    assert await desk.ask() == "ya29.2"


async def test_a_token_serves_on_while_no_other_can_be_had(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    await desk.ask()
    await trio.sleep(3300)
    desk.tokens.status, desk.tokens.body = 503, {"error": {"code": 503, "message": "busy"}}
    desk.tokens.takes = 5.0
    assert await desk.ask() == "ya29.1"
    begun = trio.current_time()
    assert await many(desk, 3) == ["ya29.1"] * 3
    assert trio.current_time() == begun, "and nobody waits for half a minute"
    await trio.sleep_until(trio.current_time() + 30)
    assert await desk.ask() == "ya29.1"
    assert desk.tokens.asked == 3
    await trio.sleep(300)
    found = await desk.ask()
    assert isinstance(found, Failure), "until it expires"
    assert (found.kind, found.status) == (Kind.SERVER, 503)


async def test_who_refreshes_may_leave_and_the_next_goes_on(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    desk.tokens.takes = 2.0
    found: list[str | Failure] = []

    async def patient() -> None:
        found.append(await desk.ask())

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1):
            nursery.start_soon(patient)
            await desk.ask()
    assert found == ["ya29.2"]
    assert trio.current_time() == 3.0


async def test_a_token_that_was_refused_is_not_shown_again(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    await desk.ask()
    provider = desk.config.providers[0]
    desk.credentials.forget(provider, Secret("ya29.0"))
    assert await desk.ask() == "ya29.1", "another's refusal says nothing of this one"
    desk.credentials.forget(provider, Secret("ya29.1"))
    assert await desk.ask() == "ya29.2"


@pytest.mark.parametrize(
    ("status", "body", "kind", "seen", "said"),
    [
        (
            400,
            {"error": "invalid_grant", "error_description": "Invalid JWT Signature."},
            Kind.KEY,
            400,
            "no token for the service account: Invalid JWT Signature.",
        ),
        (403, {"error": {"code": 403, "message": "Denied"}}, Kind.KEY, 403, "no token: Denied"),
        (404, {"detail": "nothing here"}, Kind.KEY, 404, "no token: nothing here"),
        (500, {"error": {"code": 500, "message": "Oops"}}, Kind.SERVER, 500, "no token: Oops"),
        (
            429,
            {"error": {"code": 429, "message": "Slow down"}},
            Kind.RATE_LIMIT,
            429,
            "no token: Slow down",
        ),
        (200, {"hello": "world"}, Kind.KEY, 401, "no token: the answer holds no access token"),
    ],
)
async def test_a_refusal_is_the_fault_of_the_account_unless_the_server_is_unwell(
    desk: Desk, status: int, body: JsonObject, kind: Kind, seen: int, said: str
) -> None:
    desk.tokens.status, desk.tokens.body = status, body
    found = await desk.ask()
    assert isinstance(found, Failure)
    assert (found.kind, found.status, found.message) == (kind, seen, said)


async def test_an_endpoint_that_is_silent_or_gone_is_a_failure_to_connect(
    desk: Desk, autojump_clock: trio.testing.MockClock
) -> None:
    desk.tokens.takes = 1000.0
    found = await desk.ask()
    assert isinstance(found, Failure)
    assert (found.kind, found.status) == (Kind.CONNECT, 504)
    assert trio.current_time() == 20.0
    desk.tokens.gone = True
    found = await desk.ask()
    assert isinstance(found, Failure)
    assert (found.kind, found.status) == (Kind.CONNECT, 502)
    assert found.message.startswith("no token: could not connect")


async def test_a_key_that_cannot_sign_is_the_accounts_fault_and_is_not_shown(
    nursery: trio.Nursery,
) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LWtleQ==\n-----END PRIVATE KEY-----\n"
    config = config_of(TEXT)
    provider = replace(config.providers[0], private_key=Secret(pem))
    credentials = Credentials(Client(Tokens(nursery)))
    found = await credentials.key(VertexGemini(), provider, config, None)
    assert isinstance(found, Failure)
    assert found.kind is Kind.KEY
    assert "c2Vj" not in found.message


DAMAGED = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0LWtleQ==\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("pem", ["nonsense", DAMAGED])
async def test_a_client_hears_that_the_key_in_the_file_is_none(
    nursery: trio.Nursery, pem: str
) -> None:
    """Nobody refused anything: no provider was asked, and the client's key is fine."""
    broken: JsonObject = {**ACCOUNT, "private_key": pem}
    text = codec.dumps({"providers": [broken], "api_keys": [{"api": KEY}]}).decode()
    world = World(nursery).start(text)
    asked: Json = [{"role": "user", "content": "Hello"}]
    with trio.fail_after(20):  # the real clock: the key is read in a thread
        heard = await world.ask(model="gemini-2.5-flash", messages=asked, stream=False)
    assert heard.status == 500
    match codec.loads(heard.body):
        case {"error": {"code": "bad_private_key", "type": "server_error", "message": str(said)}}:
            start = "provider v, model gemini-2.5-flash: the provider cannot be used: "
            assert said.startswith(start + "the private key is ")
        case other:
            raise AssertionError(other)
    assert b"c2Vj" not in heard.body
    nursery.cancel_scope.cancel()


async def test_a_key_that_is_none_sends_the_request_to_the_next_provider_and_rests(
    nursery: trio.Nursery,
) -> None:
    broken: JsonObject = {**ACCOUNT, "private_key": DAMAGED, "model": ["m"]}
    whole: JsonObject = {
        "provider": "w",
        "base_url": "http://w/v1/chat/completions",
        "api": "sk-up-w",
        "model": ["m"],
    }
    text = codec.dumps({"providers": [broken, whole], "api_keys": [{"api": KEY}]}).decode()
    world = World(nursery)
    provider = world.provider("w")
    world.start(text)
    with trio.fail_after(20):
        first = await world.ask(stream=False)
        second = await world.ask(stream=False)
    assert (first.status, second.status) == (200, 200)
    trails = [heard.headers["x-uniapi-attempts"] for heard in (first, second)]
    assert trails[0].startswith("v/m;key;status=500"), trails
    assert trails[1].startswith("w/m;ok"), trails
    assert len(provider.requests) == 2
    nursery.cancel_scope.cancel()


async def test_providers_of_one_account_do_not_share_a_token_with_others(desk: Desk) -> None:
    first = await desk.ask()
    other = replace(desk.config.providers[0], name="w", client_email="other@proj.example")
    found = await desk.credentials.key(desk.engine, other, desk.config, None)
    assert isinstance(found, Secret)
    assert found.reveal() != first


async def test_who_has_no_account_shows_its_key(desk: Desk) -> None:
    plain = replace(desk.config.providers[0], private_key=None)
    own = Secret("AQ.express")
    assert await desk.credentials.key(desk.engine, plain, desk.config, own) == own
    assert desk.engine.calls == 0


async def test_the_token_is_fetched_through_the_providers_proxy(nursery: trio.Nursery) -> None:
    """A real proxy on a socket: what it is asked for is the token."""
    seen: list[tuple[str, str]] = []

    async def proxy(stream: trio.SocketStream) -> None:
        data = bytes(await stream.receive_some())
        method, target, _ = data.split(b"\r\n", 1)[0].decode().split(" ")
        seen.append((method, target))
        body = b'{"access_token":"ya29.by-proxy","expires_in":3600}'
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        await stream.send_all(head + body)
        await stream.aclose()

    listeners = await nursery.start(
        trio.serve_listeners, proxy, await trio.open_tcp_listeners(0, host="127.0.0.1")
    )
    port = listeners[0].socket.getsockname()[1]
    account: JsonObject = {**ACCOUNT, "preferences": {"proxy": f"http://127.0.0.1:{port}"}}
    config = config_of(codec.dumps({"providers": [account], "api_keys": [{"api": KEY}]}).decode())
    client = Client(Tokens(nursery, gone=True))
    with trio.fail_after(10):
        found = await Credentials(client).key(VertexGemini(), config.providers[0], config, None)
        await client.aclose()
    assert isinstance(found, Secret), found
    assert found.reveal() == "ya29.by-proxy"
    assert seen == [("POST", "http://tokens.example/token")]


ANSWER = codec.dumps(
    {"candidates": [{"content": {"parts": [{"text": "Hi."}]}, "finishReason": "STOP"}]}
)


def reply(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def test_the_whole_way_there_is_one_token_and_it_is_never_logged(
    nursery: trio.Nursery,
) -> None:
    """On the real clock: signing is done in a thread, which a virtual clock would not wait for."""
    shown: list[str] = []
    granted = 0

    async def tokens(stream: trio.abc.Stream) -> None:
        nonlocal granted
        connection = Connection(stream)
        while (message := await connection.request()) is not None:
            assert b"grant_type=urn" in message.body
            granted += 1
            said: JsonObject = {"access_token": f"ya29.s3cret-{granted}", "expires_in": 3600}
            await stream.send_all(reply(200, codec.dumps(said)))

    def vertex_says(message: Message) -> bytes:
        token = message.headers["authorization"]
        shown.append(token)
        if token == "Bearer ya29.s3cret-1" and len(shown) > 3:
            said: JsonObject = {"error": {"code": 401, "message": "expired", "status": "X"}}
            return reply(401, codec.dumps(said))
        return reply(200, ANSWER)

    async def vertex(stream: trio.abc.Stream) -> None:
        connection = Connection(stream)
        while (message := await connection.request()) is not None:
            await stream.send_all(vertex_says(message))

    world = World(nursery)
    world.network.servers |= {"tokens.example": tokens, "vertex.example": vertex}
    world.start(TEXT)
    asked: Json = [{"role": "user", "content": "Hello"}]
    statuses: list[int] = []

    async def ask() -> None:
        heard = await world.ask(model="gemini-2.5-flash", messages=asked, stream=False)
        assert b"ya29" not in heard.body
        statuses.append(heard.status)

    with structlog.testing.capture_logs() as logs, trio.fail_after(20):
        async with trio.open_nursery() as clients:
            for _ in range(3):
                clients.start_soon(ask)
        assert (granted, statuses) == (1, [200, 200, 200])
        await ask()  # refused with a 401: the token is at an end
        await ask()
    assert (granted, statuses[3:]) == (2, [502, 200])
    assert set(shown) == {"Bearer ya29.s3cret-1", "Bearer ya29.s3cret-2"}
    assert logs
    assert "ya29" not in repr(logs)
    assert "PRIVATE" not in repr(logs)
    nursery.cancel_scope.cancel()
