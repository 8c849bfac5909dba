"""Anthropic's own SDK: it sends what we send, knows every field of it, and reads what we read.

The last major version with all of `anthropic-version: 2023-06-01`, which the engine speaks: that
of 2026-10-21 has no temperature, and clients of other models send one without thinking.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import anthropic
import httpx
import pydantic
import pytest
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)
from typing_extensions import is_typeddict

from tests.kit.golden import Case, cases, events_of, named
from tests.kit.sdk import canned
from uniapi import codec
from uniapi.config.types import Secret
from uniapi.events import Finish, Reasoning, Text, ToolCall, Usage

# Models end sooner than dialects; the fixtures name those that had something to tell.
pytestmark = pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
FOUND = [case for engine in ("claude", "vertex-claude") for case in cases(engine)]
CALLED = [case for case in FOUND if (case.folder / "call.json").exists() and case.status is None]
STREAMED = [case for case in CALLED if case.stream is not None]
BODIED = [case for case in CALLED if case.body is not None]
# Not in the SDK's types: words of the first-party API's newest models, and of other servers.
UNTYPED = {"claude/another-dialect"}
ENDED = [case for case in CALLED if (case.folder / "answer.json").exists()]
# Answers that are crooked on purpose, which the SDK is not made for: calls cut in the middle of
# their JSON, no reason to stop or the wrong one, no end.
CROOKED = {
    "claude/length-within-a-call",
    "claude/no-stop-reason",
    "claude/tool-ids-missing-or-repeated",
}


@pytest.fixture(scope="module")
def client() -> Iterator[tuple[anthropic.Anthropic, list[httpx.Request], dict[str, bytes]]]:
    """The SDK on a transport of our own: what it sends, and what it shall be answered."""
    transport, seen, says = canned()
    http = httpx.Client(transport=transport)
    with anthropic.Anthropic(api_key="KEY", http_client=http, max_retries=0) as made:
        yield made, seen, says


WHOLE = codec.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
)


def asked(case: Case) -> dict[str, Any]:
    """The body of the case's whole call, as arguments of the SDK."""
    body: Any = codec.loads(case.call(stream=False).body)
    if body.pop("anthropic_version", None):  # Vertex: the address names the model
        body["model"] = case.channel.upstream
    return dict(body)


@named(case for case in CALLED if case.name not in UNTYPED)
def test_the_sdk_sends_the_same_to_the_same_place(client: Any, case: Case) -> None:
    sdk, seen, says = client
    says.clear()
    says["application/json"] = WHOLE
    body = asked(case)
    sdk.messages.create(**body, timeout=60)  # without one it asks long answers to stream
    request = seen.pop()
    assert codec.loads(request.read()) == body
    call = case.call(stream=False)
    if case.name.startswith("claude/") and urlsplit(call.url).netloc == "api.anthropic.com":
        assert call.url == str(request.url)
        ours = dict(call.headers)
        assert ours["anthropic-version"] == request.headers["anthropic-version"]
        if case.recipient.key == Secret("KEY"):
            assert ours["x-api-key"] == request.headers["x-api-key"]


# ---- Every field is one the SDK has a type for --------------------------------------------------


@pytest.fixture(scope="module")
def strict() -> Iterator[dict[bool, pydantic.TypeAdapter[Any]]]:
    """The SDK's types of a request, made to refuse fields they do not have."""
    forbid = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    marked = [
        value
        for name, module in list(sys.modules.items())
        if name.startswith("anthropic.types")
        for value in vars(module).values()
        if is_typeddict(value)
    ]
    for kind in marked:
        kind.__pydantic_config__ = forbid
    yield {
        True: pydantic.TypeAdapter(MessageCreateParamsStreaming),
        False: pydantic.TypeAdapter(MessageCreateParamsNonStreaming),
    }
    for kind in {id(kind): kind for kind in marked}.values():
        del kind.__pydantic_config__


def read(value: Any) -> None:
    """Read it all: pydantic checks an iterable as it is read."""
    match value:
        case str() | bytes():
            pass
        case dict():
            for inner in value.values():
                read(inner)
        case pydantic.BaseModel():  # an answer's own block, sent back
            assert not value.model_extra
        case Iterable():
            for inner in value:
                read(inner)
        case _:
            pass


@named(case for case in CALLED if case.name not in UNTYPED)
def test_every_field_is_in_the_sdk_s_types(strict: Any, case: Case) -> None:
    read(strict[False].validate_python(asked(case)))


@pytest.mark.parametrize("where", ["top", "block", "tool"])
def test_a_field_it_does_not_have_would_be_seen(strict: Any, where: str) -> None:
    body: dict[str, Any] = {
        "model": "m",
        "max_tokens": 1,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    }
    read(strict[False].validate_python(body))
    target = {"top": body, "block": body["messages"][0]["content"][0], "tool": body["tools"][0]}
    target[where]["wish"] = 1
    with pytest.raises((pydantic.ValidationError, AssertionError)):
        read(strict[False].validate_python(body))


# ---- It reads the recorded answers as we do -----------------------------------------------------


def told(case: Case, data: bytes, *, stream: bool) -> dict[str, Any]:
    """What our decoder makes of an answer."""
    events = events_of(case.decode(data, upstream=stream, client=stream))
    calls: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, ToolCall):
            calls.setdefault(event.index, [event.name or "", ""])[1] += event.arguments
    usage = [event for event in events if isinstance(event, Usage)]
    return {
        "text": "".join(event.text for event in events if isinstance(event, Text)),
        "thinking": "".join(event.text for event in events if isinstance(event, Reasoning)),
        "calls": [(name, json.loads(arguments)) for name, arguments in calls.values()],
        "finish": [event.reason for event in events if isinstance(event, Finish)],
        "output": usage[0].completion if usage else None,
    }


FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def heard(message: Any) -> dict[str, Any]:
    """What the SDK made of it."""
    blocks = message.content
    return {
        "text": "".join(block.text for block in blocks if block.type == "text"),
        "thinking": "".join(block.thinking for block in blocks if block.type == "thinking"),
        "calls": [(block.name, block.input) for block in blocks if block.type == "tool_use"],
        "finish": [FINISH[message.stop_reason]],
        "output": message.usage.output_tokens,
    }


@named(case for case in STREAMED if case in ENDED and case.name not in CROOKED)
def test_it_joins_each_recorded_stream_to_what_we_tell(client: Any, case: Case) -> None:
    sdk, seen, says = client
    says.clear()
    says["text/event-stream"] = case.stream or b""
    messages = [{"role": "user", "content": "Hi"}]
    with sdk.messages.stream(model="m", max_tokens=9, messages=messages) as stream:
        message = stream.get_final_message()
    seen.clear()
    assert told(case, case.stream or b"", stream=True) == heard(message)


@named(case for case in BODIED if case in ENDED and case.name not in CROOKED)
def test_it_reads_each_recorded_body_as_we_do(client: Any, case: Case) -> None:
    sdk, seen, says = client
    says.clear()
    says["application/json"] = case.body or b""
    messages = [{"role": "user", "content": "Hi"}]
    message = sdk.messages.create(model="m", max_tokens=9, messages=messages)
    seen.clear()
    assert told(case, case.body or b"", stream=False) == heard(message)
