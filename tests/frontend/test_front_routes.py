"""The small routes, and what every answer carries."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.kit.wire import Heard
from tests.kit.world import KEY, World
from uniapi import __version__
from uniapi.codec import Json
from uniapi.demo import Behaviour, Fault, Provider

LISTED = f"""
providers:
  - provider: one
    base_url: http://one/v1/chat/completions
    api: sk-one
    model: [upstream-z: z, a, org/name/deep]
  - provider: two
    base_url: http://two/v1/chat/completions
    api: sk-two
    model: [b, a]
api_keys:
  - api: {KEY}
    model: [two/*, z, one/org/name/deep, one/a]
  - api: sk-other-0000
    model: [two/b]
"""

DISCOVERED = f"""
providers:
  - provider: one
    base_url: http://one/v1/chat/completions
    api: sk-one
api_keys:
  - api: {KEY}
    model: [one/*]
"""


def ids(heard: Heard) -> list[str]:
    match heard.json():
        case {"object": "list", "data": list() as data}:
            found = []
            for entry in data:
                match entry:
                    case {"id": str() as name, "object": "model", "created": int()}:
                        found.append(name)
                    case other:
                        raise AssertionError(other)
            return found
        case other:
            raise AssertionError(other)


@pytest.fixture
def listed(world: World) -> World:
    world.provider("one")
    world.provider("two")
    return world.start(LISTED)


async def test_models_are_listed_in_the_order_of_the_keys_rules(
    listed: World, autojump_clock: MockClock
) -> None:
    assert ids(await listed.get("/v1/models")) == ["b", "a", "z", "org/name/deep"]
    assert ids(await listed.get("/v1/models", key="sk-other-0000")) == ["b"]


@pytest.mark.parametrize("name", ["a", "z", "org/name/deep", "org%2Fname%2Fdeep"])
async def test_one_model_is_told_by_its_name(
    listed: World, autojump_clock: MockClock, name: str
) -> None:
    match (await listed.get(f"/v1/models/{name}")).json():
        case {"id": told, "object": "model", "owned_by": "uniapi"}:
            assert told == name.replace("%2F", "/")
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize("name", ["upstream-z", "one/a", "nothing", "org/name"])
async def test_a_model_this_key_may_not_ask_for_does_not_exist(
    listed: World, autojump_clock: MockClock, name: str
) -> None:
    assert (await listed.get(f"/v1/models/{name}")).status == 404
    assert (await listed.get("/v1/models/z", key="sk-other-0000")).status == 404


@pytest.mark.parametrize(
    "path", ["/v1/models", "/models", "/v1/models/", "/models/", "/v1/models?x=1", "/v1/models/a/"]
)
async def test_v1_and_a_trailing_slash_may_be_there_or_not(
    listed: World, autojump_clock: MockClock, path: str
) -> None:
    assert (await listed.get(path)).status == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions/"])
async def test_chat_is_served_with_and_without_v1(
    listed: World, autojump_clock: MockClock, path: str
) -> None:
    wire = listed.connect()
    body: dict[str, Json] = {"model": "a", "messages": [{"role": "user", "content": "Hello"}]}
    await wire.send(body, path=path, authorization=f"Bearer {KEY}")
    assert (await wire.hear()).status == 200


@pytest.mark.parametrize("path", ["/healthz", "/v1/healthz", "/healthz/"])
async def test_health_needs_no_key(listed: World, autojump_clock: MockClock, path: str) -> None:
    heard = await listed.get(path, key=None)
    assert heard.status == 200
    assert heard.json() == {"status": "ok", "version": __version__}


async def test_readiness_waits_for_the_first_listing(
    world: World, autojump_clock: MockClock
) -> None:
    world.network.providers["one"] = Provider(models=["x"], catalogue=Behaviour(delay=3))
    world.start(DISCOVERED)
    world.nursery.start_soon(world.gateway.discovery.run)
    await trio.sleep(1)
    starting = await world.get("/readyz", key=None)
    assert starting.status == 503
    assert starting.json() == {"status": "starting", "waiting_for": ["one"]}
    assert (await world.get("/healthz", key=None)).status == 200
    await trio.sleep(3)
    ready = await world.get("/readyz", key=None)
    assert ready.status == 200
    assert ready.json() == {"status": "ready", "version": __version__}
    assert ids(await world.get("/v1/models")) == ["x"]


async def test_readiness_does_not_depend_on_a_dead_provider(
    world: World, autojump_clock: MockClock
) -> None:
    world.network.providers["one"] = Provider(catalogue=Behaviour(fault=Fault.HANG))
    world.start(DISCOVERED)
    world.nursery.start_soon(world.gateway.discovery.run)
    await trio.sleep(19)
    assert (await world.get("/readyz", key=None)).status == 503
    await trio.sleep(2)
    assert (await world.get("/readyz", key=None)).status == 200


async def test_a_listing_waits_a_little_for_providers_never_heard_of(
    world: World, autojump_clock: MockClock
) -> None:
    world.network.providers["one"] = Provider(models=["x"], catalogue=Behaviour(delay=3))
    world.start(DISCOVERED)
    world.nursery.start_soon(world.gateway.discovery.run)
    heard = await world.get("/v1/models")
    assert (ids(heard), heard.ended_at) == (["x"], 3)


async def test_a_draining_gateway_is_not_ready_but_well(
    listed: World, autojump_clock: MockClock
) -> None:
    listed.gateway.draining = True
    heard = await listed.get("/readyz", key=None)
    assert heard.status == 503
    assert heard.json() == {"status": "draining"}
    assert (await listed.get("/healthz", key=None)).status == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/models/a", "/healthz"])
async def test_a_preflight_is_answered_without_a_key(
    listed: World, autojump_clock: MockClock, path: str
) -> None:
    wire = listed.connect()
    head = (
        f"OPTIONS {path} HTTP/1.1\r\nhost: g\r\norigin: https://chat.example\r\n"
        "access-control-request-method: POST\r\n"
        "access-control-request-headers: authorization, content-type, x-stainless-os\r\n\r\n"
    )
    await wire.stream.send_all(head.encode())
    heard = await wire.hear("OPTIONS")
    assert (heard.status, heard.body) == (204, b"")
    assert heard.headers["access-control-allow-origin"] == "*"
    assert "POST" in heard.headers["access-control-allow-methods"]
    # The star does not stand for `authorization`, so that one has to be named.
    assert heard.headers["access-control-allow-headers"] == "*, authorization"
    assert int(heard.headers["access-control-max-age"]) >= 600
    assert "access-control-allow-credentials" not in heard.headers


async def test_browsers_may_read_every_answer_and_what_it_says_of_itself(
    listed: World, autojump_clock: MockClock
) -> None:
    for stream in (True, False):
        heard = await listed.ask(model="a", stream=stream)
        assert heard.headers["access-control-allow-origin"] == "*"
        exposed = heard.headers["access-control-expose-headers"]
        assert {"x-request-id", "x-uniapi-attempts"} <= set(exposed.split(", "))


async def with_id(world: World, value: str) -> str:
    wire = world.connect()
    line = f"GET /healthz HTTP/1.1\r\nhost: g\r\nx-request-id: {value}\r\n\r\n"
    await wire.stream.send_all(line.encode("latin-1"))
    return (await wire.hear("GET")).headers["x-request-id"]


@pytest.mark.parametrize("value", ["abc-123", "Root=1-67891233-abcdef", "a/b:c+d_e.f", "x" * 128])
async def test_a_sane_request_id_is_echoed(
    listed: World, autojump_clock: MockClock, value: str
) -> None:
    assert await with_id(listed, value) == value


@pytest.mark.parametrize("value", ["", "x" * 129, "a b", 'a"b', "a;b", "\xe9", "{}", "a,b"])
async def test_any_other_request_id_is_replaced_by_one_of_ours(
    listed: World, autojump_clock: MockClock, value: str
) -> None:
    ours = await with_id(listed, value)
    assert ours.startswith("req-")
    assert ours != await with_id(listed, value)


async def test_a_stream_says_what_keeps_proxies_from_holding_it_back(
    listed: World, autojump_clock: MockClock
) -> None:
    heard = await listed.ask(model="a")
    assert heard.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert heard.headers["cache-control"] == "no-cache"
    assert heard.headers["x-accel-buffering"] == "no"
    assert "content-length" not in heard.headers
    assert heard.headers["x-uniapi-attempts"].startswith(("one/a;ok", "two/a;ok"))
