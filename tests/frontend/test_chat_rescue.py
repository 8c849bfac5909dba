"""A stream that dies in mid-answer is carried on by the next channel, and nobody sees the seam."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.kit.wire import Heard
from tests.kit.world import World
from uniapi.codec import Json, loads
from uniapi.demo import SIXTY, Behaviour, Fault, Prefill
from uniapi.demo.behaviour import error_body
from uniapi.events import Usage
from uniapi.frontend.answering import total
from uniapi.upstream import resume

WORDS = SIXTY.split()
DEATHS = {
    "is cut": Behaviour(fault=Fault.CUT, at=20, gap=1),
    "breaks off": Behaviour(fault=Fault.ABORT, at=20, gap=1),
    "stalls": Behaviour(fault=Fault.STALL, at=20, gap=1),
    "reports an error": Behaviour(fault=Fault.ERROR_EVENT, at=20, gap=1),
    "sends broken JSON": Behaviour(fault=Fault.BROKEN_JSON, at=21, gap=1),
}
THIRTY = "preferences: {model_timeout: {m: 30}}"


def after(count: int) -> str:
    """What is left of the text after so many words."""
    return SIXTY[len(" ".join(WORDS[:count])) :]


def values(heard: Heard, name: str) -> list[Json]:
    """A field of every chunk."""
    chunks = [loads(event) for event in heard.events() if event != b"[DONE]"]
    return [chunk.get(name) for chunk in chunks if isinstance(chunk, dict)]


def whole(heard: Heard) -> bool:
    """Whether it is one answer as a strict client wants it: one id, role, reason and end."""
    deltas = [delta for delta in heard.deltas() if "role" in delta or delta.get("content") == ""]
    reasons = [
        choice["finish_reason"]
        for choices in values(heard, "choices")
        for choice in (choices if isinstance(choices, list) else [])
        if isinstance(choice, dict) and choice["finish_reason"]
    ]
    return (
        heard.text() == SIXTY
        and heard.events()[-1] == b"[DONE]"
        and len(deltas) == 1
        and reasons == ["stop"]
        and len(set(map(str, values(heard, "id")))) == 1
        and len(set(map(str, values(heard, "model")))) == 1
    )


@pytest.mark.parametrize("name", DEATHS)
async def test_the_answer_is_whole_when_the_first(
    name: str, world: World, autojump_clock: MockClock
) -> None:
    first = world.provider("a", replace(DEATHS[name], model="model-a"))
    second = world.provider("b", model="model-b")
    world.chain("a", "b", top=THIRTY)
    heard = await world.ask()
    assert whole(heard)
    assert values(heard, "model")[0] == "model-a"
    assert len(first.requests) == len(second.requests) == 1


@pytest.mark.parametrize(
    "second",
    [
        Behaviour(),  # starts over
        Behaviour(text=after(20)),  # goes on
        Behaviour(text=" ".join(WORDS[15:])),  # repeats the tail, as it was asked to
    ],
    ids=["starts over", "goes on", "repeats the tail"],
)
@pytest.mark.parametrize("crlf", [False, True])
async def test_the_answer_is_whole_when_the_second(
    second: Behaviour, crlf: bool, world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.ABORT, at=20)
    world.provider("b", replace(second, crlf=crlf))
    world.chain("a", "b")
    assert whole(await world.ask())


async def test_the_second_is_asked_with_what_was_said_and_no_prefill(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.ABORT, at=5)
    second = world.provider("b", prefill=Prefill.REFUSE)
    world.chain("a", "b")
    assert whole(await world.ask(temperature=0.5))
    body = second.requests[0].body
    assert isinstance(body, dict)
    assert body["temperature"] == 0.5
    assert body["messages"] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": " ".join(WORDS[:5])},
        {"role": "user", "content": resume.ASK},
    ]


async def test_a_refusal_of_the_second_is_never_shown(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.ABORT, at=5)
    world.provider("b", status=400, error=error_body("no prefill", type="invalid_request_error"))
    world.chain("a", "b")
    heard = await world.ask()
    assert heard.status == 200
    assert b"no prefill" not in heard.body
    assert heard.text() == " ".join(WORDS[:5])
    assert b"[DONE]" not in heard.body
    match loads(heard.events()[-1]):
        case {"error": {"code": "connection_reset"}}:
            pass
        case other:
            raise AssertionError(other)


async def test_one_rescue_may_follow_another(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", fault=Fault.ABORT, at=20)
    world.provider("b", fault=Fault.ABORT, at=10)  # starts over, and dies before it says news
    world.provider("c", fault=Fault.STALL, at=40, gap=1)
    world.provider("d", text=after(40))
    world.chain("a", "b", "c", "d", top=THIRTY)
    heard = await world.ask()
    assert whole(heard)
    assert heard.body.count(b";rescue;") == 3


async def test_the_tokens_of_both_parts_are_told(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", fault=Fault.ABORT, at=20)
    world.provider("b", text=after(20))
    world.chain("a", "b")
    heard = await world.ask(stream_options={"include_usage": True})
    usages = [usage for usage in values(heard, "usage") if usage]
    assert usages == [{"prompt_tokens": 7, "completion_tokens": 40, "total_tokens": 47}]


async def test_another_answer_is_not_passed_off_as_the_rest(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.ABORT, at=20)
    second = world.provider("b", text="A gateway stands between me and my bed", gap=1)
    third = world.provider("c")
    world.chain("a", "b", "c", top="preferences: {cooldown_period: 60}")
    heard = await world.ask()
    assert heard.text() == " ".join(WORDS[:20])
    assert b"[DONE]" not in heard.body
    assert b"does not fit" in heard.events()[-1]
    assert second.requests[0].closed_at == 4  # at "me": what is not wanted is not paid for
    assert third.requests == []
    assert (await world.ask()).text() != SIXTY  # b is well: it was asked again, and a was not
    assert len(second.requests) == 2


async def test_the_channel_that_died_cools(world: World, autojump_clock: MockClock) -> None:
    first = world.provider("a", fault=Fault.ABORT, at=20)
    world.provider("b")
    world.chain("a", "b", top="preferences: {cooldown_period: 60, rescue: false}")
    await world.ask()
    assert (await world.ask()).text() == SIXTY
    assert len(first.requests) == 1
    autojump_clock.jump(61)
    await world.ask()
    assert len(first.requests) == 2


NOT: dict[str, dict[str, Json]] = {
    "tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    "a format": {"response_format": {"type": "json_object"}},
    "two answers": {"n": 2},
    "log probabilities": {"logprobs": True},
    "a beginning": {
        "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Well"},
        ]
    },
}


@pytest.mark.parametrize("name", NOT)
async def test_nothing_is_rescued_for_a_request_with(
    name: str, world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.ABORT, at=20)
    second = world.provider("b")
    world.chain("a", "b")
    heard = await world.ask(**NOT[name])  # type: ignore[arg-type] # fields of the request
    assert SIXTY.startswith(heard.text())
    assert b"[DONE]" not in heard.body
    assert b'"error"' in heard.events()[-1]
    assert second.requests == []


async def test_thoughts_that_were_shown_cannot_be_gone_on_with(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.ABORT, at=20, reasoning="Hm well then")
    second = world.provider("b")
    world.chain("a", "b")
    heard = await world.ask()
    assert b"[DONE]" not in heard.body
    assert second.requests == []


async def test_the_seconds_thoughts_are_its_own(world: World, autojump_clock: MockClock) -> None:
    world.provider("a", fault=Fault.ABORT, at=20)
    world.provider("b", reasoning="The user wants me to go on", text=after(20))
    world.chain("a", "b")
    heard = await world.ask()
    assert whole(heard)
    assert b"reasoning_content" not in heard.body


@pytest.mark.parametrize(
    ("top", "key", "rescued"),
    [
        ("preferences: {rescue: false}", "", False),
        ("preferences: {rescue: false}", "preferences: {rescue: true}\n", True),
        ("", "preferences: {rescue: false}\n", False),
        ("", "preferences: {AUTO_RETRY: false}\n", False),
        ("", "preferences: {AUTO_RETRY: 1}\n", True),
    ],
)
async def test_it_can_be_switched_off(
    top: str, key: str, rescued: bool, world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.ABORT, at=20)
    world.provider("b")
    world.chain("a", "b", top=top, key=key)
    assert whole(await world.ask()) is rescued


async def test_a_client_that_leaves_during_a_rescue_ends_it(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", fault=Fault.ABORT, at=20)
    second = world.provider("b", gap=1)  # starts over: for twenty seconds the client hears nothing
    world.chain("a", "b")
    wire = world.connect()
    await world.send(wire)
    await trio.sleep(9.5)
    await wire.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert second.requests[0].disconnected_at == 9.5
    assert world.gateway.client.open_connections == 0


async def test_a_long_answer_is_not_kept(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uniapi.frontend.answering.MOST", 50)
    world.provider("a", fault=Fault.ABORT, at=20)
    second = world.provider("b")
    world.chain("a", "b")
    assert not whole(await world.ask())
    assert second.requests == []


async def test_an_answer_that_has_its_end_is_whole_whatever_comes_after(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider(
        "a", fault=Fault.BROKEN_JSON, at=63, gap=1
    )  # role, sixty tokens, the finish, then this
    second = world.provider("b")
    world.chain("a", "b")
    assert whole(await world.ask())
    assert second.requests == []


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 60),  # the first word and an error in one read are nothing sent yet
    st.integers(0, 59),
    st.sampled_from(["over", "on", "tail"]),
    st.sampled_from([Fault.CUT, Fault.ABORT, Fault.STALL, Fault.ERROR_EVENT]),
)
def test_wherever_it_dies_and_however_it_is_carried_on(
    at: int, back: int, how: str, fault: Fault
) -> None:
    texts = {"over": SIXTY, "on": after(at), "tail": " ".join(WORDS[max(0, at - 3 - back) :])}
    if at == 60 and how == "on":
        return  # nothing is left to say

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            world = World(nursery)
            world.provider("a", fault=fault, at=at, gap=0.1)
            world.provider("b", text=texts[how])
            world.chain("a", "b", top=THIRTY)
            assert whole(await world.ask())
            nursery.cancel_scope.cancel()

    trio.run(run, clock=MockClock(autojump_threshold=0))


def test_usage_adds_up() -> None:
    first = Usage(10, 20, 30, {"prompt_tokens": 10, "total_tokens": 30})
    second = Usage(35, 5, 40, {"prompt_tokens": 35, "total_tokens": 40, "cost": 1})
    assert total([second]) == second
    assert total([first, second]) == Usage(
        45, 25, 70, {"prompt_tokens": 45, "completion_tokens": 25, "total_tokens": 70, "cost": 1}
    )
