"""Rate limits, key pools and rests as a client meets them, over the whole gateway."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from structlog.typing import EventDict
from trio.testing import MockClock

from tests.kit.logged import lines
from tests.kit.wire import Heard
from tests.kit.world import KEY, World
from uniapi.codec import Json
from uniapi.demo import SIXTY, Behaviour, Fault, Provider, Request
from uniapi.frontend.metering import estimated


def error(heard: Heard) -> tuple[Json, Json]:
    match heard.json():
        case {"error": {"code": code, "type": kind}}:
            return code, kind
        case other:
            raise AssertionError(other)


async def statuses(
    world: World,
    count: int,
    *,
    key: str = KEY,
    stream: bool = True,
    messages: Sequence[Json] = ({"role": "user", "content": "Hello"},),
) -> list[int]:
    asked = [world.ask(stream=stream, key=key, messages=list(messages)) for _ in range(count)]
    return [(await heard).status for heard in asked]


async def test_a_key_over_its_limit_is_told_which_and_when(
    world: World, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    provider = world.provider("a")
    world.chain("a", key="preferences: {rate_limit: {m: 2/min}}\n")
    assert await statuses(world, 2) == [200, 200]
    await trio.sleep(20.5)
    heard = await world.ask()
    assert (heard.status, heard.headers["retry-after"]) == (429, "40")
    assert error(heard) == ("rate_limit_exceeded", "rate_limit_error")
    assert "2/min of this key for m" in str(heard.json())
    assert "x-uniapi-attempts" not in heard.headers
    assert len(provider.requests) == 2
    line = lines(logs)[-1]
    assert (line["status"], line["limit"]) == (429, "2/min of this key for m")
    assert all("limit" not in earlier for earlier in lines(logs)[:-1])
    await trio.sleep(40)
    assert await statuses(world, 1) == [200]


async def test_requests_at_the_same_instant_do_not_slip_past_a_limit(
    world: World, autojump_clock: MockClock
) -> None:
    provider = world.provider("a", ttft=5)
    world.chain("a", key="preferences: {rate_limit: 3/min}\n")
    heard: list[int] = []

    async def one() -> None:
        heard.append((await world.ask()).status)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    assert sorted(heard) == [200] * 3 + [429] * 17
    assert len(provider.requests) == 3


async def test_the_servers_limit_is_for_all_keys_and_a_wrong_key_or_body_counts_nothing(
    world: World, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    world.provider("a")
    world.start(
        """
providers: [{provider: a, base_url: 'http://a/v1/chat/completions', model: [m]}]
api_keys: [{api: sk-client-0000}, {api: sk-client-1111}]
preferences: {rate_limit: 2/min}
"""
    )
    assert await statuses(world, 3, key="sk-wrong") == [401] * 3
    assert await statuses(world, 3, messages=[]) == [422] * 3
    assert await statuses(world, 1) == [200]
    assert await statuses(world, 2, key="sk-client-1111") == [200, 429]
    assert lines(logs)[-1]["limit"] == "2/min of this server"


async def test_other_endpoints_count_too(world: World, autojump_clock: MockClock) -> None:
    world.provider("a")
    world.chain("a", key="preferences: {rate_limit: 1/min}\n")
    assert await statuses(world, 1) == [200]
    body: Json = {"model": "m", "input": "hello"}
    assert (await world.post("/v1/embeddings", body)).status == 429


async def test_tokens_are_counted_from_usage_when_the_answer_is_over(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", gap=0.1)
    world.chain("a", key="preferences: {rate_limit: 100 tokens/min}\n")
    first = await world.ask()  # 7 + 60 tokens
    assert first.ended_at == pytest.approx(5.9)
    assert await statuses(world, 1, stream=False) == [200], "it crosses the number: 134"
    refused = await world.ask()
    assert refused.status == 429
    assert "100 tokens/min of this key" in str(refused.json())
    assert refused.headers["retry-after"] == "55"  # 60 s after the first one's end


async def test_who_leaves_before_usage_pays_for_the_request(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", ttft=5, gap=1)
    world.chain("a", key="preferences: {rate_limit: 1000 tokens/min}\n")
    for seconds in (2, 20):
        wire = world.connect()
        await world.send(wire, messages=[{"role": "user", "content": "x" * 2000}])
        await trio.sleep(seconds)
        await wire.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
    assert await statuses(world, 1) == [429]


async def test_a_hedge_is_paid_for_once(world: World, autojump_clock: MockClock) -> None:
    slow, quick = world.provider("a", ttft=50), world.provider("b")
    limit = "preferences: {rate_limit: 100 tokens/min, hedge: {after: 1s, budget: 100%}}\n"
    world.chain("a", "b", key=limit)
    long: list[Json] = [{"role": "user", "content": "x" * 2000}]
    assert await statuses(world, 1, messages=long) == [200]
    assert (len(slow.requests), len(quick.requests)) == (1, 1)
    assert await statuses(world, 1) == [200]


async def test_a_failed_request_costs_no_tokens(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", status=400)
    world.chain("a", key="preferences: {rate_limit: 10 tokens/min}\n")
    long: list[Json] = [{"role": "user", "content": "x" * 2000}]
    assert await statuses(world, 3, messages=long) == [400, 400, 400]


async def test_a_request_too_large_for_its_key_is_413(
    world: World, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    world.provider("a")
    world.chain("a", key="preferences: {rate_limit: 10/tpr}\n")
    fits: Json = [{"role": "user", "content": "x" * 40}]
    more: Json = [{"role": "user", "content": [{"type": "text", "text": "x" * 41}]}]
    assert (await world.ask(messages=fits)).status == 200
    heard = await world.ask(messages=more)
    assert heard.status == 413
    assert "retry-after" not in heard.headers
    assert lines(logs)[-1]["limit"] == "10/tpr of this key"


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 0),
        ({"messages": [{"role": "user", "content": "x"}]}, 1),
        ({"messages": [{"content": "xxxx"}, {"content": None}, {"content": "xxxx"}]}, 2),
        (
            {
                "messages": [
                    {"content": [{"type": "text", "text": "xxxx"}, {"image_url": {"url": "xxxx"}}]}
                ]
            },
            1,
        ),
        ({"input": ["xxxx", "xxxxx"]}, 3),
        ({"prompt": "xxxx", "model": "xxxxxxxx"}, 1),
        ({"messages": 7, "input": [1, 2, 3]}, 0),
    ],
)
def test_tokens_are_estimated_from_the_letters_of_what_is_read(
    fields: dict[str, Json], tokens: int
) -> None:
    assert estimated(fields) == tokens


POOL = """
providers:
  - provider: a
    base_url: 'http://a/v1/chat/completions'
    api: [k1, k2]
    model: [m]
    preferences: {preferences}
  - {provider: b, base_url: 'http://b/v1/chat/completions', model: [m]}
api_keys: [{api: sk-client-0000}]
preferences: {cooldown_period: 20}
"""


def shown(provider: Provider) -> list[str]:
    return [seen.headers["authorization"].removeprefix("Bearer ") for seen in provider.requests]


async def test_a_providers_keys_are_used_up_one_by_one_and_come_back(
    world: World, autojump_clock: MockClock
) -> None:
    first, second = world.provider("a"), world.provider("b")
    world.start(POOL.replace("{preferences}", "{api_key_rate_limit: 2/min}", 1))
    assert await statuses(world, 6) == [200] * 6
    assert sorted(shown(first)) == ["k1", "k1", "k2", "k2"]
    assert len(second.requests) == 2
    await trio.sleep(60)
    assert await statuses(world, 1) == [200]
    assert len(shown(first)) == 5


async def test_when_every_channel_is_limited_the_client_hears_when(
    world: World, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    world.provider("a")
    world.start(
        """
providers:
  - provider: a
    base_url: 'http://a/v1/chat/completions'
    api: k1
    model: [m]
    preferences: {api_key_rate_limit: {m: 1/min}}
api_keys: [{api: sk-client-0000}]
"""
    )
    assert await statuses(world, 1) == [200]
    await trio.sleep(15)
    heard = await world.ask()
    assert (heard.status, heard.headers["retry-after"]) == (429, "45")
    assert error(heard) == ("rate_limit_exceeded", "rate_limit_error")
    assert lines(logs)[-1]["limit"] == "1/min of a key of a/m"
    assert "k1" not in str(heard.json())


async def test_a_providers_tokens_are_counted_from_usage_per_key(
    world: World, autojump_clock: MockClock
) -> None:
    first, second = world.provider("a"), world.provider("b")
    world.start(POOL.replace("{preferences}", "{api_key_rate_limit: 60 tokens/min}", 1))
    assert await statuses(world, 3) == [200] * 3
    assert sorted(shown(first)) == ["k1", "k2"]
    assert len(second.requests) == 1


async def test_a_refused_key_rests_longer_than_a_limited_one(
    world: World, autojump_clock: MockClock
) -> None:
    first = world.provider("a", status=429)
    world.provider("b")
    world.start(POOL.replace("{preferences}", "{api_key_cooldown_period: 60}", 1))
    await world.ask()
    assert sorted(shown(first)) == ["k1", "k2"]
    await trio.sleep(59)
    await world.ask()
    assert len(shown(first)) == 2
    await trio.sleep(1)
    first.behaviour = Behaviour(status=401)
    await world.ask()
    assert len(shown(first)) == 4
    await trio.sleep(599)
    await world.ask()
    assert len(shown(first)) == 4
    await trio.sleep(1)
    await world.ask()
    assert len(shown(first)) == 6


NESTED = """
providers:
  - {provider: a, base_url: 'http://a/v1/chat/completions', model: [m]}
  - {provider: b, base_url: 'http://b/v1/chat/completions', model: [m]}
api_keys:
  - api: sk-client-0000
    model: [sk-client-1111/*, b/m]
  - api: sk-client-1111
    model: [a/m]
    preferences: {rate_limit: LIMIT}
"""


async def test_a_nested_key_keeps_its_own_limit_and_shows_in_the_log(
    world: World, autojump_clock: MockClock, logs: list[EventDict]
) -> None:
    first, second = world.provider("a"), world.provider("b")
    world.start(NESTED.replace("LIMIT", "2/min"))
    inner = world.gateway.config.keys[1].id
    assert await statuses(world, 3) == [200] * 3
    assert (len(first.requests), len(second.requests)) == (2, 1)
    assert [line.get("via") for line in lines(logs)] == [inner, inner, None]
    assert await statuses(world, 1, key="sk-client-1111") == [429]


async def test_a_nested_key_pays_tokens_too(world: World, autojump_clock: MockClock) -> None:
    first, second = world.provider("a"), world.provider("b")
    world.start(NESTED.replace("LIMIT", "67 tokens/min"))
    assert await statuses(world, 2) == [200] * 2
    assert (len(first.requests), len(second.requests)) == (1, 1)


def limited_once(request: Request) -> Behaviour:
    limited = Behaviour(status=429, headers=(("retry-after", "2"),))
    return limited if request.nth == 1 else Behaviour()


async def test_a_short_retry_after_is_honoured_before_the_fallback(
    world: World, autojump_clock: MockClock
) -> None:
    first, second = world.provider("a"), world.provider("b")
    first.behaviour = limited_once
    world.chain("a", "b")
    heard = await world.ask()
    assert heard.text() == SIXTY
    assert [seen.time for seen in first.requests] == [0, 2]
    assert second.requests == []


async def test_meanwhile_other_requests_do_not_wait_for_it(
    world: World, autojump_clock: MockClock
) -> None:
    first, second = world.provider("a"), world.provider("b")
    first.behaviour = limited_once
    world.chain("a", "b")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.ask)
        await trio.sleep(1)
        heard = await world.ask()
    assert heard.text() == SIXTY
    assert [seen.time for seen in second.requests] == [1]


async def test_a_client_that_leaves_a_trial_leaves_it_to_the_next(
    world: World, autojump_clock: MockClock
) -> None:
    first, second = world.provider("a", fault=Fault.EMPTY), world.provider("b")
    world.chain("a", "b", top="preferences: {cooldown_period: 20}\n")
    await world.ask()
    await trio.sleep(20)
    first.behaviour = Behaviour(ttft=50)
    wire = world.connect()
    await world.send(wire)
    await trio.sleep(1)
    await world.ask()
    assert (len(first.requests), len(second.requests)) == (2, 2), "one tries, the other does not"
    await wire.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    first.behaviour = Behaviour()
    await world.ask()
    assert (len(first.requests), len(second.requests)) == (3, 2)


async def test_an_outage_is_survived_by_every_request_and_ends_in_time(
    world: World, autojump_clock: MockClock
) -> None:
    first = world.provider("a", status=503)
    world.provider("b")
    world.chain("a", "b", top="preferences: {cooldown_period: 20}\n")
    for number in range(20):
        await trio.sleep_until(number * 4.0)
        if trio.current_time() >= 60:
            first.behaviour = Behaviour()
        assert (await world.ask()).text() == SIXTY
    down = [seen.time for seen in first.requests if seen.time < 60]
    well = [seen.time for seen in first.requests if seen.time >= 60]
    assert len(down) <= 6
    assert well[0] <= 60 + 24
