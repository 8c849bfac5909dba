"""What is remembered of a request is what happened to it."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from tests.kit.replies import said
from tests.kit.world import KEY, World
from uniapi.codec import Json
from uniapi.config.types import Secret
from uniapi.demo import Fault
from uniapi.stats.record import Attempted, Record

ADA = Secret(KEY).digest
INNER = "sk-inner-0000"
PRICES = (
    "preferences:\n  model_price: {m: '500000,250000'}\n"  # dollars: a half and a quarter a token
)
CHAT: Json = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}

NOTHING = Record(
    at=0.0, id="", endpoint="POST /v1/chat/completions", client="", key=ADA, model="m",
    stream=False, status=200, outcome="ok", limit="", provider="", upstream="", seconds=0.0,
    first=None, prompt=0, completion=0, total=0, cost=0.0, via=(), attempts=(),
)  # fmt: skip


def told(world: World) -> list[Record]:
    """Every record from now on, without its time and id, which no test can foresee."""
    records: list[Record] = []

    def note(record: Record) -> None:
        assert abs(record.at - time.time()) < 5
        assert record.id.startswith("req-")
        records.append(replace(record, at=0.0, id=""))

    world.gateway.ledger.listeners.append(note)
    return records


def attempt(provider: str, outcome: str = "ok", **changes: object) -> Attempted:
    tried = Attempted(provider, "m", Secret(f"sk-up-{provider}").digest, outcome, "", 0.0, None, 0)
    return replace(tried, **changes)  # type: ignore[arg-type] # fields of an attempt


async def test_an_answer(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", tokens=10, ttft=2.0)
    records = told(world.chain("a", top=PRICES))
    await world.ask(stream=False)
    assert records == [
        replace(
            NOTHING,
            provider="a", upstream="m", seconds=2.0, first=2.0,
            prompt=7, completion=10, total=17, cost=6.0,
            attempts=(attempt("a", seconds=2.0, first=2.0, tokens=17),),
        )
    ]  # fmt: skip


async def test_a_stream(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", tokens=10, ttft=2.0, gap=0.5)
    records = told(world.chain("a", top=PRICES))
    await world.ask(stream_options={"include_usage": True})
    [record] = records
    assert (record.stream, record.first, record.total) == (True, 2.0, 17)
    assert record.seconds == record.attempts[0].seconds
    assert 6.0 <= record.seconds <= 7.0


async def test_a_failover(world: World, autojump_clock: MockClock) -> None:
    world.provider("b", status=401)
    world.provider("c", tokens=10, ttft=1.0)
    records = told(world.chain("b", "c"))
    await world.ask(stream=False)
    [record] = records
    assert (record.status, record.outcome, record.provider) == (200, "ok", "c")
    assert [(one.provider, one.outcome, one.tokens) for one in record.attempts] == [
        ("b", "key", 0),
        ("c", "ok", 17),
    ]
    assert record.total == 17


async def test_an_error_of_every_provider(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", status=401)
    records = told(world.chain("a"))
    heard = await world.ask(stream=False)
    assert records == [
        replace(NOTHING, status=heard.status, outcome="error", attempts=(attempt("a", "key"),))
    ]


async def test_a_client_that_leaves(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", ttft=100.0)
    records = told(world.chain("a"))
    wire = world.connect()
    await world.send(wire, stream=False)
    await trio.sleep(3)
    await wire.stream.aclose()
    await trio.sleep(1)
    [record] = records
    assert (record.status, record.outcome, record.provider) == (0, "client_left", "")
    assert (record.key, record.model, record.seconds) == (ADA, "m", 3.0)
    assert record.attempts == (attempt("a", "cancelled", seconds=3.0),)


async def test_a_stream_that_breaks_off(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", fault=Fault.CUT, at=3)
    records = told(world.chain("a", key="preferences: {rescue: false}\n"))
    await world.ask()
    [record] = records
    assert (record.status, record.outcome, record.provider) == (200, "cut", "a")
    assert [one.outcome for one in record.attempts] == ["cut"]


async def test_a_limit_that_is_met(world: World, autojump_clock: MockClock) -> None:
    world.provider("a")
    records = told(world.chain("a", key="preferences: {rate_limit: 1/day}\n"))
    await world.ask(stream=False)
    await world.ask(stream=False)
    assert records[1] == replace(
        NOTHING, model="", status=429, outcome="error", limit="1/d of this key"
    )


async def test_a_moderation_that_flags(world: World, autojump_clock: MockClock) -> None:
    flagged: Json = {"results": [{"flagged": True, "categories": {"hate": True}}]}
    world.fake("j", {"/v1/moderations": said(flagged)})
    world.provider("a")
    records = told(
        world.start(
            "providers:\n"
            "  - {provider: j, base_url: 'http://j/v1', model: [omni-moderation-latest]}\n"
            "  - {provider: a, base_url: 'http://a/v1', model: [m]}\n"
            f"api_keys:\n  - api: {KEY}\n    preferences: {{ENABLE_MODERATION: true}}\n"
        )
    )
    await world.ask(stream=False)
    assert records == [replace(NOTHING, model="", status=400, outcome="error")]


async def test_a_nested_key(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", tokens=10)
    records = told(
        world.start(
            "providers:\n"
            "  - {provider: a, base_url: 'http://a/v1', api: sk-up-a, model: [m]}\n"
            f"api_keys:\n  - {{api: {KEY}, model: [{INNER}/*]}}\n  - api: {INNER}\n"
        )
    )
    await world.ask(stream=False)
    [record] = records
    assert (record.key, record.via, record.provider) == (ADA, (Secret(INNER).digest,), "a")


async def test_each_nested_key_pays_for_what_came_through_it(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.CUT, at=3)
    world.provider("b")
    other = "sk-other-0000"
    records = told(
        world.start(
            "providers:\n"
            "  - {provider: a, base_url: 'http://a/v1', api: sk-up-a, model: [m]}\n"
            "  - {provider: b, base_url: 'http://b/v1', api: sk-up-b, model: [m]}\n"
            f"api_keys:\n  - {{api: {KEY}, model: [{INNER}/*, {other}/*]}}\n"
            f"  - {{api: {INNER}, model: [a/m]}}\n  - {{api: {other}, model: [b/m]}}\n{PRICES}"
        )
    )
    await world.ask()
    [record] = records
    first, second = Secret(INNER).digest, Secret(other).digest
    assert [one.why for one in record.attempts] == ["", "rescue"]
    assert record.via == (first, second)
    assert record.paid_through(first) + record.paid_through(second) == record.cost
    assert 0 < record.paid_through(first) < record.paid_through(second)
    spent = world.gateway.budgets.spent
    assert spent[Secret(KEY).digest] == record.cost
    assert (spent[first], spent[second]) == (record.parts[first], record.parts[second])


@pytest.mark.parametrize("path", ["/", "/v1", "/wp-login.php", "/v1/chat/completions/x", "/v1/%00"])
async def test_a_path_that_is_none_of_ours_has_one_name(
    world: World, autojump_clock: MockClock, path: str
) -> None:
    records = told(world.chain("a"))
    await world.get(path)
    assert records == [
        replace(NOTHING, endpoint="other", key="", model="", status=404, outcome="error")
    ]


async def test_a_model_nobody_serves_has_no_name(world: World, autojump_clock: MockClock) -> None:
    world.provider("a")
    records = told(world.chain("a"))
    heard = await world.ask(stream=False, model="a-name-a-stranger-made-up")
    assert records == [replace(NOTHING, model="", status=heard.status, outcome="error")]


async def test_a_key_that_is_not_known_is_nobodys(world: World, autojump_clock: MockClock) -> None:
    records = told(world.chain("a"))
    await world.ask(stream=False, key="sk-somebody-elses")
    [record] = records
    assert (record.key, record.model, record.status, record.outcome) == ("", "", 401, "error")


@pytest.mark.parametrize(
    ("method", "path", "endpoint"),
    [
        ("GET", "/v1/models", "GET /v1/models"),
        ("GET", "/models/", "GET /v1/models"),
        ("GET", "/v1/models/m", "GET /v1/models/{name}"),
        ("HEAD", "/v1/models", "HEAD /v1/models"),
        ("BREW", "/v1/models", "other"),
    ],
)
async def test_an_endpoint_has_its_canonical_name(
    world: World, autojump_clock: MockClock, method: str, path: str, endpoint: str
) -> None:
    records = told(world.chain("a"))
    wire = world.connect()
    head = f"{method} {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n\r\n"
    await wire.stream.send_all(head.encode())
    await wire.hear(method)
    assert [record.endpoint for record in records] == [endpoint]


async def test_other_endpoints_have_what_chat_has(world: World, autojump_clock: MockClock) -> None:
    usage: Json = {"prompt_tokens": 5, "total_tokens": 5}
    world.fake("a", {"/v1/embeddings": said({"object": "list", "data": [], "usage": usage})})
    records = told(
        world.start(
            "providers:\n"
            "  - {provider: a, base_url: 'http://a/v1', api: sk-up-a, model: [m]}\n"
            f"api_keys:\n  - api: {KEY}\n{PRICES}"
        )
    )
    await world.post("/v1/embeddings", {"model": "m", "input": "Hello"})
    [record] = records
    assert (record.endpoint, record.status, record.outcome) == ("POST /v1/embeddings", 200, "ok")
    assert (record.provider, record.prompt, record.total, record.cost) == ("a", 5, 5, 2.5)


async def test_a_request_is_told_of_once_it_is_over_and_only_once(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", ttft=5.0)
    records = told(world.chain("a"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.ask)
        await trio.sleep(4)
        assert records == []
    assert len(records) == 1
