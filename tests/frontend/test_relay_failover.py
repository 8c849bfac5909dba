"""Endpoints other than chat fail over as chat does, and a cut answer never ends as if whole."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.kit.replies import Reply, form, refusal, said
from tests.kit.world import World
from uniapi.codec import Json, dumps

TEN = "preferences: {model_timeout: {m: 10}}"
GOOD: Json = {"data": [{"embedding": [1.0]}]}
ASK: Json = {"model": "m", "input": "x"}
PATH = "/v1/embeddings"
HALF = dumps(GOOD)[:-4]
SAID: Json = {"error": {"message": "over", "type": "server_error", "code": None, "param": None}}

# Reply of the first, seconds until the second is asked (None: after a jittered retry), how often
# the first is asked.
FAULTS: dict[str, tuple[Reply, float | None, int]] = {
    "answers 500": (refusal(500), None, 2),
    "answers 429": (refusal(429), 0, 1),
    "refuses the key": (refusal(401), 0, 1),
    "knows no such endpoint": (refusal(404), 0, 1),
    "says an error with 200": (said(SAID), 0, 1),
    "says a flat error with 200": (said({"object": "error", "message": "no", "code": 400}), 0, 1),
    "says nothing": (Reply(b""), 0, 1),
    "says blanks": (Reply(b" \n "), 0, 1),
    "sends a web page": (Reply(b"<html>", "text/html; charset=utf-8"), 0, 1),
    "sends half a body": (Reply(HALF), 0, 1),
    "sends half a body by another name": (Reply(HALF, "text/plain"), 0, 1),
    "breaks off": (Reply(HALF, cut=True), None, 2),
    "hangs": (said(GOOD, delay=99), 10, 1),
    "drips blanks": (Reply(pieces=[(at, b" ") for at in range(60)]), 10, 1),
    "stalls in the body": (Reply(pieces=[(3, HALF), (99, b"")]), 13, 1),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_the_second_answers_when_the_first(
    name: str, world: World, autojump_clock: MockClock
) -> None:
    fault, after, asked = FAULTS[name]
    first = world.fake("a", {PATH: fault})
    second = world.fake("b", {PATH: said(GOOD)})
    world.chain("a", "b", top=TEN)
    heard = await world.post(PATH, ASK)
    assert (heard.status, heard.json()) == (200, GOOD)
    assert len(first.requests) == asked
    if after is None:
        assert 0.05 <= second.requests[0].time <= 0.25
    else:
        assert second.requests[0].time == after
    assert heard.headers["x-uniapi-attempts"].endswith("b/m;ok;ms=0")


SPEECH = "/v1/audio/speech"
SAY: Json = {"model": "m", "input": "x", "voice": "v"}
DISGUISED = {
    "an error object": said(SAID),
    "an error object by another name": Reply(dumps(SAID), "text/plain"),
    "an error object without a name": Reply(dumps(SAID), ""),
    "an error object in pieces": Reply(
        kind="text/plain", pieces=[(n, bytes([byte])) for n, byte in enumerate(dumps(SAID))]
    ),
    "an answer in JSON": said({"text": "hello"}),
    "a web page": Reply(b"<html>", "text/html"),
    "no bytes": Reply(b"", "audio/mpeg"),
    "silence": Reply(kind="audio/mpeg", pieces=[(99, b"")]),
}


@pytest.mark.parametrize("name", DISGUISED)
async def test_speech_that_is_no_sound_goes_to_the_next_when_it_is(
    name: str, world: World, autojump_clock: MockClock
) -> None:
    world.fake("a", {SPEECH: DISGUISED[name]})
    world.fake("b", {SPEECH: Reply(b"RIFF", "audio/wav")})
    world.chain("a", "b", top=TEN)
    heard = await world.post(SPEECH, SAY)
    assert (heard.headers["content-type"], heard.body) == ("audio/wav", b"RIFF")


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("audio/pcm", b"{"),
        ("application/octet-stream", b'{"no error": ' + b"x" * 3000),
        ("text/plain", b"Hello"),
    ],
)
async def test_what_only_begins_like_an_error_is_not_held(
    kind: str, first: bytes, world: World, autojump_clock: MockClock
) -> None:
    world.fake("a", {SPEECH: Reply(kind=kind, pieces=[(1, first), (5, b"more")])})
    world.chain("a")
    heard = await world.post(SPEECH, SAY)
    assert heard.arrivals == [(1, first), (5, b"more")]


async def test_a_text_in_braces_is_a_text(world: World, autojump_clock: MockClock) -> None:
    world.fake("a", {SPEECH: Reply(b'{"error": hello}', "text/plain")})
    world.chain("a")
    assert (await world.post(SPEECH, SAY)).body == b'{"error": hello}'


@pytest.mark.parametrize(
    "reply",
    [
        Reply(kind="audio/mpeg", pieces=[(1, b"one"), (2, b"two")], cut=True),
        Reply(kind="audio/mpeg", pieces=[(1, b"one"), (2, b"two"), (40, b"three")]),
    ],
    ids=["breaks off", "stalls"],
)
async def test_sound_that(reply: Reply, world: World, autojump_clock: MockClock) -> None:
    """...gets no end, for it has no word for an error."""
    world.fake("a", {SPEECH: reply})
    world.fake("b", {SPEECH: Reply(b"RIFF", "audio/wav")})
    world.chain("a", "b", top=TEN)
    heard = await world.post(SPEECH, SAY)
    assert (heard.status, heard.body, heard.ended) == (200, b"onetwo", "cut")


IMAGES = "/v1/images/generations"
PAINT: Json = {"model": "m", "prompt": "p", "stream": True}
PARTIAL = b'data: {"type":"image_generation.partial_image","b64_json":"A"}\n\n'
ERROR = b'event: error\ndata: {"type":"error","error":{"message":"over","code":"x"}}\n\n'


def events(*pieces: bytes, cut: bool = False) -> Reply:
    return Reply(kind="text/event-stream", pieces=[(n, p) for n, p in enumerate(pieces)], cut=cut)


async def test_an_error_as_the_first_event_goes_to_the_next(
    world: World, autojump_clock: MockClock
) -> None:
    world.fake("a", {IMAGES: events(b": hello\n\n", ERROR)})
    done = b'data: {"type":"image_generation.completed"}\n\n'
    world.fake("b", {IMAGES: events(done)})
    world.chain("a", "b")
    assert (await world.post(IMAGES, PAINT)).body == done


async def test_an_answer_without_end_goes_to_the_next(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uniapi.upstream.relayer.MAX_BODY", 1000)  # 64 MB take their time
    world.fake("a", {PATH: Reply(pieces=[(at, b"[" * 500) for at in range(60)])})
    second = world.fake("b", {PATH: said(GOOD)})
    world.chain("a", "b")
    assert (await world.post(PATH, ASK)).json() == GOOD
    assert second.requests[0].time == 2


@pytest.mark.parametrize("path", [PATH, SPEECH, IMAGES])
async def test_no_word_of_a_provider_gives_a_key_away(
    path: str, world: World, autojump_clock: MockClock
) -> None:
    error: Json = {"error": {"message": "bad sk-up-a", "code": "sk-up-a", "param": "sk-up-a"}}
    world.fake("a", {path: said(error)})
    world.chain("a")
    heard = await world.post(path, {"model": "m", "input": "x", "prompt": "p"})
    assert heard.status == 502
    assert b"bad [secret]" in heard.body
    assert b"sk-up-a" not in heard.body


@pytest.mark.parametrize(
    "reply",
    [
        events(PARTIAL, ERROR),
        events(PARTIAL, ERROR.strip()),
        events(PARTIAL, PARTIAL[:30], cut=True),
        events(PARTIAL, PARTIAL[:30]),
        events(PARTIAL),
    ],
    ids=[
        "reports an error",
        "ends in an error",
        "breaks off",
        "is cut in an event",
        "is cut between events",
    ],
)
async def test_half_a_stream_ends_in_an_error_when_it(
    reply: Reply, world: World, autojump_clock: MockClock
) -> None:
    world.fake("a", {IMAGES: reply})
    world.chain("a")
    heard = await world.post(IMAGES, PAINT)
    assert heard.ended == "whole"
    assert heard.body.startswith(PARTIAL + b'data: {"error":{"message":"')
    assert heard.body.count(b"\n\n") == 2


async def test_a_stream_in_a_dialect_of_its_own_may_end_as_it_likes(
    world: World, autojump_clock: MockClock
) -> None:
    world.fake("a", {IMAGES: events(b'data: {"frame":1}\r\n\r\n', b'data: {"frame":2}')})
    world.chain("a")
    heard = await world.post(IMAGES, PAINT)
    assert heard.body == b'data: {"frame":1}\r\n\r\ndata: {"frame":2}'


async def test_a_form_is_sent_again_as_it_was(world: World, autojump_clock: MockClock) -> None:
    path = "/v1/audio/transcriptions"
    first = world.fake("a", {path: refusal(503)})
    second = world.fake("b", {path: Reply(b"hello", "text/plain")})
    world.chain("a", "b")
    sent = form("B", ("model", b"m"), ("file", b"\0\r\n--B\xff" * 3), ("response_format", b"srt"))
    sent = sent.replace(b"--B\xff", b"--C\xff")
    heard = await world.post(path, sent, "multipart/form-data; boundary=B")
    assert heard.body == b"hello"
    assert [asked.body for asked in (*first.requests, *second.requests)] == [sent] * 3


async def test_keys_are_changed_and_rest(world: World, autojump_clock: MockClock) -> None:
    provider = world.fake(
        "a",
        {
            PATH: lambda asked: (
                said(GOOD) if asked.headers["authorization"] == "Bearer k2" else refusal(429)
            )
        },
    )
    world.start(
        """
providers:
  - provider: a
    base_url: http://a/v1/chat/completions
    api: [k1, k2]
    model: [m]
    preferences: {api_key_cooldown_period: 60, api_key_schedule_algorithm: fixed_priority}
api_keys:
  - api: sk-client-0000
"""
    )
    for _ in range(2):
        assert (await world.post(PATH, ASK)).json() == GOOD
    shown = [asked.headers["authorization"] for asked in provider.requests]
    assert shown == ["Bearer k1", "Bearer k2", "Bearer k2"]


async def test_a_channel_that_failed_rests_for_chat_too(
    world: World, autojump_clock: MockClock
) -> None:
    first = world.fake("a", {PATH: refusal(500)})
    world.fake("b", {PATH: said(GOOD)})
    world.chain("a", "b")
    for _ in range(3):
        await world.post(PATH, ASK)
    assert len(first.requests) == 2


async def test_when_all_fail_the_most_telling_failure_is_the_answer(
    world: World, autojump_clock: MockClock
) -> None:
    world.fake("a", {PATH: refusal(429, message="slow down sk-up-a")})
    world.chain("a", "b")
    heard = await world.post(PATH, ASK)
    assert heard.status == 429
    match heard.json():
        case {"error": {"message": str(text), "type": "rate_limit_error"}}:
            assert "slow down" in text
            assert "sk-up-a" not in text
        case other:
            raise AssertionError(other)
    assert "a/m;rate_limit;status=429" in heard.headers["x-uniapi-attempts"]


async def test_a_policy_refusal_is_the_answer(world: World, autojump_clock: MockClock) -> None:
    world.fake("a", {IMAGES: refusal(400, "content_policy_violation")})
    second = world.fake("b", {IMAGES: said(GOOD)})
    world.chain("a", "b")
    heard = await world.post(IMAGES, {"model": "m", "prompt": "p"})
    assert heard.status == 400
    assert b"content_policy_violation" in heard.body
    assert second.requests == []


async def test_who_offers_no_such_endpoint_is_passed_over(
    world: World, autojump_clock: MockClock
) -> None:
    first = world.fake("api.anthropic.com", {})
    world.fake("b", {PATH: said(GOOD)})
    world.start(
        """
providers:
  - {provider: c, base_url: 'http://api.anthropic.com/v1/messages', api: k, model: [m]}
  - {provider: b, base_url: 'http://b/v1', model: [m]}
api_keys:
  - {api: sk-client-0000, model: [c/m, b/m]}
  - {api: sk-client-0001, model: [c/m]}
"""
    )
    assert (await world.post(PATH, ASK)).json() == GOOD
    alone = await world.post(PATH, ASK, key="sk-client-0001")
    assert alone.status == 400
    assert b"does not offer /v1/embeddings" in alone.body
    assert first.requests == []


@pytest.mark.parametrize("reply", [said(GOOD, delay=50), Reply(pieces=[(1, b"{"), (50, b"}")])])
async def test_when_the_client_leaves_the_upstream_is_hung_up_on_at_once(
    reply: Reply, world: World, autojump_clock: MockClock
) -> None:
    provider = world.fake("a", {PATH: reply})
    spare = world.fake("b", {PATH: said(GOOD)})
    world.chain("a", "b")
    wire = world.connect()
    await world.put(wire, PATH, ASK, "application/json")
    await trio.sleep(7.25)
    await wire.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert [asked.left_at for asked in provider.requests] == [7.25]
    assert spare.requests == []
    assert world.server.open_connections == 0
    assert world.gateway.client.open_connections == 0
