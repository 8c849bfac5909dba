"""Statistics, token usage, rankings and credits as a client meets them, over the whole gateway."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from time import time
from urllib.parse import urlencode

import pytest
import trio
from structlog.typing import EventDict
from trio.testing import MockClock

from tests.kit.logged import lines
from tests.kit.records import RECORD, TODAY
from tests.kit.wire import Heard
from tests.kit.world import KEY, World
from uniapi.codec import Json, JsonObject
from uniapi.config.types import Secret
from uniapi.demo.behaviour import PROMPT_TOKENS
from uniapi.stats import queries, usage
from uniapi.stats.reader import Reader
from uniapi.stats.store import Store
from uniapi.stats.writer import BATCH, Writer

ADMIN = "sk-admin-0000-0000-0000-0000"
INNER = "sk-inner-0000"
COST = (PROMPT_TOKENS * 1000 + 60 * 2000) / 1_000_000  # of one answer, by the prices below
API = """
providers:
  - {provider: a, base_url: 'http://a/v1/chat/completions', api: sk-up-a, model: [up: m, other]}
  - {provider: b, base_url: 'http://b/v1/chat/completions', api: [sk-b-1, sk-b-2], model: [m]}
api_keys:
  - {api: sk-client-0000, model: [a/m, b/m, a/other], preferences: {OWN}}
  - {api: sk-admin-0000-0000-0000-0000, role: admin}
  - {api: sk-inner-0000, model: [b/m], preferences: {INNER}}
  - {api: sk-outer-0000, model: [sk-inner-0000/m]}
  - {api: sk-backed-0000, model: [sk-inner-0000/m, a/m]}
preferences: {model_price: {m: '1000,2000', default: '10,10'}, cooldown_period: 0}
"""


def api(own: str = "rescue: true", inner: str = "rescue: true") -> str:
    return API.replace("OWN", own).replace("INNER", inner)


@asynccontextmanager
async def open_(world: World, folder: Path, text: str) -> AsyncIterator[None]:
    """The gateway with a statistics file that is written at once, and its budgets."""
    world.start(text)
    gateway = world.gateway
    with closing(Store(folder / "stats.db")) as file:
        gateway.reader = Reader(folder / "stats.db")
        gateway.ledger.listeners.append(lambda record: file.write([record], {}))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gateway.budgets.run, gateway.reader)
            await gateway.budgets.ready.wait()
            yield
            nursery.cancel_scope.cancel()


async def found(world: World, path: str, key: str = ADMIN, **query: str) -> JsonObject:
    heard = await world.get(f"{path}?{urlencode(query)}", key)
    assert heard.status == 200, heard.body
    match heard.json():
        case dict() as told:
            return told
        case other:
            raise AssertionError(other)


def error(heard: Heard) -> tuple[int, Json, Json]:
    match heard.json():
        case {"error": {"code": code, "param": param, "message": str(message)}}:
            assert message
            return heard.status, code, param
        case other:
            raise AssertionError(other)


async def test_stats_have_the_shape_of_the_seeds_program(
    world: World, autojump_clock: MockClock, tmp_path: Path
) -> None:
    world.provider("a", status=400)
    world.provider("b")
    async with open_(world, tmp_path, api()):
        for stream in (True, False):
            assert (await world.ask(stream=stream)).status == 200
        assert (await world.get("/v1/stats", KEY)).status == 403
        told = await found(world, "/v1/stats", hours="1")
        again = await found(world, "/v1/stats")
    assert told == {
        "time_range": "Last 1 hours",
        "channel_model_success_rates": [
            {"provider": "b", "model": "m", "success_rate": 1.0, "total_requests": 2},
            {"provider": "a", "model": "m", "success_rate": 0.0, "total_requests": 2},
        ],
        "channel_success_rates": [
            {"provider": "b", "success_rate": 1.0, "total_requests": 2},
            {"provider": "a", "success_rate": 0.0, "total_requests": 2},
        ],
        "model_request_counts": [{"model": "m", "count": 2}, {"model": None, "count": 1}],
        "endpoint_request_counts": [
            {"endpoint": "POST /v1/chat/completions", "count": 2},
            {"endpoint": "GET /v1/stats", "count": 1},
        ],
        "ip_request_counts": [{"ip": None, "count": 3}],
    }
    assert list(told) == list(again)
    assert again["time_range"] == "Last 24 hours"
    assert {"model": None, "count": 2} in again["model_request_counts"]  # type: ignore[operator] # a list


@pytest.mark.parametrize("hours", ["0", "721", "-1", "1.5", "x", "٣"])
async def test_hours_are_from_1_to_720(world: World, autojump_clock: MockClock, hours: str) -> None:
    world.start(api())
    heard = await world.get(f"/v1/stats?{urlencode({'hours': hours})}", ADMIN)
    assert error(heard) == (422, "invalid_request", "hours")


async def test_without_a_database_there_is_nothing_and_that_is_said(
    world: World, autojump_clock: MockClock
) -> None:
    world.start(api())
    assert await found(world, "/v1/stats") == {"stats": {}}
    for path in ("/v1/token_usage", "/v1/channel_key_rankings?provider_name=a"):
        assert error(await world.get(path, ADMIN)) == (503, "database_disabled", None)


async def test_a_file_that_cannot_be_read_is_a_503(
    world: World, autojump_clock: MockClock, tmp_path: Path
) -> None:
    world.start(api())
    world.gateway.reader = Reader(tmp_path / "none.db")
    for path in ("/v1/token_usage", "/v1/stats"):
        assert error(await world.get(path, ADMIN)) == (503, "database_unreadable", None)


async def test_a_damaged_file_costs_one_answer(
    world: World, autojump_clock: MockClock, tmp_path: Path
) -> None:
    gateway = world.start(api()).gateway
    path = tmp_path / "stats.db"
    writer = Writer(path, gateway.state, lambda: gateway.config, clock=lambda: TODAY)
    await writer.start()
    gateway.reader = Reader(path, damaged=writer.look)
    for number in range(BATCH):
        writer.note(replace(RECORD, id=f"{number:0100}", at=time()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await trio.sleep(1.5)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert (await found(world, "/v1/stats"))["channel_success_rates"] != []
        with path.open("r+b") as file:
            file.seek(20 * 4096)
            file.write(b"\xff" * 5 * 4096)
        assert error(await world.get("/v1/stats", ADMIN)) == (503, "database_unreadable", None)
        await trio.sleep(0.001)
        assert (await found(world, "/v1/stats"))["channel_success_rates"] == []
        await writer.aclose()


async def test_a_key_sees_its_own_usage_and_an_admin_every_key_s(
    world: World, autojump_clock: MockClock, tmp_path: Path
) -> None:
    world.provider("a")
    async with open_(world, tmp_path, api(own="credits: 5")):
        for key, model in ((KEY, "m"), (KEY, "m"), (KEY, "other"), (ADMIN, "m")):
            assert (await world.ask(key=key, model=model)).status == 200
        own = await found(world, "/v1/token_usage", KEY)
        every = await found(world, "/v1/token_usage")
        one = [
            await found(world, "/v1/token_usage", api_key_param=named, model="m")
            for named in (KEY, Secret(KEY).digest)
        ]
        none = await found(world, "/v1/token_usage", start_datetime="0", end_datetime="1")
        foreign = await world.get(f"/v1/token_usage?api_key_param={ADMIN}", KEY)
        assert error(foreign) == (403, "not_admin", "api_key_param")
        assert (await world.get(f"/v1/token_usage?api_key_param={KEY}", KEY)).status == 200
        assert (await world.get("/v1/token_usage", None)).status == 401

    def entry(shown: str, model: str, requests: int, cost: float) -> dict[str, object]:
        return {
            "api_key_prefix": shown,
            "model": model,
            "total_prompt_tokens": PROMPT_TOKENS * requests,
            "total_completion_tokens": 60 * requests,
            "total_tokens": (PROMPT_TOKENS + 60) * requests,
            "request_count": requests,
            "cost": pytest.approx(cost),
        }

    short = f"sk-...{Secret(KEY).digest}"  # eleven of fourteen letters would be the key
    mine = [entry(short, "m", 2, 2 * COST), entry(short, "other", 1, 67 / 100_000)]
    admins = entry("sk-admi...0000", "m", 1, COST)
    assert own["usage"] == mine
    assert every["usage"] in ([*mine, admins], [mine[0], admins, mine[1]])
    assert [told["usage"] for told in one] == [[mine[0]]] * 2
    assert none["usage"] == []
    details = own["query_details"]
    assert isinstance(details, dict)
    assert list(details) == [
        "start_datetime", "end_datetime", "api_key_filter", "model_filter", "credits",
        "total_cost", "balance",
    ]  # fmt: skip
    assert details["api_key_filter"] == "self"
    assert details["model_filter"] == "all"
    spent = 2 * COST + 67 / 100_000
    assert details["credits"] == "$5"
    assert details["total_cost"] == f"${spent:.5f}"
    assert details["balance"] == f"${5 - spent:.5f}"
    match every["query_details"], one[0]["query_details"]:
        case dict() as all_, dict() as named:
            assert (all_["api_key_filter"], all_["total_cost"]) == ("all", None)
            assert (named["api_key_filter"], named["model_filter"]) == (Secret(KEY).digest, "m")
            assert named["balance"] == details["balance"]
        case other:
            raise AssertionError(other)


async def test_a_key_that_is_no_longer_configured_is_shown_as_its_digest(
    world: World, autojump_clock: MockClock, tmp_path: Path
) -> None:
    world.provider("a")
    async with open_(world, tmp_path, api()):
        await world.ask()
        world.gateway.config = type(world.gateway.config)(
            world.gateway.config.providers, world.gateway.config.keys[1:]
        )
        told = await found(world, "/v1/token_usage")
        same = await found(world, "/v1/token_usage", api_key_param=KEY)
    match told["usage"], same["usage"]:
        case [{"api_key_prefix": shown}], [{"api_key_prefix": again}]:
            assert shown == again == Secret(KEY).digest
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"last_n_days": "7", "start_datetime": "0"}, "last_n_days"),
        ({"last_n_days": "7", "end_datetime": "0"}, "last_n_days"),
        ({"last_n_days": "0"}, "last_n_days"),
        ({"last_n_days": "-1"}, "last_n_days"),
        ({"last_n_days": "99999"}, "last_n_days"),
        ({"start_datetime": "yesterday"}, "start_datetime"),
        ({"start_datetime": "nan"}, "start_datetime"),
        ({"start_datetime": "-5"}, "start_datetime"),
        ({"end_datetime": "1e300"}, "end_datetime"),
        ({"start_datetime": "2025-01-02", "end_datetime": "2025-01-01"}, "end_datetime"),
    ],
)
async def test_a_time_that_cannot_be_meant_is_a_400_that_names_it(
    world: World, autojump_clock: MockClock, query: dict[str, str], param: str
) -> None:
    world.start(api())
    for path in ("/v1/token_usage?", "/v1/channel_key_rankings?provider_name=a&"):
        heard = await world.get(path + urlencode(query), ADMIN)
        assert error(heard) == (400, "invalid_request", param)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("1735689600", "2025-01-01T00:00:00+00:00"),
        ("1735689600.9", "2025-01-01T00:00:00+00:00"),
        ("2025-01-01", "2025-01-01T00:00:00+00:00"),
        ("2025-01-01T00:00:00Z", "2025-01-01T00:00:00+00:00"),
        ("2025-01-01T00:00:00%2B08:00", "2024-12-31T16:00:00+00:00"),
        ("2025-01-01T00:00:00+08:00", "2024-12-31T16:00:00+00:00"),  # the plus comes as a space
        ("2025-01-01%2012:00", "2025-01-01T12:00:00+00:00"),
    ],
)
async def test_a_time_may_be_written_in_many_ways(
    world: World, autojump_clock: MockClock, tmp_path: Path, written: str, told: str
) -> None:
    async with open_(world, tmp_path, api()):
        heard = await world.get(f"/v1/token_usage?start_datetime={written}", ADMIN)
    match heard.json():
        case {"query_details": {"start_datetime": start}}:
            assert start == told
        case other:
            raise AssertionError(other)


async def test_the_keys_of_a_provider_are_ranked_by_digest(
    world: World, autojump_clock: MockClock, tmp_path: Path
) -> None:
    world.provider("a", status=400)
    world.provider("b")
    async with open_(world, tmp_path, api()):
        for _ in range(3):
            await world.ask()
        told = await found(world, "/v1/channel_key_rankings", provider_name="b")
        a = await found(world, "/v1/channel_key_rankings", provider_name="a")
        path = "/v1/channel_key_rankings"
        assert error(await world.get(path, ADMIN)) == (422, "invalid_request", "provider_name")
        unknown = await world.get(f"{path}?provider_name=x", ADMIN)
        assert error(unknown) == (404, "provider_not_found", "provider_name")
        assert (await world.get(f"{path}?provider_name=b", KEY)).status == 403
    first, second = (Secret(key).digest for key in ("sk-b-1", "sk-b-2"))
    assert told["rankings"] == [
        {"api_key": key, "label": None, "success_count": n, "total_requests": n,
         "success_rate": 1.0}
        for key, n in ((first, 2), (second, 1))
    ]  # fmt: skip
    match a["rankings"], told["query_details"]:
        case [{"success_count": well, "total_requests": 3, "success_rate": rate}], dict() as how:
            assert (well, rate) == (0, 0.0)
            assert how["api_key_filter"] == "b"
        case other:
            raise AssertionError(other)


async def test_what_is_left_out_of_a_list_is_said(
    world: World, autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MOST", 1)
    monkeypatch.setattr(usage, "MOST", 1)
    world.provider("b")
    async with open_(world, tmp_path, api()):
        for _ in range(2):
            await world.ask(model="m")
        await world.ask(key=ADMIN)
        stats = await found(world, "/v1/stats")
        used = await found(world, "/v1/token_usage")
        one = await found(world, "/v1/token_usage", api_key_param=KEY)
        ranked = await found(world, "/v1/channel_key_rankings", provider_name="b")
    assert stats["left_out"] == {"channel_model_success_rates": 1, "channel_success_rates": 1}
    assert "left_out" in str(stats["note"])
    for told, name, left_out in (
        (used, "usage", 1), (one, "usage", None), (ranked, "rankings", 1),
    ):  # fmt: skip
        match told[name], told["query_details"]:
            case [_], dict() as details:
                assert details.get("left_out") == left_out
                assert ("note" in details) == (left_out is not None)
            case other:
                raise AssertionError(other)


async def test_a_key_without_credit_is_refused_before_anybody_is_asked(
    world: World, autojump_clock: MockClock, tmp_path: Path, logs: list[EventDict]
) -> None:
    provider = world.provider("a")
    async with open_(world, tmp_path, api(own="credits: 0.2, rate_limit: 9/min")):
        assert [(await world.ask()).status for _ in range(2)] == [200, 200]  # $0.254
        heard = await world.ask()
        asked = await world.get(f"/v1/explain?model=m&key={Secret(KEY).digest}", ADMIN)
    assert error(heard) == (429, "insufficient_quota", None)
    assert "-$0.054 left of $0.2" in str(heard.json())
    assert "retry-after" not in heard.headers
    assert len(provider.requests) == 2
    match heard.json(), asked.json():
        case {"error": {"type": kind}}, {"text": str(text), "served": served}:
            assert kind == "insufficient_quota"
            assert served is False
            assert "credits: -$0.054 left of $0.2" in text
            assert "7 left of 9/min" in text  # what is refused is not counted
            assert "answer: 429 this key's credits are used up" in text
        case other:
            raise AssertionError(other)
    line = lines(logs)[2]
    assert line["limit"] == "credits of this key"


async def test_no_credits_at_all_is_no_request_at_all(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a")
    world.start(api(own="credits: 0"))
    assert error(await world.ask()) == (429, "insufficient_quota", None)
    assert (await world.post("/v1/embeddings", {"model": "m", "input": "hi"})).status == 429


async def test_a_nested_key_without_credit_is_passed_over(
    world: World, autojump_clock: MockClock, tmp_path: Path
) -> None:
    a, b = world.provider("a"), world.provider("b")
    async with open_(world, tmp_path, api(inner="credits: 0.1")):
        assert (await world.ask(key="sk-outer-0000")).status == 200
        assert world.gateway.state.spent[Secret(INNER).digest] == pytest.approx(COST)
        assert error(await world.ask(key=INNER)) == (429, "insufficient_quota", None)
        heard = await world.ask(key="sk-outer-0000")
        assert error(heard) == (429, "insufficient_quota", None)
        assert f"the credits of the nested key {Secret(INNER).digest} are used up" in str(
            heard.json()
        )
        assert (await world.ask(key="sk-backed-0000")).status == 200
    assert (len(a.requests), len(b.requests)) == (1, 1)


async def test_hanging_up_is_not_free(
    world: World, autojump_clock: MockClock, tmp_path: Path
) -> None:
    world.provider("a", gap=1)
    async with open_(world, tmp_path, api()):
        wire = world.connect()
        await world.send(wire, messages=[{"role": "user", "content": "four" * 250}])
        with trio.move_on_after(5):
            await wire.hear()
        await wire.stream.aclose()
        await trio.sleep(1)
        # The provider has not said what it was: the question is paid for, 250 tokens of it.
        assert world.gateway.state.spent[Secret(KEY).digest] == pytest.approx(0.25)


@pytest.mark.parametrize("path", ["/v1/stats", "/v1/token_usage", "/v1/explain"])
async def test_a_query_of_too_many_parameters_is_refused(
    world: World, autojump_clock: MockClock, path: str
) -> None:
    world.start(api())
    heard = await world.get(f"{path}?{'&'.join(f'n{n}=1' for n in range(101))}", ADMIN)
    assert error(heard) == (400, "invalid_request", None)
