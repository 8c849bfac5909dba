"""What a request may take in all, and where the time went; signs of life for who waits."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.kit.wire import Heard
from tests.kit.world import KEY, World
from uniapi.codec import Json, loads
from uniapi.demo import SIXTY, Fault

COMMENT = b": keepalive\n\n"


async def ask(world: World, deadline: str, *, stream: bool = True) -> Heard:
    wire = world.connect()
    body: Json = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    await wire.send(body, authorization=f"Bearer {KEY}", x_uniapi_deadline=deadline)
    heard = await wire.hear()
    await wire.stream.aclose()
    return heard


def said(heard: Heard) -> str:
    match heard.json():
        case {"error": {"message": str(message), "code": "deadline"}}:
            return message
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("written", ["25", "25s", "25000ms", " 25 S "])
async def test_a_deadline_ends_all_attempts_and_says_where_the_time_went(
    written: str, stream: bool, world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.HANG)
    world.provider("b", fault=Fault.HANG)
    third = world.provider("c", fault=Fault.HANG)
    world.chain("a", "b", "c", top="preferences: {model_timeout: {m: 10}}")
    heard = await ask(world, written, stream=stream)
    assert (heard.status, heard.ended_at) == (504, 25)
    assert said(heard) == (
        "not complete within the deadline of 25 s: a/m first_token_timeout after 10.0 s; "
        "b/m first_token_timeout after 10.0 s; c/m deadline after 5.0 s"
    )
    assert third.requests[0].disconnected_at == 25
    trail = heard.headers["x-uniapi-attempts"]
    assert "a/m;first_token_timeout;status=504;limit=first:10;ms=10000" in trail
    assert "c/m;deadline;status=504;limit=deadline;ms=5000" in trail


async def test_the_channel_is_not_to_blame(world: World, autojump_clock: MockClock) -> None:
    first = world.provider("a", ttft=7)
    world.provider("b")
    world.chain("a", "b")
    assert (await ask(world, "5s")).status == 504
    assert (await ask(world, "20s")).text() == SIXTY
    assert len(first.requests) == 2


async def test_a_key_may_have_one_and_the_shorter_counts(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.HANG)
    world.chain("a", key="preferences: {deadline: 8s}\n")
    assert (await world.ask()).ended_at == 8
    assert (await ask(world, "3s")).ended_at == 3
    assert (await ask(world, "30s")).ended_at == 8


async def test_an_answer_in_time_is_not_touched(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", gap=0.1)
    world.chain("a")
    assert (await ask(world, "6s")).text() == SIXTY


async def test_back_off_counts_and_is_not_begun_in_vain(
    world: World, autojump_clock: MockClock
) -> None:
    only = world.provider("a", status=429, headers=(("retry-after", "2"),))
    world.chain("a")
    heard = await ask(world, "1s")
    assert (heard.status, heard.ended_at) == (429, 0)
    assert len(only.requests) == 1


async def test_a_stream_that_has_begun_ends_in_an_error_event(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", gap=1)
    second = world.provider("b")
    world.chain("a", "b")
    heard = await ask(world, "10s")
    assert (heard.status, heard.ended_at) == (200, 10)
    match loads(heard.events()[-1]):
        case {"error": {"message": str(message), "code": "deadline"}}:
            assert message.endswith("10 s: a/m deadline after 10.0 s")
        case other:
            raise AssertionError(other)
    assert b"[DONE]" not in heard.body
    assert second.requests == []


@pytest.mark.parametrize("wrong", ["soon", "0", "-1", "5 lightyears", ""])
async def test_what_is_no_time_is_refused(
    wrong: str, world: World, autojump_clock: MockClock
) -> None:
    only = world.provider("a")
    world.chain("a")
    heard = await ask(world, wrong)
    assert heard.status == 400
    assert b"x-uniapi-deadline" in heard.body
    assert only.requests == []


# Signs of life.


async def test_a_waiting_client_hears_from_us(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", ttft=7)
    world.chain("a", top="preferences: {keepalive_interval: 2s}")
    heard = await world.ask()
    assert [at for at, data in heard.arrivals if data == COMMENT] == [2, 4, 6]
    assert (heard.status, heard.head_at) == (200, 2)
    assert heard.text() == SIXTY
    assert heard.events()[-1] == b"[DONE]"


async def test_between_tokens_too(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", tokens=3, gap=5)
    world.chain("a", top="preferences: {keepalive_interval: 2s}")
    heard = await world.ask()
    assert [at for at, data in heard.arrivals if data == COMMENT] == [2, 4, 7, 9]


async def test_and_while_another_is_asked_to_go_on(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", fault=Fault.ABORT, at=20)
    world.provider("b", ttft=5)
    world.chain("a", "b", top="preferences: {keepalive_interval: 2s}")
    heard = await world.ask()
    assert [at for at, data in heard.arrivals if data == COMMENT] == [2, 4]
    assert heard.text() == SIXTY


async def test_a_failure_after_a_comment_is_told_in_the_stream(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", delay=5, status=401)
    world.chain("a", top="preferences: {keepalive_interval: 2s}")
    heard = await world.ask()
    assert (heard.status, heard.ended) == (200, "whole")
    match loads(heard.events()[-1]):
        case {"error": {"message": str(), "code": "key"}}:
            pass
        case other:
            raise AssertionError(other)
    assert b"[DONE]" not in heard.body
    assert heard.body.endswith(b": uniapi attempts=a/m;key;status=401;ms=5000\n\n")


async def test_a_failure_before_the_first_comment_has_its_status(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", delay=1, status=401)
    world.chain("a", top="preferences: {keepalive_interval: 2s}")
    assert (await world.ask()).status == 502


async def test_a_whole_answer_has_no_comments(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", ttft=7)
    world.chain("a", top="preferences: {keepalive_interval: 2s}")
    heard = await world.ask(stream=False)
    assert COMMENT not in heard.body


@pytest.mark.parametrize(
    ("own", "top", "first"),
    [
        ("", "5s", 5),
        ("", "{m: 4s, default: 9s}", 4),
        ("", "{other: 4s, default: 9s}", 9),
        ("3s", "5s", 3),
        ("{m: 2s}", "5s", 2),
        ("{other: 2s}", "5s", 5),
    ],
)
async def test_the_interval_is_found_like_a_timeout(
    own: str, top: str, first: int, world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", ttft=10)
    mine = f", preferences: {{keepalive_interval: {own}}}" if own else ""
    world.start(
        "providers: [{provider: a, base_url: 'http://a/v1/chat/completions', model: [m]"
        f"{mine}}}]\n"
        f"api_keys: [{{api: {KEY}}}]\n"
        f"preferences: {{keepalive_interval: {top}}}\n"
    )
    heard = await world.ask()
    beats = [at for at, data in heard.arrivals if data == COMMENT]
    assert beats[0] == first


async def test_a_client_that_leaves_between_comments_ends_the_attempt(
    world: World, autojump_clock: MockClock
) -> None:
    provider = world.provider("a", fault=Fault.HANG)
    world.chain("a", top="preferences: {keepalive_interval: 2s}")
    wire = world.connect()
    await world.send(wire)
    await trio.sleep(5)
    await wire.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert provider.requests[0].disconnected_at == 5


@pytest.mark.parametrize("fault", [Fault.COMMENTS, Fault.EMPTY_DELTAS, Fault.DRIP_HEAD])
async def test_a_slow_drip_is_no_token(
    fault: Fault, world: World, autojump_clock: MockClock
) -> None:
    first = world.provider("a", fault=fault)
    world.provider("b")
    world.chain("a", "b", top="preferences: {model_timeout: {m: 10}}")
    heard = await world.ask()
    assert heard.text() == SIXTY
    assert first.requests[0].disconnected_at == 10
