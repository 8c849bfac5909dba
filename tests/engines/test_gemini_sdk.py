"""What Google's own SDK would send for the same request: the same body, to the same place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.kit.golden import Case, cases, named
from uniapi import codec
from uniapi.framing import framer

genai = pytest.importorskip("google.genai", reason="google-genai is not installed")
CALLED = [
    case
    for engine in ("gemini", "vertex-gemini")
    for case in cases(engine)
    if (case.folder / "call.json").exists() and case.status is None
]
TOP = ("systemInstruction", "tools", "toolConfig", "safetySettings")


Clients = Callable[[str], tuple[Any, list[httpx.Request]]]


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    """The SDK for a version of the API, made once, and what it has sent."""
    with ExitStack() as stack:

        @cache
        def made(version: str) -> tuple[Any, list[httpx.Request]]:
            seen: list[httpx.Request] = []

            def answer(request: httpx.Request) -> httpx.Response:
                seen.append(request)
                return httpx.Response(200, json={"candidates": []})

            options = genai.types.HttpOptions(
                api_version=version,
                httpx_client=httpx.Client(transport=httpx.MockTransport(answer)),
            )
            client = stack.enter_context(genai.Client(api_key="KEY", http_options=options))
            return client, seen

        yield made


def sent(clients: Clients, case: Case, body: Any) -> tuple[str, Any]:
    """The path and body of the SDK's request for what `body` says, typed by its own classes."""
    types = genai.types
    client, seen = clients("v1" if case.provider.project_id else "v1beta")
    asked = {**body.get("generationConfig", {}), **{k: v for k, v in body.items() if k in TOP}}
    client.models.generate_content(
        model=case.channel.upstream,
        contents=[types.Content.model_validate(turn) for turn in body["contents"]],
        config=types.GenerateContentConfig.model_validate(asked),
    )
    request = seen.pop()
    return request.url.path, codec.loads(request.read())


def plain(value: Any) -> Any:
    """Without what is spelling only: Google takes both cases of names, and the SDK mixes them."""
    match value:
        case dict():
            return {
                name.replace("_", "").lower(): plain(child)
                for name, child in value.items()
                # The SDK writes an empty config, and the order of properties, without being asked.
                if name != "property_ordering" and (name, child) != ("generationConfig", {})
            }
        case list():
            return [plain(child) for child in value]
        case str():
            return value.lower().replace("-", "+").replace("_", "/")  # base64's two alphabets
        case _:
            return value


@named(CALLED)
def test_the_sdk_sends_the_same(clients: Clients, case: Case) -> None:
    call = case.call(stream=False)
    body: Any = codec.loads(call.body)
    path, theirs = sent(clients, case, body)
    assert plain(theirs) == plain(body)
    assert urlsplit(call.url).path.rpartition("/")[2] == path.rpartition("/")[2]


# Recorded as they came, and not as documented: an error in an array, an enum's number, `[DONE]`.
CROOKED = {"gemini/error-200", "gemini/json-object", "gemini/proxy"}
READ = [
    case
    for case in CALLED
    if (case.body is not None or case.stream is not None) and case.name not in CROOKED
]


@named(READ)
def test_every_recorded_answer_is_of_the_sdk_s_types(case: Case) -> None:
    """The SDK's classes refuse fields and words they do not have."""
    frames = [case.body] if case.body is not None else []
    if case.stream is not None:
        frames += framer("sse").feed(case.stream)
    for frame in frames:
        answer: Any = codec.loads(frame)
        if "error" not in answer:
            genai.types.GenerateContentResponse.model_validate(answer)
