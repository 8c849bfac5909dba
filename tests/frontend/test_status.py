"""`GET /v1/status`: what goes on in a running gateway, for its operator alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.kit.world import World, config_of
from uniapi.codec import Json, JsonObject
from uniapi.config.types import ModelName
from uniapi.demo import Behaviour, Fault
from uniapi.frontend import status

ADMIN = "sk-admin-0000"
API = """
providers:
  - provider: a
    base_url: 'http://a/v1/chat/completions'
    api: [sk-up-a1, sk-up-a2]
    model: [m]
    preferences: {api_key_cooldown_period: 100, api_key_rate_limit: {m: '5/min,100000 tokens/day'}}
  - {provider: b, base_url: 'http://b/v1/chat/completions', api: sk-up-b, model: [m, x: y, x: z]}
api_keys:
  - {api: sk-client-0000, model: [a/m, b/m]}
  - {api: sk-limit-0000, model: [b/m, b/y], preferences: {rate_limit: '3/min,10/day'}}
  - {api: sk-bymod-0000, model: [b/m, b/y], preferences: {rate_limit: {m: 4/min}}}
  - {api: sk-admin-0000, role: admin, model: [b/y]}
"""


async def seen(world: World) -> JsonObject:
    heard = await world.get("/v1/status", ADMIN)
    assert heard.status == 200, heard.body
    assert b"sk-" not in heard.body
    match heard.json():
        case dict() as found:
            return found
        case other:
            raise AssertionError(other)


def rows(found: JsonObject, name: str, **of: Json) -> list[JsonObject]:
    """The entries of a list that have these values."""
    match found[name]:
        case list() as entries:
            every = [entry for entry in entries if isinstance(entry, dict)]
            return [entry for entry in every if of.items() <= entry.items()]
        case other:
            raise AssertionError(other)


def row(found: JsonObject, name: str, **of: Json) -> JsonObject:
    [only] = rows(found, name, **of)
    return only


def digest(world: World, number: int) -> str:
    return world.gateway.config.keys[number].id


async def test_others_do_not_see_it(world: World, autojump_clock: MockClock) -> None:
    world.start(API)
    assert (await world.get("/v1/status", None)).status == 401
    assert (await world.get("/v1/status")).status == 403


async def test_an_idle_gateway_has_its_shape(world: World, autojump_clock: MockClock) -> None:
    world.start(API)
    found = await seen(world)
    assert list(found) == [
        "version", "uptime_seconds", "draining", "config", "process", "connections", "live",
        "channels", "keys_resting", "discovery", "quotas", "counters", "left_out",
    ]  # fmt: skip
    assert found["live"] == []  # it does not show itself
    assert found["draining"] is False
    match found["config"], found["connections"]:
        case (
            {"digest": str(told), "providers": 2, "keys": 4},
            {"clients": None, "upstream_in_use": 0, "upstream_idle": 0},
        ):
            assert len(told) == 12
        case other:
            raise AssertionError(other)
    assert [row["names"] for row in rows(found, "channels")] == [["m"], ["m"], ["y", "z"]]
    assert {row["state"] for row in rows(found, "channels")} == {"ok"}


async def test_a_live_stream_is_listed_with_its_channel_and_then_gone(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", status=404)
    world.provider("b", ttft=10, gap=1)
    world.start(API)
    wire = world.connect()
    await world.send(wire)
    await trio.sleep(5)
    waiting = row(await seen(world), "live")
    assert (waiting["stage"], waiting["channel"], waiting["seconds"]) == ("waiting", "b/m", 5)
    assert (waiting["key"], waiting["model"]) == (digest(world, 0), "m")
    assert waiting["endpoint"] == "POST /v1/chat/completions"
    assert waiting["stream"] is True
    key_a, key_b = (provider.keys[0].digest for provider in world.gateway.config.providers)
    common: JsonObject = {"model": "m", "why": "turn"}
    assert waiting["attempts"] == [
        {
            **common,
            "provider": "a",
            "key": key_a,
            "outcome": "bad_request",
            "seconds": 0,
            "first_token_seconds": None,
        },
        {
            **common,
            "provider": "b",
            "key": key_b,
            "outcome": "running",
            "seconds": 5,
            "first_token_seconds": None,
        },
    ]
    await trio.sleep(10)
    found = await seen(world)
    answering = row(found, "live")
    assert (answering["stage"], answering["seconds"]) == ("answering", 15)
    assert int(str(answering["bytes_sent"])) > 500
    assert answering["id"] == waiting["id"]
    match answering["attempts"], found["connections"]:
        case [_, {"first_token_seconds": 10, "outcome": "running"}], {"upstream_in_use": 1}:
            pass
        case other:
            raise AssertionError(other)
    assert (await wire.hear()).status == 200
    assert (await seen(world))["live"] == []


async def test_a_request_that_is_still_coming_in_is_listed(
    world: World, autojump_clock: MockClock
) -> None:
    world.start(API)
    wire = world.connect()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 100\r\n"
    await wire.stream.send_all(f"{head}authorization: Bearer sk-client-0000\r\n\r\n{{".encode())
    await trio.sleep(3)
    reading = row(await seen(world), "live")
    assert (reading["stage"], reading["model"], reading["channel"]) == ("reading", None, None)
    await wire.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert (await seen(world))["live"] == []


async def test_a_hedge_is_told_from_the_first(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", fault=Fault.HANG)
    world.provider("b", fault=Fault.HANG)
    world.start(f"{API}\npreferences: {{hedge: {{after: 2s, budget: 100%}}}}\n")
    wire = world.connect()
    await world.send(wire)
    await trio.sleep(3)
    match row(await seen(world), "live")["attempts"]:
        case [{"why": "turn", "seconds": 3}, {"why": "hedge", "seconds": 1}]:
            pass
        case other:
            raise AssertionError(other)
    await wire.stream.aclose()


async def test_a_rest_is_shown_with_its_seconds_then_as_a_trial_and_is_over(
    world: World, autojump_clock: MockClock
) -> None:
    provider = world.provider("a", status=500)
    world.provider("b", ttft=2, gap=1)
    world.start(API)
    await world.ask()
    asked = [attempt.time for attempt in provider.requests][-1]
    begun = trio.current_time()
    cooling = row(await seen(world), "channels", provider="a")
    assert cooling["state"] == "cooling"
    assert cooling["seconds_left"] == pytest.approx(300 - (begun - asked), abs=0.1)
    assert (cooling["attempts"], cooling["ok"]) == (2, 0)
    well = row(await seen(world), "channels", provider="b", model="m")
    assert (well["attempts"], well["ok"], well["first_token_p50"]) == (1, 1, 2)
    await trio.sleep(300)
    assert row(await seen(world), "channels", provider="a")["state"] == "rested"
    provider.behaviour = lambda _: Behaviour(ttft=5)
    wire = world.connect()
    await world.send(wire)
    await trio.sleep(1)
    assert row(await seen(world), "channels", provider="a")["state"] == "trial"
    await wire.hear()
    assert row(await seen(world), "channels", provider="a")["state"] == "ok"


async def test_a_key_that_rests_is_shown(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", status=429)
    world.provider("b")
    world.start(API)
    await world.ask()
    found = await seen(world)
    first = world.gateway.config.providers[0].keys[0].digest
    [left] = [entry["seconds_left"] for entry in rows(found, "keys_resting", key=first)]
    assert left == 100
    both = rows(found, "keys_resting", provider="a")
    assert row(found, "channels", provider="a")["keys_resting"] == len(both) == 2
    await trio.sleep(100)
    assert (await seen(world))["keys_resting"] == []


def windows(found: JsonObject, **of: Json) -> list[Sequence[Json]]:
    match row(found, "quotas", **of)["windows"]:
        case list() as entries:
            return [tuple(entry.values()) for entry in entries if isinstance(entry, dict)]
        case other:
            raise AssertionError(other)


async def test_what_is_left_of_every_limit(world: World, autojump_clock: MockClock) -> None:
    world.provider("a")
    world.provider("b")
    world.start(API)
    scalar, by_model = digest(world, 1), digest(world, 2)
    fresh = await seen(world)
    assert windows(fresh, scope="client", owner=scalar) == [
        ("requests", 60, 3, 0),
        ("requests", 86400, 10, 0),
    ]
    assert len(rows(fresh, "quotas")) == 1  # the others have all of theirs left
    for key in ("sk-limit-0000", "sk-limit-0000", "sk-bymod-0000", "sk-client-0000"):
        await world.ask(key=key)
    used = await seen(world)
    assert windows(used, scope="client", owner=scalar) == [
        ("requests", 60, 3, 2),
        ("requests", 86400, 10, 2),
    ]
    assert windows(used, scope="client", owner=by_model, model="m") == [("requests", 60, 4, 1)]
    key = world.gateway.config.providers[0].keys[0].digest
    assert windows(used, scope="provider", owner="a", key=key, model="m") == [
        ("requests", 60, 5, 1),
        ("tokens", 86400, 100_000, 67),
    ]
    await trio.sleep(60)
    later = await seen(world)
    assert windows(later, owner=scalar) == [("requests", 60, 3, 0), ("requests", 86400, 10, 2)]


async def test_a_limit_a_reload_took_away_is_not_shown(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a")
    world.provider("b")
    world.start(API)
    for key in ("sk-limit-0000", "sk-bymod-0000", "sk-client-0000"):
        await world.ask(key=key)
    free = API.replace("'3/min,10/day'", "{n: 1/min}").replace("{m: 4/min}", "4/min")
    world.gateway.config = config_of(free.replace(", api_key_rate_limit", ", headers"))
    shown = rows(await seen(world), "quotas")
    assert [(one["owner"], one["model"]) for one in shown] == [(digest(world, 2), None)]
    world.gateway.config = replace(world.gateway.config, keys=world.gateway.config.keys[3:])
    assert rows(await seen(world), "quotas") == []


async def test_what_providers_list_and_why_they_do_not(
    world: World, autojump_clock: MockClock
) -> None:
    world.start(
        API.replace(
            "api_keys:",
            "  - {provider: c, base_url: 'http://c/v1/chat/completions', api: sk-up-c}\n"
            "  - {provider: d, base_url: 'http://d/v1/chat/completions', api: sk-up-d}\napi_keys:",
        )
    )
    world.gateway.state.discovered("c", (ModelName("up", "up"),))
    world.gateway.state.discovery_failed("d", "it said no")
    found = await seen(world)
    assert found["discovery"] == [
        {"provider": "c", "status": "ready", "models": 1, "reason": None},
        {"provider": "d", "status": "failed", "models": 0, "reason": "it said no"},
    ]
    assert row(found, "channels", provider="c")["model"] == "up"


async def test_it_has_an_end_however_much_there_is(world: World, autojump_clock: MockClock) -> None:
    world.start(API)
    models = tuple(ModelName(f"m{number}", f"m{number}") for number in range(1500))
    config = world.gateway.config
    many = replace(config.providers[1], models=models)
    world.gateway.config = replace(config, providers=(config.providers[0], many))
    found = await seen(world)
    assert len(rows(found, "channels")) == status.MOST
    assert found["left_out"] == {"channels": 501}


async def test_counters_and_drain_are_told(world: World, autojump_clock: MockClock) -> None:
    world.start(API)
    world.gateway.draining = True
    world.gateway.state.counters["hedges"] += 3
    world.gateway.metrics.gauge("uniapi_client_connections", "x", lambda: 7)
    found = await seen(world)
    match found:
        case {"draining": True, "counters": {"hedges": 3}, "connections": {"clients": 7}}:
            pass
        case other:
            raise AssertionError(other)
