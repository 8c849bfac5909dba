"""When the first provider fails, the client gets the second's answer, once, in the right second."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from tests.kit.world import World
from uniapi.codec import Json
from uniapi.demo import SIXTY, Behaviour, Fault
from uniapi.demo.behaviour import error_body

TEN = "preferences: {model_timeout: {m: 10}}"
ERROR = error_body("no", type="server_error")

# Fault of the first, seconds until the second is asked (None: after one jittered retry), how
# often the first is asked.
FAULTS: dict[str, tuple[Behaviour, float | None, int]] = {
    "refuses": (Behaviour(fault=Fault.REFUSE), None, 0),
    "resets": (Behaviour(fault=Fault.RESET), None, 2),
    "resets in its head": (Behaviour(fault=Fault.RESET_IN_HEAD, at=20), None, 2),
    "answers 500": (Behaviour(status=500), None, 2),
    "answers 503": (Behaviour(status=503), None, 2),
    "answers 529": (Behaviour(status=529), None, 2),
    "hangs": (Behaviour(fault=Fault.HANG), 10, 1),
    "sends a head and nothing": (Behaviour(fault=Fault.SILENT), 10, 1),
    "drips its head": (Behaviour(fault=Fault.DRIP_HEAD), 10, 1),
    "sends comments only": (Behaviour(fault=Fault.COMMENTS), 10, 1),
    "thinks too long": (Behaviour(ttft=10.5), 10, 1),
    "sends an error object with 200": (Behaviour(fault=Fault.ERROR_OBJECT), 0, 1),
    "sends an error as its first event": (Behaviour(fault=Fault.ERROR_EVENT), 0, 1),
    "sends nothing at all": (Behaviour(fault=Fault.EMPTY), 0, 1),
    "sends [DONE] alone": (Behaviour(fault=Fault.ONLY_DONE), 0, 1),
    "sends a web page": (Behaviour(fault=Fault.HTML), 0, 1),
    "redirects": (Behaviour(status=307, headers=(("location", "http://c/"),)), 0, 1),
    "knows no such model": (Behaviour(status=404), 0, 1),
    "refuses the key": (Behaviour(status=401), 0, 1),
    "is out of quota": (Behaviour(status=402), 0, 1),
    "limits the rate": (Behaviour(status=429), 0, 1),
    "finds the context too long": (
        Behaviour(status=400, error=error_body("x", type="e", code="context_length_exceeded")),
        0,
        1,
    ),
}


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("name", FAULTS)
async def test_the_second_answers_when_the_first(
    name: str, stream: bool, world: World, autojump_clock: MockClock
) -> None:
    fault, after, asked = FAULTS[name]
    first = world.provider("a", fault)
    second = world.provider("b")
    world.chain("a", "b", top=TEN)

    heard = await world.ask(stream=stream)

    assert heard.status == 200
    assert heard.ended == "whole"
    assert content(heard.text() if stream else heard.json()) == SIXTY
    assert len(first.requests) == asked
    assert len(second.requests) == 1
    if after is None:
        assert 0.05 <= second.requests[0].time <= 0.25
    else:
        assert second.requests[0].time == after
    assert [seen.closed_at is not None for seen in first.requests] == [True] * asked


def content(answer: Json) -> Json:
    match answer:
        case {"choices": [{"message": {"content": str(text)}}]}:
            return text
        case _:
            return answer


async def test_a_policy_refusal_is_the_answer(world: World, autojump_clock: MockClock) -> None:
    world.provider(
        "a",
        status=400,
        error=error_body("not that", type="invalid_request_error", code="content_filter"),
    )
    second = world.provider("b")
    world.chain("a", "b")
    heard = await world.ask()
    assert heard.status == 400
    assert second.requests == []
    match heard.json():
        case {"error": {"message": str(said), "code": "content_filter"}}:
            assert "not that" in said
        case other:
            raise AssertionError(other)


async def test_when_all_fail_the_most_telling_failure_is_the_answer(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", status=429, headers=(("retry-after", "17"),))
    world.provider("b", fault=Fault.REFUSE)
    world.chain("a", "b")
    heard = await world.ask()
    assert heard.status == 429
    assert heard.headers["retry-after"] == "17"
    assert heard.headers["x-uniapi-attempts"].startswith("a/m;rate_limit;status=429;ms=")
    assert "b/m;connect" in heard.headers["x-uniapi-attempts"]


async def test_a_refused_provider_key_is_not_the_clients_fault(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", status=401)
    world.chain("a")
    assert (await world.ask()).status == 502


async def test_no_retry_means_one_attempt(world: World, autojump_clock: MockClock) -> None:
    first, second = world.provider("a", status=500), world.provider("b")
    world.chain("a", "b", key="preferences: {AUTO_RETRY: false}\n")
    assert (await world.ask()).status == 500
    assert (len(first.requests), len(second.requests)) == (1, 0)


async def test_a_number_is_so_many_retries(world: World, autojump_clock: MockClock) -> None:
    only = world.provider("a", status=500)
    world.chain("a", key="preferences: {AUTO_RETRY: 3}\n")
    assert (await world.ask()).status == 500
    assert len(only.requests) == 4
    times = [seen.time for seen in only.requests]
    assert all(later - sooner >= 1.5 for sooner, later in zip(times, times[2:], strict=False))


async def test_a_failed_channel_cools_and_is_asked_again_after(
    world: World, autojump_clock: MockClock
) -> None:
    first, second = world.provider("a", status=500), world.provider("b")
    world.chain("a", "b", top="preferences: {cooldown_period: 60}")
    await world.ask()
    await world.ask()
    assert (len(first.requests), len(second.requests)) == (2, 2)
    autojump_clock.jump(61)
    await world.ask()
    assert (len(first.requests), len(second.requests)) == (4, 3)


async def test_the_next_key_is_tried_when_one_is_refused(
    world: World, autojump_clock: MockClock
) -> None:
    provider = world.provider("a")
    provider.keys = ["good"]
    world.start(
        """
providers:
  - {provider: a, base_url: 'http://a/v1/chat/completions', api: [bad-1, bad-2, good], model: [m]}
api_keys:
  - api: sk-client-0000
"""
    )
    heard = await world.ask()
    assert heard.text() == SIXTY
    assert [seen.headers["authorization"] for seen in provider.requests] == [
        "Bearer bad-1",
        "Bearer bad-2",
        "Bearer good",
    ]


async def test_an_unreachable_host_is_given_up_after_fifteen_seconds(
    world: World, autojump_clock: MockClock
) -> None:
    world.network.never.add("a")
    second = world.provider("b")
    world.chain("a", "b", key="preferences: {AUTO_RETRY: 1}\n")
    await world.ask()
    assert second.requests[0].time == 15


async def test_error_triggers_fail_over_before_the_client_sees_them(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", text="The bot's usage is covered by the developer, goodbye", gap=1)
    world.provider("b", text="A good answer")
    world.chain("a", "b", top="preferences: {error_triggers: [usage is covered by]}")
    heard = await world.ask()
    assert heard.text() == "A good answer"


async def test_triggers_hold_back_no_more_than_they_must(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", text="one two three four five six", gap=1)
    world.chain("a", top="preferences: {error_triggers: [nine bytes]}")
    heard = await world.ask()
    assert heard.text() == "one two three four five six"
    assert heard.head_at == 2  # "one two three" is the first to be as long as the trigger
    assert heard.ended_at == 5


async def test_a_swapped_form_is_turned_round(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", fault=Fault.SWAPPED)
    world.chain("a")
    streamed = await world.ask(stream=True)
    assert streamed.text() == SIXTY
    assert streamed.events()[-1] == b"[DONE]"
    whole = await world.ask(stream=False)
    assert content(whole.json()) == SIXTY


async def test_no_field_of_a_refusal_gives_a_key_away(
    world: World, autojump_clock: MockClock
) -> None:
    key = "sk-up-a"
    said = error_body(f"bad {key}", type=key, code=key)
    world.provider("a", status=400, error=said)
    world.chain("a")
    heard = await world.ask()
    assert heard.status == 400
    assert key.encode() not in heard.body


async def test_no_field_of_an_error_in_mid_stream_gives_a_key_away(
    world: World, autojump_clock: MockClock
) -> None:
    key = "sk-up-a"
    said = error_body(f"bad {key}", type=key, code=key)
    world.provider("a", fault=Fault.ERROR_EVENT, at=3, gap=1, error=said)
    world.chain("a", top="preferences: {rescue: false}")
    heard = await world.ask()
    assert heard.status == 200
    assert b'"error"' in heard.events()[-1]
    assert key.encode() not in heard.body
