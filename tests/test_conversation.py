"""What a request means, whatever way it was said."""

from __future__ import annotations

import base64
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kit.histories import calls, histories, result
from uniapi.chat import ChatRequest
from uniapi.codec import Json
from uniapi.conversation import (
    Audio,
    Conversation,
    File,
    Image,
    Inline,
    JsonFormat,
    NamedTool,
    NativeTool,
    Refusal,
    Remote,
    SchemaFormat,
    Text,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
    Turn,
    Uploaded,
    without_images,
    without_tools,
)
from uniapi.conversation.read import conversation
from uniapi.errors import ApiError

PNG = "data:image/png;base64,iVBORw0KGgo="
HINT: dict[str, Json] = {"type": "ephemeral"}
ADD: dict[str, Json] = {"type": "function", "function": {"name": "add", "parameters": {}}}


def read(*messages: Json, **fields: Json) -> Conversation:
    whole: dict[str, Json] = {"model": "m", "messages": list(messages), **fields}
    return conversation(ChatRequest("m", whole))


def user(content: Json, **more: Json) -> dict[str, Json]:
    return {"role": "user", "content": content, **more}


def use(identity: str) -> ToolUse:
    return ToolUse(identity, f"f_{identity}")


def done(identity: str, said: str = "done") -> ToolResult:
    return ToolResult(identity, f"f_{identity}", (Text(said),))


def block(part: Json) -> object:
    return read(user([part])).turns[0].blocks[0]


def refused(*messages: Json, **fields: Json) -> str | None:
    with pytest.raises(ApiError) as caught:
        read(*messages, **fields)
    assert caught.value.status == 400
    assert caught.value.param is not None
    assert caught.value.message.startswith(caught.value.param)
    return caught.value.param


# Messages.


def test_system_and_developer_texts_stand_apart_in_order_wherever_they_were() -> None:
    found = read(
        {"role": "system", "content": "one"},
        user("hi"),
        {"role": "developer", "content": [{"type": "text", "text": "two", "cache_control": HINT}]},
        user("there"),
        {"role": "system", "content": "three", "cache_control": HINT},
    )
    assert found.system == (Text("one"), Text("two", HINT), Text("three", HINT))
    assert found.system_text == "one\n\ntwo\n\nthree"
    assert found.turns == (Turn("user", (Text("hi"), Text("there"))),)


def test_results_stand_right_after_their_calls_in_the_order_of_the_calls() -> None:
    found = read(user("go"), calls("a", "b"), user("well?"), result("b"), result("a"), user("now?"))
    assert found.turns == (
        Turn("user", (Text("go"),)),
        Turn("assistant", (use("a"), use("b"))),
        Turn("user", (done("a"), done("b"), Text("well?"), Text("now?"))),
    )


def test_a_result_that_comes_after_the_assistant_spoke_again_still_finds_its_call() -> None:
    found = read(user("go"), calls("a"), user("wait"), calls(content="waiting"), result("a"))
    assert found.turns == (
        Turn("user", (Text("go"),)),
        Turn("assistant", (use("a"),)),
        Turn("user", (done("a"), Text("wait"))),
        Turn("assistant", (Text("waiting"),)),
    )


def test_parallel_calls_told_in_two_messages_are_one_turn() -> None:
    found = read(calls("a", content="first"), calls("b"), result("a"), result("b"))
    assert found.turns == (
        Turn("assistant", (Text("first"), use("a"), use("b"))),
        Turn("user", (done("a"), done("b"))),
    )


def test_two_steps_of_tools_stay_two_steps_even_with_the_same_ids() -> None:
    found = read(calls("a"), result("a", "1"), calls("a"), result("a", "2"))
    assert found.turns == (
        Turn("assistant", (use("a"),)),
        Turn("user", (done("a", "1"),)),
        Turn("assistant", (use("a"),)),
        Turn("user", (done("a", "2"),)),
    )


def test_the_legacy_function_call_is_a_tool_call_with_an_id_that_stays() -> None:
    found = read(
        user("go"),
        {"role": "assistant", "function_call": {"name": "add", "arguments": '{"a":1}'}},
        {"role": "function", "name": "add", "content": "2"},
        functions=[{"name": "add", "description": "adds", "parameters": {"type": "object"}}],
        function_call={"name": "add"},
    )
    assert found.turns[1:] == (
        Turn("assistant", (ToolUse("call_1", "add", {"a": 1}),)),
        Turn("user", (ToolResult("call_1", "add", (Text("2"),)),)),
    )
    assert found.tools == (Tool("add", "adds", {"type": "object"}),)
    assert found.tool_choice == NamedTool("add")


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{"a": [1, null]}', {"a": [1, None]}),
        ("", {}),
        ("  ", {}),
        ("null", {}),
        (None, {}),
        ({"a": 1}, {"a": 1}),
        ('{"cut": "in the mid', {"_raw": '{"cut": "in the mid'}),
        ("[1]", {"_raw": "[1]"}),
        ("NaN", {"_raw": "NaN"}),
    ],
)
def test_arguments_are_an_object_and_what_is_none_is_not_lost(
    written: Json, arguments: dict[str, Json]
) -> None:
    call: Json = {"id": "a", "type": "function", "function": {"name": "f", "arguments": written}}
    found = read({"role": "assistant", "tool_calls": [call]}, result("a"))
    assert found.turns[0].blocks == (ToolUse("a", "f", arguments),)


def test_a_tools_answer_may_be_text_parts_pictures_or_nothing() -> None:
    parts: Json = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": PNG}]
    found = read(calls("a", "b"), result("a", parts), result("b", ""))
    first, second = found.turns[1].blocks
    assert isinstance(first, ToolResult)
    assert [type(part) for part in first.content] == [Text, Image]
    assert first.text == "see"
    assert second == ToolResult("b", "f_b")


def test_cache_hints_are_kept_on_parts_messages_calls_and_tools() -> None:
    hinted: Json = {"type": "text", "text": "part", "cache_control": HINT}
    found = read(
        user([hinted, {"type": "text", "text": "bare"}]),
        calls("a", cache_control=HINT),
        {**result("a"), "cache_control": HINT},
        user("whole", cache_control=HINT),
        tools=[{**ADD, "cache_control": HINT}],
    )
    assert found.turns[0].blocks == (Text("part", HINT), Text("bare"))
    assert found.turns[1].blocks == (ToolUse("a", "f_a", {}, HINT),)
    assert found.turns[2].blocks == (
        ToolResult("a", "f_a", (Text("done"),), HINT),
        Text("whole", HINT),
    )
    assert found.tools[0].cache == HINT


@pytest.mark.parametrize(
    ("kept", "thoughts"),
    [
        ({"reasoning_content": "so"}, (Thinking("so"),)),
        ({"reasoning": "so"}, (Thinking("so"),)),
        ({"reasoning_content": ""}, ()),
        (
            {
                "reasoning_content": "so",
                "reasoning_details": [
                    {
                        "type": "reasoning.text",
                        "text": "so",
                        "signature": "sig",
                        "format": "google-gemini-v1",
                        "index": 0,
                    },
                    {"type": "reasoning.encrypted", "data": "xyz", "index": 1},
                    {"type": "reasoning.text", "text": "bare", "signature": None},
                    {"type": "reasoning.tomorrow"},
                ],
            },
            (
                Thinking("so", "sig", format="google-gemini-v1"),
                Thinking(sealed="xyz"),
                Thinking("bare"),
            ),
        ),
        (
            {
                "thinking_blocks": [
                    {"type": "thinking", "thinking": "so", "signature": "sig"},
                    {"type": "redacted_thinking", "data": "xyz"},
                ]
            },
            (
                Thinking("so", "sig", format="anthropic-claude-v1"),
                Thinking(sealed="xyz", format="anthropic-claude-v1"),
            ),
        ),
    ],
)
def test_thoughts_sent_back_come_first_in_their_turn(
    kept: dict[str, Json], thoughts: tuple[Thinking, ...]
) -> None:
    found = read(calls("a", content="text", **kept), result("a"))
    assert found.turns[0].blocks == (*thoughts, Text("text"), use("a"))


def test_google_signatures_are_kept_on_calls_and_texts() -> None:
    signed: dict[str, Json] = {"extra_content": {"google": {"thought_signature": "sig"}}}
    call: Json = {"id": "a", "type": "function", "function": {"name": "f"}, **signed}
    text: Json = {"type": "text", "text": "t", **signed}
    found = read({"role": "assistant", "content": [text], "tool_calls": [call]}, result("a"))
    assert found.turns[0].blocks == (
        Text("t", signature="sig"),
        ToolUse("a", "f", signature="sig"),
    )


def test_refusals_are_kept_as_part_and_as_field() -> None:
    part: Json = {"type": "refusal", "refusal": "no"}
    found = read({"role": "assistant", "content": [part], "refusal": "never"})
    assert found.turns[0].blocks == (Refusal("no"), Refusal("never"))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "text", "text": "t"}, Text("t")),
        (
            {"type": "image_url", "image_url": {"url": "https://a.b/c.png", "detail": "low"}},
            Image(Remote("https://a.b/c.png"), "low", None, "messages[0].content[0].image_url.url"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "DATA:Image/PNG;charset=x;Base64,AA\nBB"}},
            Image(Inline("image/png", "AABB"), param="messages[0].content[0].image_url.url"),
        ),
        (
            {"type": "image_url", "image_url": "data:image/svg+xml,%3Csvg/%3E"},
            Image(
                Inline("image/svg+xml", base64.b64encode(b"<svg/>").decode()),
                param="messages[0].content[0].image_url",
            ),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
            Audio("UklG", "wav", param="messages[0].content[0].input_audio"),
        ),
        (
            {
                "type": "input_audio",
                "input_audio": {"data": "data:a/b;base64,UA==", "format": "mp3"},
            },
            Audio("UA==", "mp3", param="messages[0].content[0].input_audio"),
        ),
        (
            {
                "type": "file",
                "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
            },
            File(
                Inline("application/pdf", "JVBE"),
                "a.pdf",
                param="messages[0].content[0].file.file_data",
            ),
        ),
        (
            {"type": "file", "file": {"file_id": "file-1"}},
            File(Uploaded("file-1"), param="messages[0].content[0].file.file_id"),
        ),
        (
            {"type": "video_url", "video_url": {"url": "gs://bucket/film.mp4"}},
            File(Remote("gs://bucket/film.mp4"), param="messages[0].content[0].video_url.url"),
        ),
    ],
)
def test_every_kind_of_part_is_read(part: Json, expected: object) -> None:
    assert block(part) == expected


# Fields.


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


# What a provider cannot take.


def test_without_tools_nothing_of_them_is_left_and_turns_still_alternate() -> None:
    found = without_tools(
        read(
            user("go"),
            calls("a", reasoning_content="hm"),
            result("a"),
            user("and?"),
            tools=[ADD, {"type": "web_search_20250305"}],
            tool_choice="required",
            parallel_tool_calls=False,
            seed=1,
        )
    )
    assert found.turns == (Turn("user", (Text("go"), Text("and?"))),)
    assert found == read(user("go"), user("and?"), seed=1)


def test_without_images_text_and_results_stay() -> None:
    picture: Json = {"type": "image_url", "image_url": PNG}
    found = without_images(
        read(
            user([picture]),
            user([{"type": "text", "text": "go"}, picture]),
            calls("a"),
            result("a", [picture]),
        )
    )
    assert found.turns == (
        Turn("user", (Text("go"),)),
        Turn("assistant", (use("a"),)),
        Turn("user", (ToolResult("a", "f_a"),)),
    )


# Laws.


def said(content: Json) -> list[str]:
    if isinstance(content, list):
        return [str(part["text"]) for part in content if isinstance(part, dict) and part["text"]]
    return [content] if isinstance(content, str) and content else []


@given(histories())
def test_any_history_alternates_and_every_result_follows_its_call(messages: list[Json]) -> None:
    turns = read(*messages).turns
    assert all(turn.blocks for turn in turns)
    assert all(a.role != b.role for a, b in pairwise(turns))
    for place, turn in enumerate(turns):
        uses = [each.id for each in turn.blocks if isinstance(each, ToolUse)]
        if turn.role == "user":
            assert not uses
            continue
        after = turns[place + 1].blocks if uses else ()
        answered = [each.id for each in after if isinstance(each, ToolResult)]
        assert answered == uses
        assert all(isinstance(each, ToolResult) for each in after[: len(uses)])


@given(histories())
def test_nothing_of_the_text_is_lost_or_said_twice(messages: list[Json]) -> None:
    found = read(*messages)
    kept = [part.text for part in found.system]
    for turn in found.turns:
        for each in turn.blocks:
            match each:
                case Text(text=text):
                    kept.append(text)
                case ToolResult(content=content):
                    kept += [part.text for part in content if isinstance(part, Text)]
                case _:
                    pass
    told = [text for each in messages if isinstance(each, dict) for text in said(each["content"])]
    assert sorted(kept) == sorted(told)


@given(histories())
def test_any_history_without_tools_still_alternates(messages: list[Json]) -> None:
    turns = without_tools(read(*messages)).turns
    assert all(a.role != b.role for a, b in pairwise(turns))
    blocks = [each for turn in turns for each in turn.blocks]
    assert not any(isinstance(each, ToolUse | ToolResult) for each in blocks)


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


def test_arguments_that_could_not_be_sent_on_are_kept_as_text() -> None:
    for written in ('{"a":1e999}', '{"a":"\\ud800"}'):
        turns = read(
            {"role": "user", "content": "x"},
            {
                "role": "assistant",
                "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": written}}],
            },
            {"role": "tool", "tool_call_id": "a", "content": "y"},
        ).turns
        match turns[1].blocks:
            case (ToolUse(arguments=arguments),):
                assert arguments == {"_raw": written}
            case other:
                raise AssertionError(other)


def test_a_signature_beside_the_text_comes_back_with_it() -> None:
    turns = read(
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": "y",
            "extra_content": {"google": {"thought_signature": "c2ln"}},
        },
        {"role": "user", "content": "z"},
    ).turns
    assert turns[1].blocks == (Text("y", signature="c2ln"),)
