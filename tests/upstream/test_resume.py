"""How a model is asked to go on with what another began."""

from __future__ import annotations

import pytest

from uniapi.chat import ChatRequest
from uniapi.codec import Json
from uniapi.engines.anthropic import Anthropic
from uniapi.engines.openai import OpenAI
from uniapi.upstream.resume import ASK, may_be_resumed, resumed

HELLO: Json = {"role": "user", "content": "Hello"}


def chat(**fields: Json) -> ChatRequest:
    return ChatRequest("m", {"model": "m", "messages": [HELLO], **fields}, stream=True)


def turns(asked: ChatRequest) -> list[Json]:
    messages = asked.fields["messages"]
    assert isinstance(messages, list)
    return messages[1:]


def test_a_user_turn_asks_for_the_rest() -> None:
    asked = chat(temperature=1)
    assert turns(resumed(asked, "Well,", continues=False)) == [
        {"role": "assistant", "content": "Well,"},
        {"role": "user", "content": ASK},
    ]
    assert asked.fields["messages"] == [HELLO]


def test_a_model_that_continues_gets_a_prefill() -> None:
    assert turns(resumed(chat(), "Well,", continues=True)) == [
        {"role": "assistant", "content": "Well,"}
    ]


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ("Well, ", {}),
        ("Well\n", {}),
        ("Well", {"reasoning_effort": "low"}),
        ("Well", {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
    ],
)
def test_a_prefill_that_would_be_refused_is_none(said: str, fields: dict[str, Json]) -> None:
    assert len(turns(resumed(chat(**fields), said, continues=True))) == 2


@pytest.mark.parametrize(
    ("model", "continues"),
    [
        ("claude-3-haiku-20240307", True),
        ("claude-3-5-sonnet-20241022", True),
        ("claude-sonnet-4-5-20250929", True),
        ("claude-opus-4-6", False),
        ("claude-opus-4-7", False),
        ("another", False),
    ],
)
def test_which_claude_continues(model: str, continues: bool) -> None:
    assert Anthropic().continues(model) is continues


def test_nobody_is_thought_to_continue_who_is_not_known_to() -> None:
    assert not OpenAI().continues("claude-3-haiku")


@pytest.mark.parametrize(
    ("fields", "may"),
    [
        ({}, True),
        ({"tools": [], "n": 1, "response_format": {"type": "text"}, "logprobs": False}, True),
        ({"tools": [{}]}, False),
        ({"functions": [{}]}, False),
        ({"n": 2}, False),
        ({"response_format": {"type": "json_schema"}}, False),
        ({"logprobs": True}, False),
        ({"audio": {"voice": "x"}}, False),
        ({"messages": [HELLO, {"role": "assistant", "content": "W"}]}, False),
    ],
)
def test_what_may_be_resumed(fields: dict[str, Json], may: bool) -> None:
    assert may_be_resumed(chat(**fields)) is may


def test_only_streams_are_resumed() -> None:
    assert not may_be_resumed(ChatRequest("m", {"messages": [HELLO]}))
