"""Under a host's asyncio loop the gateway behaves as under its own server."""
# ruff: noqa: TID251 - the host's event loop is asyncio's

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypercorn.asyncio
import hypercorn.config
import pytest
import trio

from tests.e2e.running import served, until
from tests.kit.asgi_host import Exchange, Lifespan, chat
from uniapi import bridge as bridging
from uniapi.bridge import Bridge, StoppedError
from uniapi.demo import Behaviour, Fault, Provider

KEY = "sk-bridge-0000"
_CONFIG = """
providers:
  - {{provider: one, base_url: "http://127.0.0.1:{port}/v1/chat/completions", api: k, model: [m]}}
api_keys:
  - api: {key}
"""
_STALLS = Behaviour(fault=Fault.STALL, at=3)


def configured(folder: Path, port: int) -> Path:
    path = folder / "api.yaml"
    path.write_text(_CONFIG.format(port=port, key=KEY))
    path.chmod(0o600)
    return path


@contextmanager
def bridged(folder: Path, provider: Provider) -> Iterator[Bridge]:
    """A bridge before a gateway before this provider."""
    with served([provider]) as (port,):
        configured(folder, port)
        app = Bridge({}, folder)
        yield app
        asyncio.run(app.aclose())


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "uniapi"]


def test_a_whole_answer_and_a_stream(tmp_path: Path) -> None:
    async def host() -> None:
        whole = await chat(app, KEY, stream=False).ended()
        match whole.status, whole.json:
            case 200, {"choices": [{"message": {"content": said}}]}:
                assert said == "Hello you."
            case other:
                raise AssertionError(other)
        streamed = await chat(app, KEY, stream=True).ended()
        assert streamed.body.endswith(b"data: [DONE]\n\n")
        assert streamed.sent[-1]["more_body"] is False
        assert len(streamed.sent) > 2

    with bridged(tmp_path, Provider(Behaviour(text="Hello you.", gap=0.01))) as app:
        asyncio.run(host())


def test_a_chunk_arrives_before_the_provider_has_said_the_last_and_leaving_ends_it(
    tmp_path: Path,
) -> None:
    async def host() -> None:
        asked = chat(app, KEY, stream=True)
        await asked.until(lambda: b"keeps" in asked.body or b"gateway" in asked.body)
        assert provider.active == 1
        asked.leave()
        await asked.ended()
        assert b"[DONE]" not in asked.body

    provider = Provider(_STALLS)
    with bridged(tmp_path, provider) as app:
        asyncio.run(host())
        until(lambda: provider.active == 0, "the provider is hung up on")


def test_the_host_s_cancellation_ends_the_request_before_it_is_passed_on(tmp_path: Path) -> None:
    async def host() -> None:
        asked = chat(app, KEY, stream=True)
        await asked.until(lambda: len(asked.sent) > 1)
        asked.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked.task
        said = len(asked.sent)
        assert (await chat(app, KEY, stream=False, path="/healthz", method="GET").ended()).sent
        assert len(asked.sent) == said

    provider = Provider(_STALLS)
    with bridged(tmp_path, provider) as app:
        asyncio.run(host())
        until(lambda: provider.active == 0, "the provider is hung up on")


def test_a_client_that_send_says_is_gone_is_gone(tmp_path: Path) -> None:
    async def host() -> None:
        asked = await chat(app, KEY, stream=True, breaks=BrokenPipeError()).ended()
        assert len(asked.sent) == 1

    provider = Provider(_STALLS)
    with bridged(tmp_path, provider) as app:
        asyncio.run(host())
        until(lambda: provider.active == 0, "the provider is hung up on")


def test_a_slow_client_is_sent_one_message_at_a_time(tmp_path: Path) -> None:
    async def host() -> None:
        slow = asyncio.Event()
        asked = chat(app, KEY, stream=True, slow=slow)
        await asked.until(lambda: asked.at_once == 1)
        await chat(app, KEY, stream=False).ended()  # the others do not wait for it
        assert asked.sent == []
        slow.set()
        await asked.ended()
        assert asked.at_once == 1
        assert asked.body.endswith(b"[DONE]\n\n")

    with bridged(tmp_path, Provider(Behaviour(text="Hello you."))) as app:
        asyncio.run(host())


def test_twenty_requests_at_a_time(tmp_path: Path) -> None:
    async def host() -> None:
        asked = [chat(app, KEY, stream=bool(number % 2)) for number in range(20)]
        for number, one in enumerate(asked):
            await one.ended()
            assert one.status == 200, one.body
            assert one.body.endswith(b"[DONE]\n\n") == bool(number % 2)

    with bridged(tmp_path, Provider(Behaviour(text="Hello you.", gap=0.02))) as app:
        asyncio.run(host())


def test_statistics_are_kept_only_where_they_are_asked_for(tmp_path: Path) -> None:
    async def host(env: dict[str, str]) -> None:
        app = Bridge(env, tmp_path)
        assert (await chat(app, KEY, stream=False).ended()).status == 200
        await app.aclose()

    kept = tmp_path / "kept" / "stats.db"
    with served([Provider(Behaviour(text="Hello you."))]) as (port,):
        configured(tmp_path, port)
        asyncio.run(host({}))
        assert [path.name for path in tmp_path.iterdir()] == ["api.yaml"]
        asyncio.run(host({"DB_PATH": str(kept)}))
        assert kept.exists()


def test_every_request_may_come_with_a_loop_of_its_own(tmp_path: Path) -> None:
    async def host() -> None:
        assert (await chat(app, KEY, stream=True).ended()).status == 200

    with bridged(tmp_path, Provider(Behaviour(text="Hello you."))) as app:
        for _ in range(3):
            asyncio.run(host())
        assert threads() == ["uniapi"]


def test_the_lifespan_starts_and_ends_the_gateway(tmp_path: Path) -> None:
    async def host() -> None:
        lifespan = Lifespan(app)
        assert await lifespan.say("startup") == {"type": "lifespan.startup.complete"}
        assert threads() == ["uniapi"]
        under_way = chat(app, KEY, stream=True)
        await under_way.until(lambda: len(under_way.sent) > 1)
        assert await lifespan.say("shutdown") == {"type": "lifespan.shutdown.complete"}
        await lifespan.task
        assert threads() == []
        with pytest.raises(StoppedError):
            await under_way.ended()
        assert (await Exchange(app, "/healthz", "GET").ended()).status == 200  # it starts again

    provider = Provider(_STALLS)
    with bridged(tmp_path, provider) as app:
        assert threads() == []
        asyncio.run(host())


def test_without_a_configuration_every_answer_says_so_until_there_is_one(tmp_path: Path) -> None:
    async def host() -> None:
        lifespan = Lifespan(app)
        assert (await lifespan.say("startup"))["type"] == "lifespan.startup.failed"
        await lifespan.task
        for address, said in (("", "has no configuration"), (broken, "cannot be used")):
            env["CONFIG_URL"] = address
            refused = await Exchange(app, "/v1/models", "GET").ended()
            match refused.status, refused.json:
                case 503, {"error": {"code": "not_configured", "message": str(message)}}:
                    assert said in message
                case other:
                    raise AssertionError(other)
        env["CONFIG_URL"] = good
        assert (await chat(app, KEY, stream=False).ended()).status == 200
        await app.aclose()

    env: dict[str, str] = {}
    app = Bridge(env, tmp_path)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("providers: [")
    with served([Provider(Behaviour())]) as (port,):
        broken = wrong.as_uri()
        good = configured(tmp_path, port).rename(tmp_path / "far.yaml").as_uri()
        asyncio.run(host())


def test_a_websocket_is_refused_with_and_without_a_configuration(tmp_path: Path) -> None:
    async def closed(app: Bridge) -> dict[str, Any]:
        sent: asyncio.Queue[Any] = asyncio.Queue()
        await app({"type": "websocket"}, sent.get, sent.put)
        said: dict[str, Any] = sent.get_nowait()
        return said

    assert asyncio.run(closed(Bridge({}, tmp_path)))["type"] == "websocket.close"
    with bridged(tmp_path, Provider()) as app:
        assert asyncio.run(closed(app)) == {"type": "websocket.close", "code": 1003}


def with_app(
    monkeypatch: pytest.MonkeyPatch, app: Callable[[Any, Any, Any], Awaitable[None]]
) -> None:
    """In place of the gateway's routes."""
    monkeypatch.setattr(bridging, "App", lambda _gateway: app)


def test_what_the_application_raises_the_host_hears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("a bug")

    async def host() -> None:
        with pytest.raises(ValueError, match="a bug"):
            await Exchange(app, "/").ended()

    with_app(monkeypatch, broken)
    with bridged(tmp_path, Provider()) as app:
        asyncio.run(host())


def test_a_wait_for_a_message_that_is_given_up_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def impatient(_scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b"one"
        with trio.move_on_after(0):
            await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        assert (await receive())["body"] == b"two"
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def host() -> None:
        asked = await Exchange(app, "/", parts=(b"one", b"two")).ended()
        assert (asked.asked, len(asked.sent)) == (2, 2)

    with_app(monkeypatch, impatient)
    with bridged(tmp_path, Provider()) as app:
        asyncio.run(host())


def test_a_send_that_is_given_up_is_given_up_by_the_host_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def impatient(_scope: Any, _receive: Any, send: Any) -> None:
        with trio.move_on_after(0.01):
            await send({"type": "http.response.start", "status": 200, "headers": []})

    async def host() -> None:
        asked = await Exchange(app, "/", slow=asyncio.Event()).ended()
        assert (asked.at_once, asked.sent) == (1, [])

    with_app(monkeypatch, impatient)
    with bridged(tmp_path, Provider()) as app:
        asyncio.run(host())


def test_a_gateway_that_ends_in_mid_request_ends_it_and_the_next_starts_another(
    tmp_path: Path,
) -> None:
    async def host() -> None:
        under_way = chat(app, KEY, stream=True)
        await under_way.until(lambda: len(under_way.sent) > 1)
        room = app._room
        assert room is not None
        room._token.run_sync_soon(room._calls.start_soon, _bug)
        with pytest.raises(StoppedError):
            await under_way.ended()
        await asyncio.wrap_future(room.ended)
        assert (await Exchange(app, "/healthz", "GET").ended()).status == 200

    async def _bug() -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    with bridged(tmp_path, Provider(_STALLS)) as app:
        asyncio.run(host())


def test_nothing_of_a_request_is_left_on_the_host_s_loop(tmp_path: Path) -> None:
    async def host() -> None:
        for _ in range(5):
            await chat(app, KEY, stream=True).ended()
        gc.collect()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with bridged(tmp_path, Provider(Behaviour(text="Hello you."))) as app:
        asyncio.run(host())


def test_under_a_real_server_of_asyncio_s(tmp_path: Path) -> None:
    async def host() -> bytes:
        config = hypercorn.config.Config()
        config.bind = ["127.0.0.1:0"]
        sockets = config.create_sockets()
        sockets.insecure_sockets[0].listen()
        port = sockets.insecure_sockets[0].getsockname()[1]
        config.create_sockets = lambda: sockets  # type: ignore[method-assign] # a port we know
        config.errorlog = None
        stop = asyncio.Event()
        server = asyncio.create_task(
            hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type] # its types name every message
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"Hello"}]}'
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nconnection: close\r\n"
            b"authorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
            % (KEY.encode(), len(body), body)
        )
        heard = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        stop.set()
        await asyncio.wait_for(server, 5)
        return heard

    with bridged(tmp_path, Provider(Behaviour(text="Hello you."))) as app:
        heard = asyncio.run(host())
        assert heard.startswith(b"HTTP/1.1 200")
        assert b"[DONE]" in heard
        assert threads() == []  # by its lifespan
