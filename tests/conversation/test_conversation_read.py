"""Every field has its place, and what cannot be read is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.histories import ADD, PNG, calls, read, result, user
from uniapi.codec import Json
from uniapi.conversation import (
    Conversation,
    JsonFormat,
    NamedTool,
    NativeTool,
    SchemaFormat,
    Text,
    Tool,
    Turn,
)
from uniapi.errors import ApiError


def refused(*messages: Json, **fields: Json) -> str | None:
    with pytest.raises(ApiError) as caught:
        read(*messages, **fields)
    assert caught.value.status == 400
    assert caught.value.param is not None
    assert caught.value.message.startswith(caught.value.param)
    return caught.value.param


def test_every_field_has_its_place_and_the_rest_is_named() -> None:
    found = read(
        user("hi"),
        tools=[
            {"type": "function", "function": {"name": "add", "description": "d", "strict": True}},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
        tool_choice={"type": "function", "function": {"name": "add"}},
        parallel_tool_calls=False,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
        },
        max_tokens=1,
        max_completion_tokens=2,
        temperature=0.5,
        top_p=1,
        top_k=40,
        presence_penalty=-1,
        frequency_penalty=1.5,
        seed=7,
        n=2,
        stop=["a", "", "b"],
        logprobs=True,
        top_logprobs=3,
        reasoning_effort="high",
        user="u",
        metadata={"k": "v"},
        modalities=["text", "image"],
        web_search_options={},
        service_tier="auto",
        verbosity="low",
        stream=True,
        stream_options=None,
        logit_bias={"1": 2},
        prediction=None,
        my_own=1,
    )
    assert found.tools == (Tool("add", "d", strict=True),)
    assert found.natives == (
        NativeTool({"type": "web_search_20250305", "name": "web_search"}, "tools[1]"),
    )
    assert found.tool_choice == NamedTool("add")
    assert found.parallel_tool_calls is False
    assert found.format == SchemaFormat("n", {"type": "object"}, strict=True)
    sampling = found.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (
        2,
        0.5,
        1,
        40,
    )
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (-1, 1.5)
    assert (sampling.seed, sampling.n, sampling.stop) == (7, 2, ("a", "b"))
    assert (sampling.logprobs, sampling.top_logprobs) == (True, 3)
    assert (found.effort, found.user, found.metadata) == ("high", "u", {"k": "v"})
    assert (found.modalities, found.web_search) == (("text", "image"), {})
    assert (found.service_tier, found.verbosity) == ("auto", "low")
    assert found.unread == ("logit_bias", "my_own")


def test_nothing_given_is_nothing_claimed() -> None:
    assert read(user("hi")) == Conversation(turns=(Turn("user", (Text("hi"),)),))


@pytest.mark.parametrize(
    ("fields", "effort", "budget"),
    [
        ({"reasoning_effort": "none"}, "none", None),
        ({"reasoning_effort": "max"}, "xhigh", None),
        ({"reasoning": {"effort": "low", "max_tokens": 2000}}, "low", 2000),
        ({"reasoning": {"enabled": False}}, "none", None),
        ({"thinking": {"type": "enabled", "budget_tokens": 4096}}, None, 4096),
        ({"thinking": {"type": "disabled"}}, "none", None),
        ({"reasoning_effort": "high", "thinking": {"type": "disabled"}}, "high", None),
    ],
)
def test_effort_is_read_in_every_spelling(
    fields: dict[str, Json], effort: str | None, budget: int | None
) -> None:
    found = read(user("hi"), **fields)
    assert (found.effort, found.thinking_budget) == (effort, budget)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ("any", "required"),
    ],
)
def test_tool_choice_in_words(choice: Json, expected: str | None) -> None:
    assert read(user("hi"), tools=[ADD], tool_choice=choice).tool_choice == expected


def test_allowed_tools_are_a_shorter_list_and_a_mode() -> None:
    other: Json = {"type": "function", "function": {"name": "other"}}
    allowed: Json = {
        "type": "allowed_tools",
        "allowed_tools": {
            "mode": "required",
            "tools": [{"type": "function", "function": {"name": "add"}}],
        },
    }
    found = read(user("hi"), tools=[ADD, other], tool_choice=allowed)
    assert [tool.name for tool in found.tools] == ["add"]
    assert found.tool_choice == "required"


def test_response_formats() -> None:
    assert read(user("hi"), response_format={"type": "text"}).format is None
    assert read(user("hi"), response_format={"type": "json_object"}).format == JsonFormat()
    bare: Json = {"type": "json_schema", "json_schema": {}}
    assert read(user("hi"), response_format=bare).format == SchemaFormat(
        "answer", {"type": "object"}
    )


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "robot", "content": "x"}], "messages[0].role"),
        ([user({"a": 1})], "messages[0].content"),
        ([user([{"type": "hologram"}])], "messages[0].content[0].type"),
        ([user([{"type": "text", "text": 1}])], "messages[0].content[0].text"),
        (
            [user("a"), user([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}])],
            "messages[1].content[0].image_url.url",
        ),
        (
            [user([{"type": "image_url", "image_url": {"url": "data:;base64,AA"}}])],
            "messages[0].content[0].image_url.url",
        ),
        (
            [user([{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}])],
            "messages[0].content[0].image_url.url",
        ),
        ([user([{"type": "file", "file": {}}])], "messages[0].content[0].file"),
        (
            [user([{"type": "input_audio", "input_audio": {"data": "AA"}}])],
            "messages[0].content[0].input_audio.format",
        ),
        (
            [{"role": "system", "content": [{"type": "image_url", "image_url": PNG}]}],
            "messages[0].content",
        ),
        ([user("a"), result("x")], "messages[1].tool_call_id"),
        ([calls("a"), result("a"), result("a")], "messages[2].tool_call_id"),
        ([user("a"), calls("x", "y"), result("x")], "messages[1].tool_calls[1].id"),
        ([calls("x", "x"), result("x")], "messages[0].tool_calls[1].id"),
        ([{"role": "function", "name": "f", "content": ""}], "messages[0].name"),
        ([user("a", cache_control="yes")], "messages[0].cache_control"),
        (
            [{"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]}],
            "messages[0].tool_calls[0].type",
        ),
    ],
)
def test_a_message_that_cannot_be_read_is_named(messages: list[Json], param: str) -> None:
    assert refused(*messages) == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 1.5}, "n"),
        ({"n": float("inf")}, "n"),
        ({"seed": 10**400}, "seed"),
        ({"stop": [1]}, "stop[0]"),
        ({"logprobs": 1}, "logprobs"),
        ({"reasoning_effort": "lots"}, "reasoning_effort"),
        ({"thinking": {"budget_tokens": -1}}, "thinking.budget_tokens"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        (
            {"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "sub"}}},
            "tool_choice.function.name",
        ),
        ({"user": 1}, "user"),
        ({"metadata": []}, "metadata"),
    ],
)
def test_a_field_that_cannot_be_read_is_named(fields: dict[str, Json], param: str) -> None:
    assert refused(user("hi"), **fields) == param


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_roles = st.sampled_from(["system", "user", "assistant", "tool", "function", "x"])


@given(
    st.lists(
        st.fixed_dictionaries(
            {"role": _roles},
            optional={
                "content": _json,
                "tool_calls": _json,
                "function_call": _json,
                "tool_call_id": _json,
                "name": _json,
                "cache_control": _json,
            },
        ),
        max_size=4,
    ),
    st.dictionaries(
        st.sampled_from(["tools", "tool_choice", "stop", "n", "thinking", "response_format"]), _json
    ),
)
def test_any_json_is_a_conversation_or_a_400(messages: list[Json], fields: dict[str, Json]) -> None:
    try:
        found: Conversation | ApiError = read(*messages, **fields)
    except ApiError as error:
        found = error
    assert isinstance(found, Conversation) or found.status == 400
