"""What is not a request to an endpoint is said to be none, in OpenAI's error object."""

from __future__ import annotations

import pytest
from trio.testing import MockClock

from tests.kit.replies import form, said
from tests.kit.world import World
from uniapi.codec import Json

FORM = "multipart/form-data; boundary=B"
SOUND = ("file", b"s")

WRONG: list[tuple[str, Json | bytes, str, str]] = [
    ("/v1/embeddings", {"input": "x"}, "model", "application/json"),
    ("/v1/embeddings", {"model": "m"}, "input", "application/json"),
    ("/v1/embeddings", {"model": "m", "input": []}, "input", "application/json"),
    ("/v1/embeddings", {"model": "m", "input": {"a": 1}}, "input", "application/json"),
    ("/v1/moderations", {"model": "m"}, "input", "application/json"),
    ("/v1/moderations", {"model": 5, "input": "x"}, "model", "application/json"),
    ("/v1/images/generations", {"model": "m"}, "prompt", "application/json"),
    ("/v1/images/generations", {"prompt": "p"}, "model", "application/json"),
    (
        "/v1/images/generations",
        {"model": "m", "prompt": "p", "stream": "yes"},
        "stream",
        "application/json",
    ),
    ("/v1/images/edits", {"model": "m"}, "prompt", "application/json"),
    ("/v1/audio/speech", {"model": "m"}, "input", "application/json"),
    ("/v1/audio/speech", {"model": "m", "input": " "}, "input", "application/json"),
    ("/v1/audio/transcriptions", form("B", SOUND), "model", FORM),
    ("/v1/audio/transcriptions", form("B", ("model", b"m")), "file", FORM),
    ("/v1/audio/transcriptions", form("B", ("model", b"m"), ("model", b"n"), SOUND), "model", FORM),
    (
        "/v1/audio/transcriptions",
        form("B", ("model", b"m"), ("model[]", b"n"), SOUND),
        "model",
        FORM,
    ),
    *(
        (
            "/v1/audio/transcriptions",
            form("B", ("model", b"m"), SOUND, (name, b"true"), (name, b"true")),
            name,
            FORM,
        )
        for name in ("stream", "response_format", "prompt")
    ),
    (
        "/v1/audio/transcriptions",
        form("B", ("model", b"m"), SOUND, ("stream", b"maybe")),
        "stream",
        FORM,
    ),
    ("/v1/images/edits", form("B", ("model", b"m"), ("prompt", b"p")), "image", FORM),
    ("/v1/images/edits", form("B", ("model", b"m"), ("image", b"p")), "prompt", FORM),
]


@pytest.mark.parametrize(("path", "body", "param", "kind"), WRONG)
async def test_a_field_that_is_missing_or_wrong_is_named(
    path: str,
    body: Json | bytes,
    param: str,
    kind: str,
    world: World,
    autojump_clock: MockClock,
) -> None:
    provider = world.fake("a", {path: said({})})
    world.chain("a")
    heard = await world.post(path, body, kind)
    assert heard.status == 422
    match heard.json():
        case {"error": {"message": str(), "type": "invalid_request_error", "param": str(named)}}:
            assert named == param
        case other:
            raise AssertionError(other)
    assert provider.requests == []


@pytest.mark.parametrize(
    ("path", "kind", "body", "status"),
    [
        ("/v1/chat/completions", FORM, form("B", SOUND), 415),
        ("/v1/embeddings", FORM, form("B", SOUND), 415),
        ("/v1/audio/speech", FORM, form("B", SOUND), 415),
        ("/v1/audio/transcriptions", "application/json", b"{}", 415),
        ("/v1/audio/transcriptions", "", b"{}", 415),
        ("/v1/images/edits", "image/png", b"x", 415),
        ("/v1/audio/transcriptions", "multipart/form-data", form("B", SOUND), 400),
        ("/v1/audio/transcriptions", FORM, form("C", SOUND), 400),
        ("/v1/audio/transcriptions", FORM, form("B", SOUND)[:-4], 400),
        ("/v1/embeddings", "application/json", b"[1]", 400),
        ("/v1/audio/transcriptions", FORM, b"x" * 2001, 413),
        ("/v1/embeddings", "application/json", b"x" * 2001, 413),
    ],
)
async def test_what_cannot_be_read_is_refused(
    path: str, kind: str, body: bytes, status: int, world: World, autojump_clock: MockClock
) -> None:
    world.fake("a", {})
    world.chain("a", top="preferences: {max_request_body_bytes: 2000}")
    heard = await world.post(path, body, kind)
    assert heard.status == status
    match heard.json():
        case {"error": {"message": str(), "type": "invalid_request_error", "code": str()}}:
            pass
        case other:
            raise AssertionError(other)


async def test_a_model_nobody_has_is_a_404(world: World, autojump_clock: MockClock) -> None:
    world.chain("a")
    heard = await world.post("/v1/embeddings", {"model": "other", "input": "x"})
    assert heard.status == 404
    assert b"model_not_found" in heard.body


async def test_only_post_is_served(world: World, autojump_clock: MockClock) -> None:
    world.chain("a")
    heard = await world.get("/v1/embeddings")
    assert (heard.status, heard.headers["allow"]) == (405, "POST, OPTIONS")
