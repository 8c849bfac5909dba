"""What is asked of an endpoint other than chat goes through, both ways, as it is."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.kit.replies import Asked, Reply, form, refusal, said
from tests.kit.world import World
from uniapi.codec import Json, dumps

VECTORS: Json = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1, -0.2]}],
    "model": "m-0002",
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}
ASKS: dict[str, Json] = {
    "/v1/embeddings": {"input": ["a", "b"], "dimensions": 2, "encoding_format": "float"},
    "/v1/moderations": {"input": "a"},
    "/v1/images/generations": {"prompt": "a cat", "size": "auto", "n": 2, "tomorrow": {"x": 1}},
    "/v1/images/edits": {"prompt": "a cat", "images": [{"image_url": "https://x/y.png"}]},
    "/v1/audio/speech": {"input": "hello", "voice": "alloy", "speed": 1.5},
}


def rename(*hosts: str) -> str:
    """A config whose providers call the model `real`."""
    providers = "".join(
        f"  - {{provider: {host}, base_url: 'http://{host}/v1/chat/completions', api: up-{host},"
        " model: [{real: m}]}\n"
        for host in hosts
    )
    return f"providers:\n{providers}api_keys:\n  - api: sk-client-0000\n"


@pytest.mark.parametrize("path", ASKS)
async def test_nothing_of_a_request_is_lost_or_added_at(
    path: str, world: World, autojump_clock: MockClock
) -> None:
    provider = world.fake("a", {path: said({"anything": 1})})
    world.start(rename("a"))
    asked = ASKS[path]
    assert isinstance(asked, dict)
    kind = {"/v1/audio/speech": "audio/mpeg"}.get(path, "application/json")
    provider.replies = {path: Reply(b'{"anything":1}', kind)}
    heard = await world.post(path, {"model": "m", **asked})
    assert (heard.status, heard.body) == (200, b'{"anything":1}')
    assert heard.headers["content-type"] == kind
    assert provider.requests[0].json() == {"model": "real", **asked}
    assert provider.requests[0].headers["authorization"] == "Bearer up-a"
    assert heard.headers["x-uniapi-attempts"] == "a/real;ok;ms=0"
    assert heard.headers["x-request-id"]
    assert heard.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("path", ["/embeddings", "/v1/embeddings/"])
async def test_paths_work_without_v1_and_with_a_slash(
    path: str, world: World, autojump_clock: MockClock
) -> None:
    world.fake("a", {"/v1/embeddings": said(VECTORS)})
    world.chain("a")
    assert (await world.post(path, {"model": "m", "input": "x"})).json() == VECTORS


async def test_speech_comes_as_it_is_spoken(world: World, autojump_clock: MockClock) -> None:
    pieces = [(1.0, b"\xff\xfb one"), (2.0, b"two"), (9.0, b"three")]
    world.fake("a", {"/v1/audio/speech": Reply(kind="audio/opus", pieces=pieces)})
    world.chain("a")
    heard = await world.post("/v1/audio/speech", {"model": "m", "input": "x", "voice": "v"})
    assert heard.headers["content-type"] == "audio/opus"
    assert heard.arrivals == [(at, data) for at, data in pieces]
    assert heard.ended == "whole"


SRT = "1\r\n00:00:00,000 --> 00:00:02,000\r\nGrüße\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("wanted", "kind", "body"),
    [
        ("text", "text/plain; charset=utf-8", "Grüße\n".encode()),
        ("srt", "text/plain; charset=utf-8", SRT),
        ("vtt", "text/vtt", b"WEBVTT\n\n00:00.000 --> 00:02.000\nx\n"),
        ("json", "application/json", b'{"text":"x"}'),
        ("verbose_json", "application/json", b'{"text":"x","segments":[]}'),
        (None, "application/json", b'{"text":"x","usage":{"type":"duration","seconds":2}}'),
    ],
)
async def test_transcripts_come_in_every_format(
    wanted: str | None, kind: str, body: bytes, world: World, autojump_clock: MockClock
) -> None:
    provider = world.fake("a", {"/v1/audio/transcriptions": Reply(body, kind)})
    world.start(rename("a"))
    sound = bytes(range(256)) * 40
    fields = [("file", sound), ("model", b"m"), ("timestamp_granularities[]", b"word")]
    fields += [("timestamp_granularities[]", b"segment")]
    fields += [("response_format", wanted.encode())] if wanted else []
    sent = form("XyZ", *fields)
    heard = await world.post("/v1/audio/transcriptions", sent, "multipart/form-data; boundary=XyZ")
    assert (heard.status, heard.headers["content-type"], heard.body) == (200, kind, body)
    asked = provider.requests[0]
    assert asked.headers["content-type"] == "multipart/form-data; boundary=XyZ"
    renamed = [(name, b"real" if name == "model" else value) for name, value in fields]
    assert asked.body == form("XyZ", *renamed)


async def test_pictures_to_edit_go_through(world: World, autojump_clock: MockClock) -> None:
    provider = world.fake("a", {"/v1/images/edits": said({"created": 1, "data": []})})
    world.start(rename("a"))
    parts = [("model", b"m"), ("image[]", b"\x89PNG one"), ("image[]", b"two"), ("prompt", b"p")]
    heard = await world.post(
        "/v1/images/edits", form("B", *parts), 'multipart/form-data; boundary="B"'
    )
    assert heard.status == 200
    assert provider.requests[0].body == form("B", ("model", b"real"), *parts[1:])


PARTIAL = b'event: image_generation.partial_image\ndata: {"type":"image_generation.partial_image",'
PARTIAL += b'"b64_json":"AAAA"}\n\n'
LAST = b'event: image_generation.completed\ndata: {"type":"image_generation.completed",'
LAST += b'"b64_json":"BBBB","usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}\n\n'


async def test_partial_pictures_come_as_they_are_painted(
    world: World, autojump_clock: MockClock
) -> None:
    pieces = [(1.0, PARTIAL[:50]), (2.0, PARTIAL[50:] + LAST[:9]), (4.0, LAST[9:])]
    reply = Reply(kind="text/event-stream; charset=utf-8", pieces=pieces)
    provider = world.fake("a", {"/v1/images/generations": reply})
    world.chain("a")
    heard = await world.post(
        "/v1/images/generations", {"model": "m", "prompt": "p", "stream": True}
    )
    assert heard.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert heard.arrivals == [(2.0, PARTIAL), (4.0, LAST)]
    assert heard.ended == "whole"
    asked = provider.requests[0].json()
    assert asked == {"model": "m", "prompt": "p", "stream": True}


async def test_signs_of_life_are_passed_on(world: World, autojump_clock: MockClock) -> None:
    ping = b": still painting\n\n"
    pieces = [(0.0, ping), (1.0, PARTIAL), (5.0, ping), (9.0, LAST)]
    world.fake("a", {"/v1/images/generations": Reply(kind="text/event-stream", pieces=pieces)})
    world.chain("a")
    heard = await world.post(
        "/v1/images/generations", {"model": "m", "prompt": "p", "stream": True}
    )
    assert heard.arrivals == pieces[1:]  # before the first event there is no answer


async def test_a_stream_by_another_name_is_passed_on_as_it_comes(
    world: World, autojump_clock: MockClock
) -> None:
    reply = Reply(kind="application/x-ndjson", pieces=[(1.0, b"[1]\n"), (2.0, b"[2]\n")])
    world.fake("a", {"/v1/images/generations": reply})
    world.chain("a")
    heard = await world.post(
        "/v1/images/generations", {"model": "m", "prompt": "p", "stream": True}
    )
    assert heard.headers["content-type"] == "application/x-ndjson"
    assert heard.arrivals == [(1.0, b"[1]\n"), (2.0, b"[2]\n")]


async def test_json_by_another_name_is_json(world: World, autojump_clock: MockClock) -> None:
    world.fake("a", {"/v1/embeddings": said(VECTORS, kind="text/plain")})
    world.chain("a")
    heard = await world.post("/v1/embeddings", {"model": "m", "input": "x"})
    assert (heard.headers["content-type"], heard.json()) == ("application/json", VECTORS)


@pytest.mark.parametrize("kind", ["", "application/json; charset=utf-8", "application/a+json"])
async def test_the_ways_clients_name_json(
    kind: str, world: World, autojump_clock: MockClock
) -> None:
    world.fake("a", {"/v1/embeddings": said(VECTORS)})
    world.chain("a")
    heard = await world.post("/v1/embeddings", {"model": "m", "input": "x"}, kind)
    assert heard.status == 200


async def test_overrides_reach_the_model_they_name_and_no_other(
    world: World, autojump_clock: MockClock
) -> None:
    provider = world.fake("a", {"/v1/embeddings": said(VECTORS)})
    world.start(
        """
providers:
  - provider: a
    base_url: http://a/v1/chat/completions
    model: [m]
    preferences:
      headers: {x-team: blue}
      post_body_parameter_overrides: {temperature: 0.5, m: {dimensions: 8}}
api_keys:
  - api: sk-client-0000
"""
    )
    await world.post("/v1/embeddings", {"model": "m", "input": "x"})
    assert provider.requests[0].json() == {"model": "m", "input": "x", "dimensions": 8}
    assert provider.requests[0].headers["x-team"] == "blue"


async def test_what_would_steer_the_call_is_left_out(
    world: World, autojump_clock: MockClock
) -> None:
    provider = world.fake(
        "a", {"/v1/embeddings": said(VECTORS), "/v1/audio/transcriptions": said({"text": ""})}
    )
    world.chain("a")
    await world.post("/v1/embeddings", {"model": "m", "input": "x", "api_base": "http://evil"})
    assert provider.requests[0].json() == {"model": "m", "input": "x"}
    evil = form("B", ("model", b"m"), ("api_key", b"k"), ("file", b"s"), ("base_url", b"u"))
    await world.post("/v1/audio/transcriptions", evil, "multipart/form-data; boundary=B")
    assert provider.requests[1].body == form("B", ("model", b"m"), ("file", b"s"))


async def test_connections_to_providers_are_used_again(
    world: World, autojump_clock: MockClock
) -> None:
    world.fake("a", {"/v1/embeddings": said(VECTORS)})
    world.chain("a")
    for _ in range(5):
        await world.post("/v1/embeddings", {"model": "m", "input": "x"})
        await trio.testing.wait_all_tasks_blocked()
    assert world.gateway.client.open_connections == 1


async def test_a_moderation_needs_no_model(world: World, autojump_clock: MockClock) -> None:
    def verdict(asked: Asked) -> Reply:
        return said({"results": [{"flagged": False}], "echo": asked.json()})

    world.fake("a", {"/v1/moderations": verdict})
    world.start(
        """
providers:
  - {provider: a, base_url: 'http://a/v1', model: [text-moderation-latest]}
api_keys:
  - api: sk-client-0000
"""
    )
    heard = await world.post("/v1/moderations", {"input": "x"})
    match heard.json():
        case {"echo": {"model": "text-moderation-latest", "input": "x"}}:
            pass
        case other:
            raise AssertionError(other)


async def test_a_large_answer_goes_through_unread(world: World, autojump_clock: MockClock) -> None:
    body = b'{"data":[{"b64_json":"' + b"A" * 1_000_000 + b'"}],"usage":{"total_tokens":5}}'
    world.fake("a", {"/v1/images/generations": Reply(body)})
    world.chain("a")
    heard = await world.post("/v1/images/generations", {"model": "m", "prompt": "p"})
    assert heard.body == body
    assert heard.headers["content-length"] == str(len(body))


async def test_the_log_tells_what_was_asked_and_counted(
    world: World, autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    world.fake("a", {"/v1/embeddings": said(VECTORS)})
    world.chain("a")
    await world.post("/v1/embeddings", {"model": "m", "input": "x"})
    line = capsys.readouterr().out
    for fact in ("prompt_tokens=8", "upstream_model=m-0002", "path=/v1/embeddings", "a/m;ok"):
        assert fact in line


async def test_nobody_is_asked_by_a_stranger(world: World, autojump_clock: MockClock) -> None:
    provider = world.fake("a", {"/v1/embeddings": refusal(500)})
    world.chain("a")
    heard = await world.post("/v1/embeddings", dumps({"model": "m", "input": "x"}), key="sk-no")
    assert heard.status == 401
    assert provider.requests == []
