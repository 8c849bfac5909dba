"""`ENABLE_MODERATION`: nothing is asked of a model before a moderation model let it pass."""

from __future__ import annotations

import textwrap

import pytest
import trio
from trio.testing import MockClock

from tests.kit.replies import Asked, Fake, Reply, form, refusal, said
from tests.kit.world import KEY, World
from uniapi.codec import Json, dumps, loads
from uniapi.config.lint import MODERATION_MODELS
from uniapi.frontend.moderation import MODELS, flagged_in

CHAT = "/v1/chat/completions"
ANSWER: Json = {
    "id": "1",
    "model": "m",
    "choices": [{"index": 0, "message": {"content": "fine"}, "finish_reason": "stop"}],
}
CLEAN: Json = {"results": [{"flagged": False, "categories": {"hate": False}}]}
DIRTY: Json = {"results": [{"flagged": True, "categories": {"hate": True, "self-harm": False}}]}
MESSAGES: Json = [
    {"role": "user", "content": "first"},
    {"role": "assistant", "content": "so?"},
    {"role": "user", "content": [{"type": "text", "text": "last"}, {"type": "image_url"}]},
]


def verdict(asked: Asked) -> Reply:
    """Flags whatever says "bad"."""
    return said(DIRTY if b"bad" in asked.body else CLEAN)


def start(
    world: World, judge: Reply | None = None, models: str = "[omni-moderation-latest]"
) -> tuple[Fake, Fake]:
    """A gateway whose key is moderated by `j` and served by `a`."""
    jury = world.fake("j", {"/v1/moderations": judge or verdict})
    served = world.fake(
        "a",
        {
            CHAT: said(ANSWER),
            "/v1/embeddings": said({"data": []}),
            "/v1/images/generations": said({"data": []}),
            "/v1/images/edits": said({"data": []}),
            "/v1/audio/speech": Reply(b"RIFF", "audio/wav"),
            "/v1/audio/transcriptions": said({"text": "bad"}),
        },
    )
    world.start(
        textwrap.dedent(f"""
        providers:
          - {{provider: j, base_url: 'http://j/v1', model: {models}}}
          - {{provider: a, base_url: 'http://a/v1', model: [m]}}
        api_keys:
          - api: {KEY}
            preferences: {{ENABLE_MODERATION: true, rate_limit: 2/min}}
          - api: sk-free-0000
        """)
    )
    return jury, served


def chat(text: str) -> Json:
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


EDIT = form("B", ("model", b"m"), ("image", b"p"), ("prompt", b"bad"))
ASKS: dict[str, tuple[Json | bytes, str]] = {
    CHAT: (chat("bad"), "messages"),
    "/v1/embeddings": ({"model": "m", "input": ["good", "bad"]}, "input"),
    "/v1/images/generations": ({"model": "m", "prompt": "bad"}, "prompt"),
    "/v1/images/edits": (EDIT, "prompt"),
    "/v1/audio/speech": ({"model": "m", "input": "bad"}, "input"),
}


@pytest.mark.parametrize("path", ASKS)
async def test_what_is_flagged_is_refused_at(
    path: str, world: World, autojump_clock: MockClock
) -> None:
    jury, served = start(world)
    body, param = ASKS[path]
    kind = "multipart/form-data; boundary=B" if isinstance(body, bytes) else "application/json"
    heard = await world.post(path, body, kind)
    assert heard.status == 400
    match heard.json():
        case {"error": {"code": "content_policy_violation", "param": str(at), "message": str(why)}}:
            assert at == param
            assert why.endswith("(hate)")
        case other:
            raise AssertionError(other)
    assert len(jury.requests) == 1
    assert served.requests == []


@pytest.mark.parametrize("path", ASKS)
async def test_what_is_not_flagged_passes_at(
    path: str, world: World, autojump_clock: MockClock
) -> None:
    _, served = start(world)
    body, _ = ASKS[path]
    kind = "multipart/form-data; boundary=B" if isinstance(body, bytes) else "application/json"
    sent = body if isinstance(body, bytes) else dumps(body)
    heard = await world.post(path, sent.replace(b"bad", b"ok."), kind)
    assert heard.status == 200
    assert len(served.requests) == 1


async def test_the_last_user_text_is_what_is_looked_at(
    world: World, autojump_clock: MockClock
) -> None:
    jury, _ = start(world)
    await world.post(CHAT, {"model": "m", "messages": MESSAGES})
    assert jury.requests[0].json() == {"model": "omni-moderation-latest", "input": "last"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/moderations", {"input": "bad"}),
        (CHAT, {"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
        (CHAT, {"model": "m", "messages": [{"role": "user", "content": " \n"}]}),
    ],
)
async def test_no_check_where_there_is_nothing_to_check(
    path: str, body: Json, world: World, autojump_clock: MockClock
) -> None:
    jury, served = start(world)
    assert (await world.post(path, body)).status == 200
    assert len(jury.requests) + len(served.requests) == 1


async def test_sound_is_not_looked_at(world: World, autojump_clock: MockClock) -> None:
    jury, _ = start(world)
    heard = await world.post(
        "/v1/audio/transcriptions",
        form("B", ("model", b"m"), ("file", b"bad")),
        "multipart/form-data; boundary=B",
    )
    assert heard.status == 200
    assert jury.requests == []


async def test_tokens_cannot_be_checked_and_do_not_pass(
    world: World, autojump_clock: MockClock
) -> None:
    _, served = start(world)
    heard = await world.post("/v1/embeddings", {"model": "m", "input": [1, 2, 3]})
    assert heard.status == 400
    assert b"cannot_be_moderated" in heard.body
    assert served.requests == []


async def test_other_keys_are_not_moderated(world: World, autojump_clock: MockClock) -> None:
    jury, _ = start(world)
    assert (await world.post(CHAT, chat("bad"), key="sk-free-0000")).status == 200
    assert jury.requests == []


async def test_the_older_model_does_when_it_is_the_one(
    world: World, autojump_clock: MockClock
) -> None:
    jury, _ = start(world, models="[text-moderation-latest]")
    assert (await world.post(CHAT, chat("bad"))).status == 400
    match jury.requests[0].json():
        case {"model": "text-moderation-latest"}:
            pass
        case other:
            raise AssertionError(other)


async def test_without_a_moderation_model_nothing_passes(
    world: World, autojump_clock: MockClock
) -> None:
    _, served = start(world, models="[whatever]")
    heard = await world.post(CHAT, chat("good"))
    assert heard.status == 403
    for said_in in (b"moderation_not_configured", b"ENABLE_MODERATION", *map(str.encode, MODELS)):
        assert said_in in heard.body
    assert served.requests == []


@pytest.mark.parametrize(
    "judge",
    [
        refusal(500),
        refusal(401),
        refusal(400, "content_policy_violation"),
        said({"results": []}),
        said({"results": [{"flagged": "no"}]}),
        said({"results": [{"flagged": False}, {}]}),
        Reply(b"fine"),
        Reply(b"", "text/html"),
    ],
)
async def test_without_a_verdict_nothing_passes(
    judge: Reply, world: World, autojump_clock: MockClock
) -> None:
    _, served = start(world, judge)
    heard = await world.post(CHAT, chat("good"))
    assert heard.status == 503
    assert b"moderation_failed" in heard.body
    assert b"ENABLE_MODERATION" in heard.body
    assert served.requests == []


async def test_a_verdict_has_ten_seconds(world: World, autojump_clock: MockClock) -> None:
    jury, served = start(world, said(CLEAN, delay=60))
    heard = await world.post(CHAT, chat("good"))
    assert (heard.status, heard.head_at) == (503, 10)
    assert b"no verdict within 10 s" in heard.body
    assert jury.requests[0].left_at == 10
    assert served.requests == []


async def test_a_flagged_prompt_cools_nobody_and_counts_once(
    world: World, autojump_clock: MockClock
) -> None:
    jury, served = start(world)
    for text in ("bad", "good"):  # as many as the key may ask in a minute
        await world.post(CHAT, chat(text))
    assert len(jury.requests) == 2
    assert len(served.requests) == 1
    assert (await world.post(CHAT, chat("good"))).status == 429
    assert len(jury.requests) == 2
    autojump_clock.jump(60)
    assert (await world.post(CHAT, chat("good"))).status == 200


async def test_when_the_client_leaves_during_the_check_nothing_goes_on(
    world: World, autojump_clock: MockClock
) -> None:
    jury, served = start(world, said(CLEAN, delay=5))
    wire = world.connect()
    await world.put(wire, CHAT, chat("good"), "application/json")
    await trio.sleep(2)
    await wire.stream.aclose()
    await trio.sleep(30)
    assert jury.requests[0].left_at == 2
    assert served.requests == []


async def test_the_check_fails_over_like_any_request(
    world: World, autojump_clock: MockClock
) -> None:
    world.fake("j", {"/v1/moderations": refusal(429)})
    second = world.fake("k", {"/v1/moderations": verdict})
    world.fake("a", {CHAT: said(ANSWER)})
    world.start(
        f"""
providers:
  - {{provider: j, base_url: 'http://j/v1', model: [omni-moderation-latest]}}
  - {{provider: k, base_url: 'http://k/v1', model: [omni-moderation-latest]}}
  - {{provider: a, base_url: 'http://a/v1', model: [m]}}
api_keys:
  - {{api: {KEY}, preferences: {{ENABLE_MODERATION: true}}}}
"""
    )
    heard = await world.post(CHAT, chat("good"))
    assert heard.status == 200
    assert heard.headers["x-uniapi-attempts"].startswith("a/m;ok")
    assert len(second.requests) == 1


async def test_the_log_says_what_the_check_said(
    world: World, autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    start(world)
    await world.post(CHAT, chat("good"))
    await world.post(CHAT, chat("bad"))
    passed, flagged = capsys.readouterr().out.strip().splitlines()
    assert "moderation=passed" in passed
    assert "moderation=flagged" in flagged
    assert "j/omni-moderation-latest;ok" in passed


def test_every_category_that_was_hit_is_named() -> None:
    results: list[Json] = [
        {"flagged": True, "categories": {"a": True, "b": False}},
        {"flagged": False},
        {"flagged": True, "categories": {"c": True, "a": True}},
    ]
    assert flagged_in({"results": results}) == "a, c"
    assert flagged_in({"results": [{"flagged": True}]}) == ""
    assert flagged_in(loads(b'{"results":[{"flagged":false}]}')) is None


def test_the_check_before_start_asks_for_the_same_models() -> None:
    assert MODELS == MODERATION_MODELS
