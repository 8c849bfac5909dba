"""`GET /metrics`: whom it is for, and that its numbers are those of what was done."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

from tests.kit.wire import Heard, Wire
from tests.kit.world import World
from uniapi.demo import Behaviour, Fault

ADMIN = "sk-admin-0000"
CHAT = "POST /v1/chat/completions"
API = """
providers:
  - {provider: a, base_url: 'http://a/v1/chat/completions', api: [sk-up-a, sk-up-a2], model: [m]}
  - {provider: b, base_url: 'http://b/v1/chat/completions', api: sk-up-b, model: [m, n]}
api_keys:
  - {api: sk-client-0000, model: [a/m, b/m]}
  - {api: sk-hedge-0000, model: [a/m, b/m], preferences: {hedge: {after: 2s, budget: 100%}}}
  - {api: sk-limit-0000, model: [b/m], preferences: {rate_limit: 1/min}}
  - {api: sk-admin-0000, role: admin, model: [b/n]}
preferences:
  model_price: {m: '1000,2000'}
"""


class Samples:
    """What a scrape said."""

    def __init__(self, heard: Heard) -> None:
        assert heard.status == 200, heard.body
        self._all = [
            sample
            for family in text_string_to_metric_families(heard.body.decode())
            for sample in family.samples
        ]

    def get(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name with these labels; 0 for none."""
        return sum(
            sample.value
            for sample in self._all
            if sample.name == name and labels.items() <= sample.labels.items()
        )


async def scraped(world: World) -> Samples:
    return Samples(await world.get("/metrics", ADMIN))


async def from_loopback(world: World, address: str = "127.0.0.1", **headers: str) -> Heard:
    """A scrape without a key, by a peer at this address."""
    ours, theirs = trio.testing.memory_stream_pair()

    async def serve() -> None:
        await world.server.serve_transport(theirs, client=(address, 4711))

    world.nursery.start_soon(serve)
    fields = {"host": "127.0.0.1:8000", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    await ours.send_all(f"GET /metrics HTTP/1.1\r\n{lines}\r\n".encode())
    heard = await Wire(ours).hear("GET")
    await ours.aclose()
    return heard


async def test_it_is_in_the_format_scrapers_ask_for(
    world: World, autojump_clock: MockClock
) -> None:
    world.start(API)
    heard = await world.get("/metrics", ADMIN)
    assert heard.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert heard.headers["cache-control"] == "no-store"
    assert heard.body.endswith(b"\n")
    assert (await world.get("/v1/metrics", ADMIN)).status == 200


async def test_others_need_an_admins_key(world: World, autojump_clock: MockClock) -> None:
    world.start(API)
    assert (await world.get("/metrics", None)).status == 401
    assert (await world.get("/metrics", "sk-client-0000")).status == 403


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:1", "[::1]"]
)
async def test_a_scraper_on_the_same_machine_needs_none(
    address: str, host: str, world: World, autojump_clock: MockClock
) -> None:
    world.start(API)
    assert (await from_loopback(world, address, host=host)).status == 200


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        pytest.param("10.0.0.1", {}, id="another machine"),
        pytest.param("::ffff:10.0.0.1", {}, id="another machine, mapped"),
        pytest.param("127.0.0.1", {"x_forwarded_for": "9.9.9.9"}, id="a proxy"),
        pytest.param("127.0.0.1", {"x_forwarded_for": "127.0.0.1"}, id="a proxy that lies"),
        pytest.param("127.0.0.1", {"x_forwarded_proto": "https"}, id="a proxy, by another header"),
        pytest.param("127.0.0.1", {"forwarded": "for=9.9.9.9"}, id="a proxy, by the standard"),
        pytest.param("127.0.0.1", {"x_real_ip": "9.9.9.9"}, id="nginx"),
        pytest.param("127.0.0.1", {"via": "1.1 caddy"}, id="a proxy that names itself"),
        pytest.param("127.0.0.1", {"origin": "https://evil.example"}, id="a page in a browser"),
        pytest.param(
            "127.0.0.1", {"host": "evil.example"}, id="a page's name that leads to loopback"
        ),
        pytest.param("127.0.0.1", {"host": "127.0.0.1.evil.example"}, id="such a name in disguise"),
        pytest.param("127.0.0.1", {"host": ""}, id="no name"),
    ],
)
async def test_who_only_comes_through_loopback_does(
    address: str, headers: dict[str, str], world: World, autojump_clock: MockClock
) -> None:
    world.start(API)
    assert (await from_loopback(world, address, **headers)).status == 401
    with_key = await from_loopback(world, address, **headers, authorization=f"Bearer {ADMIN}")
    assert with_key.status == 200


async def test_a_failover_is_two_attempts_and_one_request(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", status=404)
    world.provider("b", ttft=1.2, gap=0.5)
    world.start(API)
    assert (await world.ask()).status == 200
    seen = await scraped(world)
    assert seen.get("uniapi_requests_total", endpoint=CHAT) == 1
    assert seen.get("uniapi_requests_total", endpoint=CHAT, status="200", outcome="ok") == 1
    assert seen.get("uniapi_attempts_total") == 2
    assert seen.get("uniapi_attempts_total", provider="a", outcome="bad_request", why="turn") == 1
    assert seen.get("uniapi_attempts_total", provider="b", outcome="ok", why="turn") == 1
    first, whole = "uniapi_attempt_first_token_seconds", "uniapi_attempt_duration_seconds"
    assert seen.get(f"{first}_sum", provider="b") == pytest.approx(1.2)
    assert seen.get(f"{first}_count", provider="a") == 0
    assert seen.get(f"{whole}_sum", provider="b") == pytest.approx(1.2 + 59 * 0.5)
    assert seen.get(f"{whole}_bucket", provider="b", le="30.0") == 0
    assert seen.get(f"{whole}_bucket", provider="b", le="60.0") == 1
    assert seen.get("uniapi_tokens_total", provider="b", model="m", kind="completion") == 60
    assert seen.get("uniapi_tokens_total", provider="b", model="m", kind="prompt") == 7
    assert seen.get("uniapi_cost_dollars_total", provider="b") == pytest.approx((7 + 120) / 1000)


async def test_who_rests_is_counted_until_the_rest_is_over(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", status=500)
    world.provider("b")
    world.start(API)
    assert (await scraped(world)).get("uniapi_channels_resting") == 0
    await world.ask()
    seen = await scraped(world)
    assert seen.get("uniapi_channels_resting", provider="a") == 1
    assert seen.get("uniapi_channels_resting", provider="b") == 0
    await trio.sleep(300)
    assert (await scraped(world)).get("uniapi_channels_resting") == 0


async def test_a_hedge_and_the_one_it_beat(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", fault=Fault.HANG)
    world.provider("b")
    world.start(API)
    await world.ask(key="sk-hedge-0000")
    seen = await scraped(world)
    assert seen.get("uniapi_attempts_total", provider="a", outcome="cancelled", why="turn") == 1
    assert seen.get("uniapi_attempts_total", provider="b", outcome="ok", why="hedge") == 1
    assert seen.get("uniapi_hedges_total") == 1
    assert seen.get("uniapi_hedges_won_total") == 1
    assert seen.get("uniapi_attempts_cancelled_total") == 1


async def test_a_rescue_and_what_it_was_for(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", fault=Fault.ABORT, at=20)
    world.provider("b")
    world.start(API)
    await world.ask()
    seen = await scraped(world)
    assert seen.get("uniapi_rescues_total") == 1
    assert seen.get("uniapi_attempts_total", provider="a", why="turn", outcome="ok") == 0
    assert seen.get("uniapi_attempts_total", provider="a", why="turn") == 1
    assert seen.get("uniapi_attempts_total", provider="b", why="rescue", outcome="ok") == 1
    assert seen.get("uniapi_requests_total", endpoint=CHAT, outcome="ok") == 1


async def test_a_client_that_leaves_and_the_connection_it_leaves(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.HANG)
    world.start(API)
    wire = world.connect()
    await world.send(wire)
    await trio.sleep(5)
    seen = await scraped(world)
    assert seen.get("uniapi_live_requests", stage="waiting") == 1
    assert seen.get("uniapi_live_requests", stage="other") == 1  # the scrape itself
    assert seen.get("uniapi_upstream_connections", state="in_use") == 1
    assert seen.get("uniapi_tasks") > 3
    await wire.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    seen = await scraped(world)
    assert seen.get("uniapi_requests_total", endpoint=CHAT, outcome="client_left") == 1
    assert seen.get("uniapi_requests_total", endpoint=CHAT, status="none") == 1
    assert seen.get("uniapi_live_requests", stage="waiting") == 0
    assert seen.get("uniapi_upstream_connections", state="in_use") == 0


async def test_a_refusal_by_a_limit(world: World, autojump_clock: MockClock) -> None:
    world.provider("b")
    world.start(API)
    for _ in range(3):
        await world.ask(key="sk-limit-0000")
    seen = await scraped(world)
    key = world.gateway.config.keys[2].id
    assert seen.get("uniapi_rate_limited_total", key=key) == 2
    assert seen.get("uniapi_requests_total", endpoint=CHAT, status="429") == 2
    assert seen.get("uniapi_attempts_total") == 1
    assert seen.get("uniapi_upstream_connections", state="idle") == 1


async def test_what_strangers_make_up_is_no_label(world: World, autojump_clock: MockClock) -> None:
    world.provider("a")
    world.start(API)
    for number in range(20):
        await world.ask(model=f"made-up-{number}")
        await world.get(f"/made/up/{number}", f"sk-made-up-{number}")
        await world.get(f"/v1/models/made-up-{number}", None)
    heard = await world.get("/metrics", ADMIN)
    assert b"made-up" not in heard.body
    assert b"made/up" not in heard.body
    seen = Samples(heard)
    assert seen.get("uniapi_requests_total", endpoint="other", status="404") == 20
    assert seen.get("uniapi_requests_total", endpoint=CHAT, status="404") == 20


async def test_no_key_is_in_it(world: World, autojump_clock: MockClock) -> None:
    world.provider("a").behaviour = lambda _: Behaviour(status=401)
    world.provider("b")
    world.start(API)
    await world.ask()
    await world.ask(key="sk-limit-0000")
    body = (await world.get("/metrics", ADMIN)).body
    assert b"sk-" not in body


async def test_the_process_is_described_as_by_every_exporter(
    world: World, autojump_clock: MockClock
) -> None:
    world.start(API)
    seen = await scraped(world)
    assert seen.get("process_cpu_seconds_total") > 0
    assert seen.get("process_start_time_seconds") > 1_600_000_000
    assert seen.get("process_max_fds") > 0
    assert seen.get("uniapi_build_info") == 1
