"""OpenAI-format answers, kept byte for byte or mended where the contract forbids them."""

from __future__ import annotations

import pytest

from uniapi.chat import ChatRequest
from uniapi.codec import Json, dumps, loads
from uniapi.engines.openai_decoder import OpenAIDecoder
from uniapi.errors import Kind
from uniapi.events import (
    Event,
    Extra,
    Finish,
    Reasoning,
    Start,
    StreamFailed,
    Text,
    ToolCall,
    Usage,
)
from uniapi.framing import Framing

DEFAULT = Start("chatcmpl-ours", "asked", 42)


def decode(
    *frames: Json | bytes,
    framing: Framing = "sse",
    stream: bool = True,
    usage: bool = False,
    end: bool = True,
) -> tuple[list[Event], list[Json]]:
    """The events, and the JSON of the wire chunks ([DONE] is the writer's)."""
    chat = ChatRequest("asked", {}, stream=stream, include_usage=usage)
    decoder = OpenAIDecoder(chat, framing, DEFAULT)
    batches = [
        decoder.feed([frame if isinstance(frame, bytes) else dumps(frame)]) for frame in frames
    ]
    if end:
        batches.append(decoder.end())
    wire = b"".join(batch.wire or b"" for batch in batches)
    if framing == "json":
        return [event for batch in batches for event in batch.events], [loads(wire)] if wire else []
    chunks = [loads(part.removeprefix(b"data: ")) for part in wire.split(b"\n\n") if part]
    return [event for batch in batches for event in batch.events], chunks


def chunk(
    delta: Json = None, finish: str | None = None, *, index: int = 0, **more: Json
) -> dict[str, Json]:
    # A role in every delta, as OpenRouter has it, is legal; none in the first would be mended.
    said: Json = {"role": "assistant", **delta} if isinstance(delta, dict) else {}
    return {
        "id": "up-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m-1",
        "choices": [{"index": index, "delta": said, "finish_reason": finish}],
        **more,
    }


def call(index: int | None = None, **fields: Json) -> dict[str, Json]:
    piece: dict[str, Json] = {} if index is None else {"index": index}
    function: Json = {k: fields.pop(k) for k in ("name", "arguments") if k in fields}
    return {**piece, **fields, "function": function}


DONE = b"[DONE]"
START = Start("up-1", "m-1", 7)


def test_a_plain_stream_is_kept_byte_for_byte() -> None:
    frames = [
        (
            b'{"id":"up-1", "object":"chat.completion.chunk","created":7,"model":"m-1",'
            b'"system_fingerprint":"fp","choices":[{"index":0,"delta":{"role":"assistant",'
            b'"content":""},"logprobs":null,"finish_reason":null}],"obfuscation":"xyz"}'
        ),
        dumps(chunk({"content": "Hé"})),
        dumps(chunk({}, "stop")),
    ]
    decoder = OpenAIDecoder(ChatRequest("asked", {}, stream=True), "sse", DEFAULT)
    batch = decoder.feed([*frames, DONE])
    assert batch.wire == b"".join(b"data: " + frame + b"\n\n" for frame in frames)
    assert batch.events == [START, Text("Hé"), Finish("stop")]
    assert decoder.finished()
    assert decoder.end().events == ()


def test_one_id_and_a_whole_envelope_for_the_whole_stream() -> None:
    events, wire = decode(
        {"choices": [{"delta": {"content": "a"}}]},
        {"id": "other", "choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}]},
        DONE,
    )
    assert events == [DEFAULT, Text("a"), Text("b"), Finish("stop")]
    assert [part["id"] for part in wire if isinstance(part, dict)] == ["chatcmpl-ours"] * 2
    assert wire[0] == {
        "choices": [{"delta": {"content": "a", "role": "assistant"}, "index": 0}],
        "id": "chatcmpl-ours",
        "object": "chat.completion.chunk",
        "created": 42,
        "model": "asked",
    }


@pytest.mark.parametrize(
    ("given", "shown"),
    [("eos", "stop"), ("length", "length"), ("content_filter", "content_filter")],
)
def test_finish_reasons_are_the_legal_ones(given: str, shown: str) -> None:
    events, wire = decode(chunk({"content": "a"}), chunk({}, given), DONE)
    assert events[-1] == Finish(shown)  # type: ignore[arg-type] # rows of a table
    assert wire[-1] == chunk({}, shown)


def test_an_empty_or_repeated_finish_reason_is_none() -> None:
    events, wire = decode(chunk({"content": "a"}, ""), chunk({}, "stop"), chunk({}, "stop"), DONE)
    assert [event for event in events if isinstance(event, Finish)] == [Finish("stop")]
    assert wire == [chunk({"content": "a"}), chunk({}, "stop"), chunk({})]


def test_a_finish_reason_that_never_came_is_supplied_at_done() -> None:
    events, wire = decode(chunk({"content": "a"}), DONE)
    assert events[-1] == Finish("stop")
    assert wire[-1] == chunk(None, "stop")


def test_an_end_without_any_sign_of_one_is_a_cut() -> None:
    events, _ = decode(chunk({"content": "a"}))
    match events[-1]:
        case StreamFailed(failure=failure):
            assert failure.kind is Kind.CUT
        case other:
            raise AssertionError(other)


def test_usage_is_shown_to_those_who_asked_wherever_it_came() -> None:
    usage: Json = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    own = chunk(None, None, usage=usage)
    own["choices"] = []
    for frames in (
        [chunk({"content": "a"}, "stop"), own, DONE],
        [chunk({"content": "a"}, "stop", usage=usage), DONE],
        [chunk({"content": "a"}, "stop", usage=usage)],
    ):
        events, wire = decode(*frames, usage=True)
        assert events[-1] == Usage(
            3, 2, 5, {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        )
        assert wire[-1] == own
    events, wire = decode(chunk({"content": "a"}, "stop"), own, DONE)
    assert isinstance(events[-1], Usage)
    assert wire == [chunk({"content": "a"}, "stop")]


def test_of_cumulative_usage_the_last_counts() -> None:
    events, _ = decode(
        chunk({"content": "a"}, usage={"completion_tokens": 1}),
        chunk({"content": "b"}, "stop", usage={"completion_tokens": 2}),
        DONE,
    )
    assert events[-1] == Usage(0, 2, 2, {"completion_tokens": 2})


def test_azures_first_chunk_is_not_for_clients() -> None:
    first: Json = {
        "choices": [],
        "id": "",
        "model": "",
        "object": "",
        "created": 0,
        "prompt_filter_results": [],
    }
    events, wire = decode(first, chunk({"content": "a"}, "stop"), DONE)
    assert events[0] == START
    assert wire == [chunk({"content": "a"}, "stop")]


def test_tool_calls_get_an_index_a_type_and_one_name() -> None:
    events, wire = decode(
        chunk({"tool_calls": [call(None, id="a1", name="look", arguments='{"x":1}')]}),
        chunk({"tool_calls": [call(None, id="b2", name="go", arguments={"y": 2})]}, "tool_calls"),
        DONE,
    )
    assert events[1:3] == [
        ToolCall(0, "a1", "look", '{"x":1}'),
        ToolCall(1, "b2", "go", '{"y":2}'),
    ]
    assert wire[1] == chunk(
        {
            "tool_calls": [
                {
                    "id": "b2",
                    "type": "function",
                    "index": 1,
                    "function": {"name": "go", "arguments": '{"y":2}'},
                }
            ]
        },
        "tool_calls",
    )


def test_indices_that_start_at_one_start_at_none() -> None:
    events, wire = decode(
        chunk({"tool_calls": [call(1, id="a", type="function", name="f", arguments="")]}),
        chunk({"tool_calls": [call(1, name="f", arguments="{}")]}),
        chunk({}, "tool_calls"),
        DONE,
    )
    assert events[1:3] == [ToolCall(0, "a", "f", ""), ToolCall(0, None, None, "{}")]
    assert wire[1] == chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})


def test_a_call_without_an_id_gets_one_of_its_own() -> None:
    events, _ = decode(
        chunk({"tool_calls": [call(0, name="f"), call(1, name="g")]}, "tool_calls"), DONE
    )
    ids = [event.id for event in events if isinstance(event, ToolCall) and event.id]
    assert len(set(ids)) == 2
    assert all(ids)


def test_no_arguments_are_an_empty_object() -> None:
    events, wire = decode(
        chunk({"tool_calls": [call(0, id="a", type="function", name="f", arguments="")]}),
        chunk({}, "tool_calls"),
        DONE,
    )
    arguments = "".join(event.arguments for event in events if isinstance(event, ToolCall))
    assert arguments == "{}"
    assert wire[-1] == chunk(
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}, "tool_calls"
    )


def test_null_tool_calls_are_none() -> None:
    _, wire = decode(chunk({"content": "a", "tool_calls": None}, "stop"), DONE)
    assert wire == [chunk({"content": "a"}, "stop")]


def test_reasoning_is_read_under_both_names_and_kept_under_its_own() -> None:
    events, wire = decode(
        chunk({"reasoning": "a"}), chunk({"reasoning_content": "b"}), chunk({}, "stop"), DONE
    )
    assert events[1:3] == [Reasoning("a"), Reasoning("b")]
    assert wire[0] == chunk({"reasoning": "a"})


def test_content_in_parts_is_flattened() -> None:
    parts: Json = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "so"},
    ]
    events, wire = decode(chunk({"content": parts}, "stop"), DONE)
    assert events[1:3] == [Reasoning("hm"), Text("so")]
    assert wire == [chunk({"content": "so", "reasoning_content": "hm"}, "stop")]


def test_unknown_fields_travel_as_extras() -> None:
    events, _ = decode(chunk({"refusal": "no", "audio": {"id": "x"}}, "stop"), DONE)
    assert events[1] == Extra({"refusal": "no", "audio": {"id": "x"}})


def test_several_choices_keep_their_numbers() -> None:
    events, _ = decode(
        chunk({"content": "a"}, index=0),
        chunk({"content": "b"}, index=1),
        chunk({}, "stop", index=0),
        chunk({}, "length", index=1),
        DONE,
    )
    assert events[1:] == [Text("a", 0), Text("b", 1), Finish("stop", 0), Finish("length", 1)]


@pytest.mark.parametrize(
    ("frame", "kind", "status"),
    [
        ({"error": {"message": "busy", "type": "server_error"}}, Kind.GARBAGE, 502),
        ({"error": {"message": "slow down", "code": 429}}, Kind.RATE_LIMIT, 429),
        ({"error": {"code": "content_filter", "status": 400, "message": "x"}}, Kind.POLICY, 400),
        ({"error": {"message": "x", "type": "rate_limit_error"}}, Kind.RATE_LIMIT, 429),
        ({"error": "plain words"}, Kind.GARBAGE, 502),
        ({"detail": "Not here"}, Kind.GARBAGE, 502),
        ([1, 2], Kind.GARBAGE, 502),
        (b"{broken", Kind.GARBAGE, 502),
        (b"<html>", Kind.GARBAGE, 502),
    ],
)
@pytest.mark.parametrize("framing", ["sse", "json"])
def test_an_error_under_200_is_a_failure(
    frame: Json | bytes, kind: Kind, status: int, framing: Framing
) -> None:
    events, wire = decode(frame, framing=framing, stream=framing == "sse")
    match events:
        case [StreamFailed(failure=failure)]:
            assert (failure.kind, failure.status) == (kind, status)
        case other:
            raise AssertionError(other)
    assert wire == []


def test_nothing_after_a_failure_is_read() -> None:
    events, _ = decode(
        chunk({"content": "a"}), {"error": {"message": "x"}}, chunk({"content": "b"})
    )
    assert [type(event) for event in events] == [Start, Text, StreamFailed]


def whole(message: Json, finish: str | None = "stop", **more: Json) -> dict[str, Json]:
    return {
        "id": "up-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m-1",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        **more,
    }


def test_a_whole_answer_is_kept_byte_for_byte() -> None:
    body = dumps(whole({"role": "assistant", "content": "Hi"})).replace(b":", b": ")
    chat = ChatRequest("asked", {})
    batch = OpenAIDecoder(chat, "json", DEFAULT).feed([body])
    assert batch.wire == body
    assert batch.events == [START, Text("Hi"), Finish("stop")]


def test_a_whole_answer_is_mended_too() -> None:
    message: Json = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}],
    }
    events, wire = decode(whole(message, None), framing="json", stream=False)
    assert events[1:] == [
        ToolCall(0, "a", "f", ""),
        ToolCall(0, None, None, "{}"),
        Finish("tool_calls"),
    ]
    mended: Json = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }
    assert wire == [whole(mended, "tool_calls")]


def test_a_filtered_choice_without_a_message_gets_one() -> None:
    answer = whole({}, "content_filter")
    answer["choices"] = [{"index": 0, "finish_reason": "content_filter"}]
    events, wire = decode(answer, framing="json", stream=False)
    assert events[-1] == Finish("content_filter")
    message: Json = {"role": "assistant", "content": None}
    choice: Json = {"index": 0, "finish_reason": "content_filter", "message": message}
    assert wire == [{**answer, "choices": [choice]}]


def test_the_other_form_gives_events_alone() -> None:
    chat = ChatRequest("asked", {}, stream=True)
    batch = OpenAIDecoder(chat, "json", DEFAULT).feed([dumps(whole({"content": "Hi"}))])
    assert batch.wire is None
    assert batch.events == [START, Text("Hi"), Finish("stop")]


@pytest.mark.parametrize("number", ["9" * 400, "-1", "9007199254740993", "1e300"])
def test_a_number_that_counts_nothing_is_not_counted(number: str) -> None:
    frame = dumps(chunk({"content": "a"}, "stop")).replace(b'"created":7', b'"created":N')
    usage = b'{"object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":N}}'
    first, second = (part.replace(b"N", number.encode()) for part in (frame, usage))
    events, _ = decode(first, second, DONE)
    assert events[:3] == [Start("up-1", "m-1", 42), Text("a"), Finish("stop")]
    match events[3:]:
        case [Usage(prompt, completion, total)]:
            assert (prompt, completion, total) == (0, 0, 0)
        case _:
            pytest.fail("no usage")


def test_a_character_cut_in_two_goes_on_as_it_came_and_does_not_end_the_answer() -> None:
    first = dumps(chunk({"content": "N"})).replace(b'"N"', rb'"a\ud83d"')
    second = dumps(chunk({"content": "N"})).replace(b'"N"', rb'"\ude00b"').replace(b"up-1", b"")
    chat = ChatRequest("asked", {}, stream=True)
    batch = OpenAIDecoder(chat, "sse", DEFAULT).feed([first, second])
    assert batch.events[1:] == [Text("a\ufffd"), Text("\ufffdb")]
    sent = batch.wire or b""
    assert sent.startswith(b"data: " + first)
    assert "\ufffdb" in sent.decode()  # an id had to be mended: this one was written anew


def test_a_number_nobody_can_write_is_no_answer() -> None:
    frame = dumps(chunk({"content": "a"}, "stop")).replace(b'"created":7', b'"created":1e999')
    events, _ = decode(frame, DONE)
    assert [type(event) for event in events] == [StreamFailed]
