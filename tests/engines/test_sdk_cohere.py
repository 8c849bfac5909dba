"""Cohere's own SDK: it sends what we send, knows every field of it, and reads what we read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import httpx
import pydantic
import pytest

from tests.kit.golden import Case, cases, events_of, named
from tests.kit.sdk import canned
from uniapi import codec
from uniapi.events import Finish, Reasoning, Text, ToolCall, Usage

cohere: Any = import_module("cohere")  # its types say less than its models
CALLED = [
    case for case in cases("cohere") if (case.folder / "call.json").exists() and not case.status
]
ENDED = [case for case in CALLED if (case.folder / "answer.json").exists()]
STREAMED = [case for case in ENDED if case.stream is not None]
BODIED = [case for case in ENDED if case.body is not None]


@pytest.fixture(scope="module")
def client() -> Iterator[tuple[Any, list[httpx.Request], dict[str, bytes]]]:
    """The SDK on a transport of our own: what it sends, and what it shall be answered."""
    transport, seen, says = canned()
    with httpx.Client(transport=transport) as http:
        yield cohere.ClientV2("KEY", httpx_client=http, max_retries=0), seen, says


WHOLE = b'{"id":"x","finish_reason":"COMPLETE","message":{"role":"assistant","content":[]}}'


def asked(case: Case) -> dict[str, Any]:
    body: Any = codec.loads(case.call(stream=False).body)
    return dict(body)


@named(CALLED)
def test_the_sdk_sends_the_same_to_the_same_place(client: Any, case: Case) -> None:
    sdk, seen, says = client
    says.clear()
    says["application/json"] = WHOLE
    body = asked(case)
    sdk.chat(**{name: value for name, value in body.items() if name != "stream"})
    request = seen.pop()
    assert codec.loads(request.read()) == body
    call = case.call(stream=False)
    assert request.headers["authorization"] == dict(call.headers)["authorization"]
    if "gateway.example.com" not in call.url:
        assert call.url == str(request.url)


ROLES = {
    "user": "UserChatMessageV2",
    "assistant": "AssistantChatMessageV2",
    "system": "SystemChatMessageV2",
    "tool": "ToolChatMessageV2",
}


def known(value: Any) -> None:
    """Whether the SDK has a type for all of it: what it has none for is kept apart."""
    match value:
        case pydantic.BaseModel():
            assert not value.model_extra, value
            for name in type(value).model_fields:
                known(vars(value)[name])
        case list():
            for inner in value:
                known(inner)
        case _:
            pass


@named(CALLED)
def test_every_field_is_in_the_sdk_s_types(case: Case) -> None:
    body = asked(case)
    for message in body["messages"]:
        fields = {name: value for name, value in message.items() if name != "role"}
        known(getattr(cohere, ROLES[message["role"]]).model_validate(fields))
    for tool in body.get("tools", ()):
        known(cohere.ToolV2.model_validate(tool))
    if "thinking" in body:
        known(cohere.Thinking.model_validate(body["thinking"]))


def test_a_field_it_does_not_have_would_be_seen() -> None:
    wrong = {"content": [{"type": "text", "text": "x", "wish": 1}]}
    with pytest.raises((AssertionError, pydantic.ValidationError)):
        known(cohere.UserChatMessageV2.model_validate(wrong))


FINISH = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
}


def told(case: Case, data: bytes, *, stream: bool) -> dict[str, Any]:
    """What our decoder makes of an answer."""
    events = events_of(case.decode(data, upstream=stream, client=stream))
    calls: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, ToolCall):
            call = calls.setdefault(event.index, [event.id or "", event.name or "", ""])
            call[2] += event.arguments
    usage = [event for event in events if isinstance(event, Usage)]
    return {
        "text": "".join(event.text for event in events if isinstance(event, Text)),
        "thought": "".join(event.text for event in events if isinstance(event, Reasoning)),
        "calls": [(*call[:2], json.loads(call[2])) for call in calls.values()],
        "finish": [event.reason for event in events if isinstance(event, Finish)],
        "usage": (usage[0].prompt, usage[0].completion) if usage else None,
    }


def read(text: str | None) -> Any:
    """Arguments: none at all, and `null`, are an empty object."""
    return json.loads(text or "{}") or {}


def counted(usage: Any) -> tuple[int, int] | None:
    """Tokens in and out, or what of them was billed."""
    counts = usage and (usage.tokens or usage.billed_units)
    return (counts.input_tokens, counts.output_tokens) if counts else None


@named(BODIED)
def test_it_reads_each_recorded_body_as_we_do(client: Any, case: Case) -> None:
    sdk, seen, says = client
    says.clear()
    says["application/json"] = case.body or b""
    answer = sdk.chat(model="m", messages=[{"role": "user", "content": "Hi"}])
    seen.clear()
    message = answer.message
    blocks = message.content or []
    assert told(case, case.body or b"", stream=False) == {
        "text": "".join(block.text for block in blocks if block.type == "text"),
        "thought": "".join(block.thinking for block in blocks if block.type == "thinking")
        + (message.tool_plan or ""),
        "calls": [
            (call.id, call.function.name, read(call.function.arguments))
            for call in message.tool_calls or ()
        ],
        "finish": [FINISH[answer.finish_reason]],
        "usage": counted(answer.usage),
    }


@named(STREAMED)
def test_it_reads_each_recorded_stream_as_we_do(client: Any, case: Case) -> None:
    sdk, seen, says = client
    says.clear()
    says["text/event-stream"] = case.stream or b""
    heard: dict[str, Any] = {"text": "", "thought": "", "calls": [], "finish": [], "usage": None}
    calls: list[list[str]] = []
    for event in sdk.chat_stream(model="m", messages=[{"role": "user", "content": "Hi"}]):
        message: Any = event.delta.message if event.type.endswith(("delta", "start")) else None
        match event.type:
            case "content-start" | "content-delta":
                heard["text"] += message.content.text or ""
                heard["thought"] += message.content.thinking or ""
            case "tool-plan-delta":
                heard["thought"] += message.tool_plan
            case "tool-call-start":
                function = message.tool_calls.function
                calls.append([message.tool_calls.id, function.name, function.arguments or ""])
            case "tool-call-delta":
                calls[-1][2] += message.tool_calls.function.arguments
            case "message-end":
                heard["finish"] = [FINISH[event.delta.finish_reason]]
                heard["usage"] = counted(event.delta.usage)
            case _:
                pass
    heard["calls"] = [(*call[:2], read(call[2])) for call in calls]
    seen.clear()
    assert told(case, case.stream or b"", stream=True) == heard
