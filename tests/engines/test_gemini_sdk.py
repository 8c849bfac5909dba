"""What Google's own SDK would send for the same request: the same body, to the same place."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.kit.golden import Case, cases
from uniapi import codec

genai = pytest.importorskip("google.genai", reason="google-genai is not installed")
CALLED = [
    case
    for engine in ("gemini", "vertex-gemini")
    for case in cases(engine)
    if (case.folder / "call.json").exists() and case.status is None
]
TOP = ("systemInstruction", "tools", "toolConfig", "safetySettings")


def sent(case: Case, body: Any) -> tuple[str, Any]:
    """The path and body of the SDK's request for what `body` says, typed by its own classes."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"candidates": []})

    types = genai.types
    options = types.HttpOptions(
        api_version="v1" if case.provider.project_id else "v1beta",
        httpx_client=httpx.Client(transport=httpx.MockTransport(answer)),
    )
    client = genai.Client(api_key="KEY", http_options=options)
    asked = {**body.get("generationConfig", {}), **{k: v for k, v in body.items() if k in TOP}}
    with client:
        client.models.generate_content(
            model=case.channel.upstream,
            contents=[types.Content.model_validate(turn) for turn in body["contents"]],
            config=types.GenerateContentConfig.model_validate(asked),
        )
    (request,) = seen
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


@pytest.mark.parametrize("case", CALLED, ids=[case.name for case in CALLED])
def test_the_sdk_sends_the_same(case: Case) -> None:
    call = case.call(stream=False)
    body: Any = codec.loads(call.body)
    path, theirs = sent(case, body)
    assert plain(theirs) == plain(body)
    assert urlsplit(call.url).path.rpartition("/")[2] == path.rpartition("/")[2]
