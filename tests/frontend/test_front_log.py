"""One line a request that says what a person needs, and never a key."""

from __future__ import annotations

import io
import json

import pytest
import structlog
import trio
from structlog.typing import EventDict
from trio.testing import MockClock

from tests.kit.logged import line, lines
from tests.kit.world import KEY, World
from uniapi import log
from uniapi.demo import Fault
from uniapi.demo.behaviour import Behaviour, error_body
from uniapi.frontend import app, info_routes
from uniapi.frontend.answer import Answer
from uniapi.frontend.asgi import Request
from uniapi.frontend.gateway import Gateway

UPSTREAM_KEY = "sk-up-a"


async def test_a_request_leaves_one_line_with_the_fields_a_person_needs(
    world: World, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    world.provider("b", ttft=2, gap=0.5)
    world.chain("b")
    heard = await world.ask()
    done = line(logs)
    assert done["request"] == heard.headers["x-request-id"]
    assert done["path"] == "/v1/chat/completions"
    assert (done["outcome"], done["status"], done["log_level"]) == ("ok", 200, "info")
    assert (done["model"], done["stream"], done["channel"]) == ("m", True, "b/m")
    assert (done["finish"], done["upstream_model"]) == ("stop", "m")
    assert (done["prompt_tokens"], done["completion_tokens"]) == (7, 60)
    assert (done["ttft_ms"], done["ms"]) == (2000, 31500)
    assert done["bytes"] == len(heard.body)
    assert done["attempts"] == "b/m;ok;ms=31500"
    assert "error" not in done


async def test_the_line_tells_every_attempt(
    world: World, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    world.provider("a", status=400)
    world.provider("b", fault=Fault.HANG)
    world.provider("c")
    world.chain("a", "b", "c", top="preferences: {model_timeout: {m: 10}}")
    await world.ask()
    done = line(logs)
    assert done["attempts"].startswith("a/m;bad_request;status=400;ms=0, b/m;first_token_timeout")
    assert done["attempts"].endswith("c/m;ok;ms=0")
    assert (done["outcome"], done["channel"]) == ("ok", "c/m")


async def test_every_kind_of_request_leaves_exactly_one_line(
    world: World, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    world.provider("a")
    world.chain("a")
    await world.get("/v1/models")
    await world.get("/nowhere")
    await world.get("/v1/chat/completions")
    await world.ask(key="sk-wrong")
    await world.ask(model="unknown")
    await world.ask(messages=[])
    told = [(line["status"], line["outcome"], line["log_level"]) for line in lines(logs)]
    error = [(status, "error", "warning") for status in (404, 405, 401, 404, 422)]
    assert told == [(200, "ok", "info"), *error]
    assert all(line["error"] for line in lines(logs)[1:])


async def test_probes_are_told_only_to_who_debugs(
    world: World, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    world.provider("a")
    world.chain("a")
    await world.get("/healthz", key=None)
    await world.get("/v1/readyz", key=None)
    assert [line["log_level"] for line in lines(logs)] == ["debug", "debug"]


async def test_a_client_that_leaves_is_told_as_such_in_every_phase(
    world: World, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    world.provider("a", ttft=10, gap=1)
    world.chain("a")
    for seconds, stream in ((5, True), (5, False), (20, True), (20, False)):
        wire = world.connect()
        await world.send(wire, stream=stream)
        await trio.sleep(seconds)
        await wire.stream.aclose()
    wire = world.connect()
    await wire.stream.send_all(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 9\r\n"
        b"authorization: Bearer " + KEY.encode() + b"\r\n\r\n{"
    )
    await trio.testing.wait_all_tasks_blocked()
    await wire.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    told = [(line["outcome"], line["log_level"]) for line in lines(logs)]
    assert told == [("client_left", "info")] * 5


async def test_a_stream_that_breaks_is_told_with_its_reason(
    world: World, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    world.provider("a", fault=Fault.CUT, at=5)
    world.chain("a")
    await world.ask()
    done = line(logs)
    assert (done["outcome"], done["status"], done["log_level"]) == ("cut", 200, "warning")
    assert done["error"]


async def test_a_request_the_server_ends_is_not_told_as_well(
    world: World, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    world.provider("a", gap=1)
    world.chain("a")
    async with trio.open_nursery() as nursery:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(world.server.serve_transport, theirs)
        wire = world.connect()
        wire.stream = ours
        await world.send(wire)
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    done = line(logs)
    assert done["outcome"] == "cancelled"


async def test_no_line_and_no_answer_holds_a_key(
    world: World, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    echo = error_body(
        f"Incorrect API key provided: {UPSTREAM_KEY} for http://a/v1", type="authentication_error"
    )
    ways = [
        Behaviour(status=401, error=echo),
        Behaviour(status=400, error=echo),
        Behaviour(status=500, error=f"<h1>{UPSTREAM_KEY}</h1>".encode()),
        Behaviour(fault=Fault.ERROR_OBJECT, error=echo),
        Behaviour(fault=Fault.ERROR_EVENT, error=echo),
        Behaviour(fault=Fault.ERROR_EVENT, error=echo, at=5),
        Behaviour(fault=Fault.HANG),
    ]
    heads = []
    for way in ways:
        for stream in (True, False):
            world.provider("a", way)
            world.chain("a")
            heard = await world.ask(stream=stream)
            heads.append(str(heard.headers))
            assert UPSTREAM_KEY.encode() not in heard.body, way
            assert KEY.encode() not in heard.body, way
    world.provider("a")
    world.chain("a")
    for key in (KEY, "sk-a-wrong-one"):
        await world.ask(key=key)
    told = str(logs) + str(heads)
    assert len(lines(logs)) == 2 * len(ways) + 2
    for key in (UPSTREAM_KEY, KEY, "sk-a-wrong-one"):
        assert key not in told


async def _buggy(gateway: Gateway, request: Request, answer: Answer) -> None:
    header = request.headers["authorization"]
    raise RuntimeError(f"a bug beside {len(header)} letters")


async def test_a_bug_is_one_500_and_its_traceback_shows_no_variables(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(app.ROUTES["/models"], "GET", _buggy)
    world.provider("a")
    world.chain("a")
    out = io.StringIO()
    log.configure(stream=out)
    structlog.configure(cache_logger_on_first_use=False)
    try:
        heard = await world.get("/v1/models")
        assert (await world.ask()).status == 200, "the others never notice"
    finally:
        structlog.reset_defaults()
    assert heard.status == 500
    assert "letters" not in str(heard.json())
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in told] == ["request.crashed", "request.done", "request.done"]
    assert told[1]["outcome"] == "crashed"
    assert "_buggy" in str(told[0]), "the traceback is there"
    assert KEY not in out.getvalue()


async def test_foreign_text_cannot_forge_a_line(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(info_routes, "__version__", "1")
    world.provider("a")
    world.chain("a")
    out = io.StringIO()
    log.configure(stream=out)
    structlog.configure(cache_logger_on_first_use=False)
    try:
        await world.get("/x%0a%7b%22event%22:%22forged%22%7d%1b[31m")
        await world.ask(model='m\n{"event":"forged"}')
    finally:
        structlog.reset_defaults()
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in told] == ["request.done", "request.done"]
    assert "\x1b" not in out.getvalue()
