"""The trail says who was asked, what for, how it went, how long it took, and which limit fired."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.kit.logged import line
from tests.kit.world import World
from uniapi.demo import Behaviour, Fault

LIMITS = "preferences: {model_timeout: {m: {first: 10, idle: 5, total: 20}}, rescue: false}"

TOLD: dict[str, tuple[Behaviour, str]] = {
    "says nothing": (
        Behaviour(fault=Fault.HANG),
        "a/m;first_token_timeout;status=504;limit=first:10;ms=10000, b/m;ok;ms=0",
    ),
    "stalls": (
        Behaviour(fault=Fault.STALL, at=3, gap=1),
        "a/m;idle_timeout;status=504;limit=idle:5;ms=7000",
    ),
    "goes on and on": (
        Behaviour(gap=1),
        "a/m;total_timeout;status=504;limit=total:20;ms=20000",
    ),
    "is cut": (Behaviour(fault=Fault.ABORT, at=3, gap=1), "a/m;cut;status=502;ms=2000"),
    "refuses": (Behaviour(status=400), "a/m;bad_request;status=400;ms=0, b/m;ok;ms=0"),
}


@pytest.mark.parametrize("name", TOLD)
async def test_a_stream_ends_with_its_trail_when_the_first(
    name: str, world: World, autojump_clock: MockClock
) -> None:
    behaviour, told = TOLD[name]
    world.provider("a", behaviour)
    world.provider("b")
    world.chain("a", "b", top=LIMITS)
    with capture_logs() as logs:
        heard = await world.ask()
    blocks = heard.body.split(b"\n\n")
    assert f": uniapi attempts={told}".encode() in blocks[-3:-1]
    done = line(logs)
    assert done["attempts"] == told
    assert b"sk-up" not in heard.body


async def test_a_rescue_and_a_hedge_are_told_of(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", fault=Fault.HANG)
    world.provider("b", fault=Fault.ABORT, at=20, gap=0.1)
    world.provider("c")
    world.chain("a", "b", "c", top="preferences: {hedge: 3s}")
    with capture_logs() as logs:
        heard = await world.ask()
    told = "a/m;cancelled;ms=3000, b/m;cut;hedge;status=502;ms=1900, c/m;ok;rescue;ms=0"
    assert f": uniapi attempts={told}\n\ndata: [DONE]\n\n".encode() in heard.body
    done = line(logs)
    assert (done["attempts"], done["channel"]) == (told, "c/m")
    assert (done["hedged"], done["rescued"], done["outcome"]) == (True, 1, "ok")
    assert (done["ttft_ms"], done["completion_tokens"]) == (3000, 60)
    assert heard.headers["x-uniapi-attempts"] == "a/m;cancelled;ms=3000, b/m;ok;hedge;ms=0"


async def test_a_head_that_goes_before_the_answer_tells_who_is_still_asked(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", ttft=3)
    world.chain("a", top="preferences: {keepalive_interval: 2s}")
    heard = await world.ask()
    assert heard.headers["x-uniapi-attempts"] == "a/m;running;ms=2000"
    assert b": uniapi attempts=a/m;ok;ms=3000\n\n" in heard.body


async def test_what_was_not_rescued_is_no_success(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", fault=Fault.ABORT, at=20)
    world.provider("b", status=400)
    world.chain("a", "b")
    with capture_logs() as logs:
        heard = await world.ask()
    assert b": uniapi attempts=a/m;cut;status=502;ms=0, b/m;bad_request;rescue;" in heard.body
    done = line(logs)
    assert done["outcome"] == "cut"
    assert "rescued" not in done


async def test_another_answer_is_no_success_either(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", fault=Fault.ABORT, at=20)
    world.provider("b", text="A gateway stands aside")
    world.chain("a", "b")
    with capture_logs() as logs:
        heard = await world.ask()
    assert b"b/m;cut;rescue;status=502" in heard.body
    done = line(logs)
    assert done["outcome"] == "cut"
    assert "does not fit" in done["error"]
