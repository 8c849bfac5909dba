"""Who said what, whatever way the messages told it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given

from tests.kit.histories import ADD, PNG, calls, histories, read, result, use, user
from uniapi.codec import Json
from uniapi.conversation import Image, NamedTool, Text, Thinking, Tool, ToolResult, ToolUse, Turn

HINT: dict[str, Json] = {"type": "ephemeral"}


def done(identity: str, said: str = "done") -> ToolResult:
    return ToolResult(identity, f"f_{identity}", (Text(said),))


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
