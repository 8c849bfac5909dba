"""Claude's engine beyond its recorded traffic: addresses, keys, listings, laws of its bodies."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.histories import calls, histories, result
from uniapi import codec
from uniapi.chat import ChatRequest
from uniapi.codec import Json
from uniapi.config.types import Channel, ModelName, Provider, Secret
from uniapi.engines.anthropic import Anthropic
from uniapi.engines.anthropic_decoder import AnthropicDecoder
from uniapi.engines.anthropic_models import UNKNOWN, family
from uniapi.engines.anthropic_schema import closed
from uniapi.engines.base import Media, Recipient
from uniapi.engines.registry import engine_for
from uniapi.errors import ApiError
from uniapi.events import Start, StreamFailed

ENGINE = Anthropic()


def ask(*messages: Json, model: str = "claude-sonnet-4-5", **fields: Json) -> ChatRequest:
    whole: dict[str, Json] = {"model": model, "messages": list(messages), **fields}
    return ChatRequest(model, whole)


def to(base_url: str | None = "https://api.anthropic.com/v1/messages", **more: Any) -> Recipient:
    provider = Provider("p", base_url, keys=(Secret("KEY"),), models=(ModelName("m", "m"),))
    return Recipient(Channel(provider, "claude-sonnet-4-5", "m"), Secret("KEY"), **more)


def sent(chat: ChatRequest, recipient: Recipient | None = None) -> dict[str, Any]:
    body = codec.loads(ENGINE.encode(chat, recipient or to()).body)
    assert isinstance(body, dict)
    return body


# Where Claude is.


@pytest.mark.parametrize(
    ("base_url", "messages"),
    [
        (None, "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1/", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1/messages", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1/chat/completions", "https://api.anthropic.com/v1/messages"),
        ("https://api.deepseek.com/anthropic", "https://api.deepseek.com/anthropic/v1/messages"),
        ("https://p.example/claude/v1/messages?v=2", "https://p.example/claude/v1/messages?v=2"),
    ],
)
def test_messages_are_found_from_any_address(base_url: str | None, messages: str) -> None:
    assert ENGINE.encode(ask({"role": "user", "content": "hi"}), to(base_url)).url == messages


def test_the_listing_is_beside_the_messages() -> None:
    call = ENGINE.catalogue(to())
    assert call is not None
    assert (call.method, call.url) == ("GET", "https://api.anthropic.com/v1/models?limit=1000")
    assert ("x-api-key", "KEY") in call.headers


def test_a_listing_is_read_and_anything_else_is_none() -> None:
    listing = b'{"data":[{"type":"model","id":"claude-a"},{"id":"claude-b"},{"id":"claude-a"}]}'
    assert ENGINE.models(listing) == ("claude-a", "claude-b")
    for wrong in (b"[]", b"{}", b"<html>"):
        with pytest.raises(ValueError, match=r"."):
            ENGINE.models(wrong)


@pytest.mark.parametrize(
    ("base_url", "claimed"),
    [
        ("https://api.anthropic.com/v1/messages", True),
        ("https://api.anthropic.com", True),
        ("https://gateway.example/x/anthropic/v1/messages", True),
        ("https://api.moonshot.ai/anthropic", True),
        ("https://api.openai.com/v1/chat/completions", False),
        ("https://openrouter.ai/api/v1/chat/completions", False),
        ("https://gateway.example/anthropic/v1/chat/completions", False),
    ],
)
def test_it_claims_by_host_and_path_and_nobody_else_does(base_url: str, claimed: bool) -> None:
    winner = engine_for(Provider("p", base_url), "claude-sonnet-4-5")
    assert isinstance(winner, Anthropic) is claimed


def test_no_key_sends_none_and_the_model_never_decides() -> None:
    recipient = Recipient(Channel(Provider("p", "https://c.example/v1/messages"), "gpt-4o", "m"))
    call = ENGINE.encode(ask({"role": "user", "content": "hi"}), recipient)
    assert not {"x-api-key", "authorization"} & {name for name, _ in call.headers}


def test_plain_http_pictures_are_asked_for_and_come_inline() -> None:
    picture: Json = {"type": "image_url", "image_url": {"url": "http://a.example/p.png"}}
    direct: Json = {"type": "image_url", "image_url": {"url": "https://a.example/p.png"}}
    chat = ask({"role": "user", "content": [picture, direct, picture]})
    assert ENGINE.needs(chat, to().channel) == ("http://a.example/p.png",)
    media = {"http://a.example/p.png": Media("image/png", b"png")}
    blocks = sent(chat, to(media=media))["messages"][0]["content"]
    assert [block["source"]["type"] for block in blocks] == ["base64", "url", "base64"]


# Families.


@pytest.mark.parametrize(
    ("model", "thinks", "cap", "samples"),
    [
        ("claude-2.1", "never", 4096, True),
        ("claude-3-opus-20240229", "never", 4096, True),
        ("claude-3-5-haiku-latest", "never", 8192, True),
        ("claude-3.7-sonnet", "by_budget", 64_000, True),
        ("anthropic.claude-sonnet-4-20250514-v1:0", "by_budget", 64_000, True),
        ("claude-opus-4-0", "by_budget", 32_000, True),
        ("claude-opus-4-1@20250805", "by_budget", 32_000, True),
        ("claude-opus-4-5-20251101", "by_budget", 64_000, True),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "by_budget", 64_000, True),
        ("claude-opus-4-6", "either", 128_000, True),
        ("claude-opus-4.7", "adaptively", 128_000, False),
        ("claude-sonnet-5", "adaptively", 128_000, False),
        ("claude-opus-5-20260724", "adaptively", 128_000, False),
    ],
)
def test_a_family_is_told_from_any_spelling_of_the_name(
    model: str, thinks: str, cap: int, samples: bool
) -> None:
    found = family(model)
    assert (found.thinks, found.cap, found.samples) == (thinks, cap, samples)


def test_a_stranger_gets_the_oldest_form() -> None:
    assert family("deepseek-chat") == UNKNOWN
    assert family("claude-next") == UNKNOWN


_efforts = st.sampled_from([None, "none", "minimal", "low", "medium", "high", "xhigh"])
_models = st.sampled_from(
    ["claude-3-haiku", "claude-3-7-sonnet", "claude-opus-4-1", "claude-sonnet-4-6", "claude-opus-5"]
)


@given(
    _models,
    _efforts,
    st.none() | st.integers(0, 200_000),
    st.none() | st.integers(1, 300_000),
    st.sampled_from([None, "auto", "required"]),
)
def test_thinking_always_fits_its_limit_and_its_family(
    model: str, effort: str | None, budget: int | None, limit: int | None, choice: str | None
) -> None:
    tool: Json = {"type": "function", "function": {"name": "f"}}
    chat = ask(
        {"role": "user", "content": "hi"},
        tools=[tool],
        tool_choice=choice,
        reasoning_effort=effort,
        thinking=None if budget is None else {"type": "enabled", "budget_tokens": budget},
        max_tokens=limit,
        temperature=0.3,
        top_p=0.5,
        top_k=7,
    )
    provider = Provider("p", "https://api.anthropic.com")
    call = ENGINE.encode(chat, Recipient(Channel(provider, model, "m")))
    body: Any = codec.loads(call.body)
    rules = family(model)
    assert rules.cap is not None
    assert 1 <= body["max_tokens"] <= rules.cap
    match body.get("thinking"):
        case {"type": "enabled", "budget_tokens": int(tokens)}:
            assert 1024 <= tokens < body["max_tokens"]
            assert rules.thinks in {"by_budget", "either"}
            assert choice != "required"
        case {"type": "adaptive"}:
            assert rules.thinks in {"either", "adaptively"}
        case other:
            assert other is None
    if body.get("thinking"):
        assert not {"temperature", "top_k", "top_p"} & body.keys()
    dropped = {"temperature", "top_p", "top_k"} - body.keys()
    assert dropped <= set(call.notes)


# Bodies.


@given(histories())
def test_any_history_becomes_turns_claude_accepts(messages: list[Json]) -> None:
    try:
        turns = sent(ask(*messages))["messages"]
    except ApiError as error:
        assert error.param == "messages"  # noqa: PT017 - only a history that says nothing
        return
    assert all(a["role"] != b["role"] for a, b in pairwise(turns))
    used: list[str] = []
    for turn, after in pairwise([*turns, {"content": []}]):
        assert turn["content"]
        texts = [block["text"] for block in turn["content"] if block["type"] == "text"]
        assert all(text.strip() for text in texts)
        uses = [block["id"] for block in turn["content"] if block["type"] == "tool_use"]
        answers = [block.get("tool_use_id") for block in after["content"][: len(uses)]]
        assert answers == uses
        used += uses
    assert len(set(used)) == len(used)
    if turns[-1]["role"] == "assistant":
        last = turns[-1]["content"][-1]["text"]
        assert last == last.rstrip()


def test_ids_that_repeat_or_are_illegal_are_made_unique_and_stay_paired() -> None:
    body = sent(
        ask(
            calls("call:0", "call.0"),
            result("call:0", "a"),
            result("call.0", "b"),
            calls("call:0", ""),
            result("call:0", "c"),
            result("", "d"),
        )
    )
    blocks = [block for turn in body["messages"] for block in turn["content"]]
    ids = [block["id"] for block in blocks if block["type"] == "tool_use"]
    assert ids == ["call_0", "call_0_2", "call_0_3", "call"]
    results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
    assert results == ids


def test_the_request_is_not_changed_by_its_call() -> None:
    hint: Json = {"type": "ephemeral"}
    parts: list[Json] = [{"type": "text", "text": f"{n}", "cache_control": hint} for n in range(6)]
    chat = ask(
        {"role": "user", "content": parts},
        tools=[
            {"type": "web_search_20250305", "name": "web_search", "cache_control": hint},
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},
        ],
    )
    before = codec.dumps(dict(chat.fields))
    first, second = ENGINE.encode(chat, to()), ENGINE.encode(chat, to())
    assert codec.dumps(dict(chat.fields)) == before
    assert first == second
    assert first.body.count(b"cache_control") == 4


_names = st.sampled_from(["a", "b", "type", "$ref", "properties"])
_schemas: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(
        [{"type": "string"}, {"type": "integer", "minimum": 1}, {"const": 1}, {}, True, None]
    ),
    lambda inner: (
        st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(_names, inner, max_size=2)},
            optional={"additionalProperties": st.booleans(), "minProperties": st.integers()},
        )
        | st.fixed_dictionaries({"type": st.just("array"), "items": inner})
        | st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=2)})
    ),
    max_leaves=6,
)
_KNOWN = {"type", "const", "properties", "additionalProperties", "items", "anyOf", "description"}


@given(_schemas)
def test_a_schema_is_closed_everywhere_or_not_at_all(schema: Any) -> None:
    made = closed(schema) if isinstance(schema, dict) else None
    if made is not None:
        _check_closed(made)


def _check_closed(schema: Any) -> None:
    assert schema.keys() <= _KNOWN
    if schema.get("type") == "object":
        assert schema["additionalProperties"] is False
    for inner in schema.get("properties", {}).values():
        _check_closed(inner)
    for inner in schema.get("anyOf", []):
        _check_closed(inner)
    if "items" in schema:
        _check_closed(schema["items"])


# Answers.

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_events = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
                "ping",
                "error",
                "message",
            ]
        )
    },
    optional={
        "index": st.integers(0, 2) | _json,
        "message": _json,
        "content_block": _json
        | st.fixed_dictionaries(
            {"type": st.sampled_from(["text", "tool_use", "thinking", "other"])},
            optional={"text": _json, "id": _json, "name": _json, "input": _json},
        ),
        "delta": _json
        | st.fixed_dictionaries(
            {"type": st.sampled_from(["text_delta", "input_json_delta", "citations_delta"])},
            optional={
                "text": _json,
                "partial_json": _json,
                "citation": _json,
                "stop_reason": _json,
            },
        ),
        "usage": _json,
        "content": _json,
        "error": _json,
    },
)


@given(st.lists(_events | _json, max_size=8))
def test_any_frames_end_in_an_answer_or_a_failure(values: list[Json]) -> None:
    decoder = AnthropicDecoder("sse", Start("id", "model", 1))
    events = [*decoder.feed([codec.dumps(value) for value in values]).events]
    events += decoder.end().events
    failures = [event for event in events if isinstance(event, StreamFailed)]
    assert len(failures) <= 1
    assert decoder.complete() or failures
    assert not failures or events[-1] is failures[0]
