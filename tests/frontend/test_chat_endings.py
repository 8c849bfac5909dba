"""How a request ends when somebody leaves, stalls or breaks off."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.kit.wire import Heard
from tests.kit.world import World
from uniapi.codec import loads
from uniapi.demo import SIXTY, Behaviour, Fault


@pytest.mark.parametrize("pipelined", [False, True], ids=["alone", "pipelined"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(fault=Fault.HANG),
        Behaviour(fault=Fault.SILENT),
        Behaviour(gap=1),
        Behaviour(delay=50),
    ],
    ids=["before the head", "after the head", "between tokens", "before a late head"],
)
async def test_when_the_client_leaves_the_upstream_is_hung_up_on_at_once(
    behaviour: Behaviour, stream: bool, pipelined: bool, world: World, autojump_clock: MockClock
) -> None:
    provider = world.provider("a", behaviour)
    spare = world.provider("b")
    world.chain("a", "b")
    wire = world.connect()
    await world.send(wire, stream=stream)
    if pipelined:
        await world.send(wire)
    await trio.sleep(7.25)
    await wire.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert [seen.disconnected_at for seen in provider.requests] == [7.25]
    assert spare.requests == []
    assert world.server.open_connections == 0
    assert world.gateway.client.open_connections == 0


async def test_a_client_that_leaves_is_nobodys_failure(
    world: World, autojump_clock: MockClock
) -> None:
    provider = world.provider("a", gap=1)
    world.provider("b")
    world.chain("a", "b")
    wire = world.connect()
    await world.send(wire)
    await trio.sleep(3)
    await wire.stream.aclose()
    await world.ask()
    assert len(provider.requests) == 2


BROKEN = {
    "is cut": Behaviour(fault=Fault.CUT, at=20, gap=1),
    "breaks off": Behaviour(fault=Fault.ABORT, at=20, gap=1),
    "stalls": Behaviour(fault=Fault.STALL, at=20, gap=1),
    "reports an error": Behaviour(fault=Fault.ERROR_EVENT, at=20, gap=1),
    "sends broken JSON": Behaviour(fault=Fault.BROKEN_JSON, at=21, gap=1),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_half_an_answer_never_ends_as_if_whole_when_it(
    name: str, world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", BROKEN[name])
    world.chain("a", top="preferences: {model_timeout: {m: 30}}")
    heard = await world.ask()
    assert heard.status == 200
    assert heard.ended == "whole"
    assert SIXTY.startswith(heard.text())
    assert 19 <= len(heard.text().split()) <= 20
    assert b"[DONE]" not in heard.body
    match loads(heard.events()[-1]):
        case {"error": {"message": str(), "type": str(), "code": str(), "param": None}}:
            pass
        case other:
            raise AssertionError(other)
    assert b'"finish_reason":"stop"' not in heard.body


async def test_a_whole_answer_that_breaks_off_goes_to_the_next(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.ABORT, at=20)
    world.provider("b")
    world.chain("a", "b")
    heard = await world.ask(stream=False)
    assert heard.status == 200
    assert SIXTY.encode() in heard.body


async def test_silence_between_tokens_is_counted_from_the_last_token(
    world: World, autojump_clock: MockClock
) -> None:
    provider = world.provider("a", fault=Fault.STALL, at=5, gap=9)
    world.chain("a", top="preferences: {model_timeout: {m: 10}}")
    heard = await world.ask()
    assert provider.requests[0].disconnected_at == 4 * 9 + 10
    assert b"silence of 10 s" in heard.events()[-1]


async def test_a_total_is_a_total(world: World, autojump_clock: MockClock) -> None:
    provider = world.provider("a", gap=1)
    world.chain("a", top="preferences: {model_timeout: {m: {first: 5, idle: 5, total: 12}}}")
    heard = await world.ask()
    assert provider.requests[0].disconnected_at == 12
    assert b"not complete within 12 s" in heard.events()[-1]


async def test_a_client_that_reads_slowly_is_not_the_providers_silence(
    world: World, autojump_clock: MockClock
) -> None:
    provider = world.provider("a", tokens=100, gap=1)
    world.chain("a", top="preferences: {model_timeout: {m: 10}}")
    wire = world.connect(narrow=True)
    await world.send(wire)
    await trio.sleep(50)  # far longer than the provider may be silent, shorter than the 60 of ours
    heard = await wire.hear()
    assert heard.ended == "whole"
    assert len(heard.text().split()) == 100
    assert heard.events()[-1] == b"[DONE]"
    assert provider.requests[0].disconnected_at is None


async def test_a_provider_that_stalls_behind_a_slow_client_is_noticed(
    world: World, autojump_clock: MockClock
) -> None:
    provider = world.provider("a", fault=Fault.STALL, at=40, gap=0.1)
    world.chain("a", top="preferences: {model_timeout: {m: 10}}")
    wire = world.connect(narrow=True)
    await world.send(wire)
    await trio.sleep(30)  # until then the clock of the silence rested
    heard = await wire.hear()
    assert heard.text() == " ".join(SIXTY.split()[:40])
    assert b"silence of 10 s" in heard.events()[-1]
    assert provider.requests[0].disconnected_at == 40


async def test_what_the_client_does_not_read_is_not_read_from_the_provider(
    world: World, autojump_clock: MockClock
) -> None:
    provider = world.provider("a", tokens=100_000, gap=0.0001)
    world.network.narrow = True
    world.chain("a")
    wire = world.connect(narrow=True)
    await world.send(wire)
    await trio.sleep(5)
    assert provider.active == 1  # it has not got rid of its hundred thousand tokens
    assert world.gateway.client.open_connections == 1
    await wire.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert provider.active == 0


async def test_done_may_be_missing_after_a_finish_reason(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.NO_DONE)
    world.chain("a")
    heard = await world.ask(stream_options={"include_usage": True})
    assert heard.text() == SIXTY
    assert heard.events()[-1] == b"[DONE]"
    assert b'"usage"' in heard.events()[-2]


async def test_usage_goes_to_those_who_asked(world: World, autojump_clock: MockClock) -> None:
    world.provider("a")
    world.chain("a")
    plain = await world.ask()
    asked = await world.ask(stream_options={"include_usage": True})
    assert not [event for event in plain.events() if b'"choices":[]' in event]
    assert [b'"choices":[]' in event for event in asked.events()[-2:]] == [True, False]


async def test_frames_of_the_same_dialect_arrive_byte_for_byte(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", tools=(("look", '{"at":"x"}'), ("go", "{}")), reasoning="hm well")
    world.chain("a")
    through = await world.ask(stream_options={"include_usage": True})
    straight = await direct(world)
    told, done, nothing = through.body.rpartition(b"data: [DONE]\n\n")
    frames, _, trail = told.rpartition(b": uniapi attempts=")
    assert frames + done == straight.body
    assert (nothing, trail) == (b"", b"a/m;ok;ms=0\n\n")


async def direct(world: World) -> Heard:
    """The same question put to the provider itself."""
    from tests.kit.wire import Wire  # noqa: PLC0415 - one use

    stream = await world.network.connect("a", 80, tls=False)
    wire = Wire(stream)
    await wire.send(
        {
            "model": "m",
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    return await wire.hear()


async def test_connections_to_providers_are_used_again(
    world: World, autojump_clock: MockClock
) -> None:
    provider = world.provider("a")
    world.chain("a")
    for _ in range(5):
        await world.ask()
        await world.ask(stream=False)
    assert provider.connections == 1
    assert world.gateway.client.open_connections == 1


async def test_nothing_of_the_request_is_lost_or_added(
    world: World, autojump_clock: MockClock
) -> None:
    provider = world.provider("a")
    world.start(
        """
providers:
  - {provider: a, base_url: 'http://a/v1/chat/completions', api: sk-up, model: [{real: m}]}
api_keys:
  - api: sk-client-0000
"""
    )
    await world.ask(stream=False, tomorrow={"field": [1, None]}, temperature=0.1)
    assert provider.requests[0].body == {
        "model": "real",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": False,
        "tomorrow": {"field": [1, None]},
        "temperature": 0.1,
    }
    sent = provider.requests[0].headers
    assert sent["authorization"] == "Bearer sk-up"
    assert "x-request-id" not in sent
