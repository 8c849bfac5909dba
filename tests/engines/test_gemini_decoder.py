"""What Gemini answers: the cases that recordings of whole answers do not show."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniapi import codec
from uniapi.chat import ChatRequest
from uniapi.engines.gemini import Gemini
from uniapi.engines.gemini_decoder import GeminiDecoder
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

DEFAULT = Start("chatcmpl-0123456789abcdef", "asked", 42)


def decode(*frames: Any, framing: Framing = "sse", end: bool = True, **fields: Any) -> list[Event]:
    decoder = GeminiDecoder(ChatRequest("asked", fields), framing, DEFAULT)
    found = [
        event
        for frame in frames
        for event in decoder.feed(
            [frame if isinstance(frame, bytes) else codec.dumps(frame)]
        ).events
    ]
    return [*found, *(decoder.end().events if end else ())]


def piece(*parts: Any, finish: Any = None, **more: Any) -> Any:
    candidate: Any = {"content": {"role": "model", "parts": list(parts)}}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [{**candidate, **more}]}


def failure_of(events: list[Event]) -> Any:
    assert isinstance(events[-1], StreamFailed)
    return events[-1].failure


@pytest.mark.parametrize(
    ("given_reason", "reason"),
    [
        *[(word, "stop") for word in ("STOP", "OTHER", "MALFORMED_FUNCTION_CALL", "NO_IMAGE")],
        *[(word, "stop") for word in ("UNEXPECTED_TOOL_CALL", "TOMORROWS_WORD")],
        ("MAX_TOKENS", "length"),
        *[(word, "content_filter") for word in ("SAFETY", "RECITATION", "BLOCKLIST", "SPII")],
        *[(word, "content_filter") for word in ("PROHIBITED_CONTENT", "LANGUAGE", "MODEL_ARMOR")],
        *[(word, "content_filter") for word in ("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT")],
        ("IMAGE_RECITATION", "content_filter"),
        (1, "stop"),
        (2, "length"),
        (3, "content_filter"),
        (99, "stop"),
    ],
)
def test_every_finish_reason_is_one_of_openais(given_reason: Any, reason: str) -> None:
    events = decode(piece({"text": "a"}, finish=given_reason))
    assert [event for event in events if isinstance(event, Finish)] == [Finish(reason)]  # type: ignore[arg-type]  # one of the four


@pytest.mark.parametrize(
    ("given_reason", "reason"),
    [("STOP", "tool_calls"), ("UNEXPECTED_TOOL_CALL", "tool_calls"), ("MAX_TOKENS", "length")],
)
def test_stop_after_a_call_means_the_call(given_reason: str, reason: str) -> None:
    events = decode(piece({"functionCall": {"name": "f"}}, finish=given_reason))
    assert Finish(reason) in events  # type: ignore[arg-type]  # one of the four


@pytest.mark.parametrize("reason", ["", None, "FINISH_REASON_UNSPECIFIED"])
def test_an_unspecified_reason_finishes_nothing(reason: Any) -> None:
    assert failure_of(decode(piece({"text": "a"}, finishReason=reason))).kind is Kind.CUT


def test_calls_are_numbered_over_the_whole_stream_and_no_two_ids_are_equal() -> None:
    events = decode(
        piece({"functionCall": {"name": "f", "args": {"a": 1}}}, {"text": "x"}),
        piece({"functionCall": {"name": "f", "id": "same"}}),
        piece({"functionCall": {"name": "f", "id": "same", "args": None}}, finish="STOP"),
    )
    calls = [event for event in events if isinstance(event, ToolCall)]
    assert [call.index for call in calls] == [0, 1, 2]
    assert [call.id for call in calls] == [
        "call_456789abcdef_0_0",
        "same",
        "call_456789abcdef_0_2",
    ]
    assert [call.arguments for call in calls] == ['{"a":1}', "{}", "{}"]


def test_functions_get_the_clients_names_back() -> None:
    tools = [{"type": "function", "function": {"name": "1st"}}]
    events = decode(piece({"functionCall": {"name": "_1st"}}, finish="STOP"), tools=tools)
    assert [event.name for event in events if isinstance(event, ToolCall)] == ["1st"]


def test_a_stream_without_sse_is_one_array() -> None:
    array = [piece({"text": "a"}), piece({"text": "b"}, finish="STOP")]
    assert decode(array, framing="json", end=False) == [
        Start("chatcmpl-0123456789abcdef", "asked", 42),
        Text("a"),
        Text("b"),
        Finish("stop"),
    ]
    assert failure_of(decode(array[:1], framing="json", end=False)).kind is Kind.CUT
    error = [array[0], {"error": {"code": 500, "message": "m", "status": "INTERNAL"}}]
    assert failure_of(decode(error, framing="json", end=False)).message == "m"


def test_a_body_is_whole_without_a_reason_but_not_without_an_answer() -> None:
    assert decode(piece({"text": "a"}), framing="json", end=False)[1:] == [
        Text("a"),
        Finish("stop"),
    ]
    empty = decode({"usageMetadata": {"promptTokenCount": 3}}, framing="json", end=False)
    assert failure_of(empty).kind is Kind.EMPTY


@pytest.mark.parametrize(
    ("frame", "kind", "status"),
    [
        (b"{", Kind.GARBAGE, 502),
        (b'"text"', Kind.GARBAGE, 502),
        (b'{"detail":"no"}', Kind.GARBAGE, 502),
        (
            b'{"error":{"code":400,"message":"m","details":[{"reason":"API_KEY_INVALID"}]}}',
            Kind.KEY,
            400,
        ),
        (b'[{"error":{"code":429,"message":"m"}}]', Kind.RATE_LIMIT, 429),
    ],
)
def test_an_error_in_place_of_an_answer_is_one(frame: bytes, kind: Kind, status: int) -> None:
    for framing in ("sse", "json"):
        failure = failure_of(decode(frame, framing=framing))
        assert (failure.kind, failure.status) == (kind, status)


def test_a_wait_named_in_mid_stream_is_kept() -> None:
    error = {"code": 429, "message": "m", "details": [{"retryDelay": "3s"}]}
    assert failure_of(decode(piece({"text": "a"}), {"error": error})).retry_after == 3.0


def test_nothing_is_read_after_the_end() -> None:
    decoder = GeminiDecoder(ChatRequest("m", {}), "sse", DEFAULT)
    frames = [codec.dumps(piece({"text": "a"}, finish="STOP")), b"[DONE]", b"{"]
    assert Finish("stop") in decoder.feed(frames).events
    assert decoder.finished()
    assert not decoder.end().events


def test_it_is_complete_when_every_candidate_asked_for_has_finished() -> None:
    decoder = GeminiDecoder(ChatRequest("m", {"n": 2}), "sse", DEFAULT)
    decoder.feed([codec.dumps(piece({"text": "a"}, finish="STOP"))])
    assert not decoder.complete()
    decoder.feed([codec.dumps(piece({"text": "b"}, finish="STOP", index=1))])
    assert decoder.complete()
    assert not decoder.finished()


def test_the_last_value_of_every_counter_counts() -> None:
    events = decode(
        {"usageMetadata": {"promptTokenCount": 169, "cachedContentTokenCount": 5}},
        {
            **piece({"text": "a"}, finish="STOP"),
            "usageMetadata": {"promptTokenCount": 79, "candidatesTokenCount": 2},
        },
        {"usageMetadata": {"thoughtsTokenCount": 7, "toolUsePromptTokenCount": 1}},
    )
    assert events[-1] == Usage(
        80,
        9,
        89,
        {
            "prompt_tokens_details": {"cached_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 7},
        },
    )


def test_an_answer_without_counters_has_no_usage() -> None:
    assert decode(piece({"text": "a"}, finish="STOP"))[-1] == Finish("stop")


def test_thoughts_are_reasoning_and_drafts_of_pictures_are_nothing() -> None:
    blob = {"mimeType": "image/png", "data": "AA=="}
    events = decode(
        piece(
            {"text": "hm", "thought": True},
            {"inlineData": blob, "thought": True},
            {"inlineData": blob},
            {"inlineData": blob},
            {"toolCall": {"toolType": "GOOGLE_SEARCH"}},
            finish="STOP",
        )
    )
    image: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    assert events[1:] == [
        Reasoning("hm"),
        Extra({"images": [{"index": 0, **image}]}),
        Extra({"images": [{"index": 1, **image}]}),
        Finish("stop"),
    ]


def test_sound_has_its_id_once() -> None:
    blob = {"inlineData": {"mimeType": "audio/L16;rate=24000", "data": "AAAA"}}
    events = decode(piece(blob), piece(blob, finish="STOP"))
    assert [event.fields for event in events if isinstance(event, Extra)] == [
        {"audio": {"id": "audio_456789abcdef_0", "data": "AAAA"}},
        {"audio": {"data": "AAAA"}},
    ]


def test_a_filter_that_says_why_is_heard() -> None:
    events = decode(piece({"text": "a"}, finish="SAFETY", finishMessage="Too hot."))
    assert events[-2:] == [Extra({"refusal": "Too hot."}), Finish("content_filter")]


def test_a_prompt_blocked_in_mid_answer_ends_it() -> None:
    events = decode(piece({"text": "a"}), {"promptFeedback": {"blockReason": "SAFETY"}})
    assert events[-2:] == [
        Extra({"refusal": "The prompt was blocked: SAFETY."}),
        Finish("content_filter"),
    ]


def test_arguments_nobody_can_write_are_no_answer() -> None:
    frame = (
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":1e999}}}]}}]}'
    )
    assert failure_of(decode(frame)).kind is Kind.GARBAGE


# Citations.


def cited(*frames: Any) -> list[tuple[str, int, int]]:
    extras = [event.fields for event in decode(*frames) if isinstance(event, Extra)]
    found: Any = extras[-1]["annotations"] if extras else []
    assert [each["index"] for each in found] == list(range(len(found)))
    pages = [each["url_citation"] for each in found]
    return [(page["url"], page["start_index"], page["end_index"]) for page in pages]


def web(*uris: str) -> Any:
    return [{"web": {"uri": uri, "title": uri.upper()}} for uri in uris]


def support(start: int, end: int, *indices: Any, text: str | None = None) -> Any:
    segment: Any = {"startIndex": start, "endIndex": end}
    if text is not None:
        segment["text"] = text
    return {"segment": segment, "groundingChunkIndices": list(indices)}


@given(st.text(), st.text(min_size=1), st.text())
def test_bytes_become_characters_in_any_script(before: str, quoted: str, after: str) -> None:
    text = before + quoted + after
    if any("\ud800" <= char <= "\udfff" for char in text):
        return
    start = len(before.encode())
    place = support(start, start + len(quoted.encode()), 0)
    grounded = {"groundingChunks": web("u"), "groundingSupports": [place]}
    frames = piece({"text": text}, finish="STOP", groundingMetadata=grounded)
    ((_, first, last),) = cited(frames)
    assert text[first:last] == quoted


def test_metadata_in_several_pieces_are_put_together() -> None:
    assert cited(
        piece({"text": "héllo "}, groundingMetadata={"groundingChunks": web("a", "b")}),
        piece({"text": "world"}, groundingMetadata={"groundingSupports": [support(0, 6, 1)]}),
        piece(
            {"text": ""},
            finish="STOP",
            groundingMetadata={"groundingSupports": [support(0, 6, 1), support(7, 12, 0, 9, "x")]},
        ),
    ) == [("b", 0, 5), ("a", 6, 11)]


def test_a_quoted_text_is_found_where_offsets_are_of_another_part() -> None:
    ran = {"executableCode": {"code": "1", "language": "PYTHON"}}
    grounded = {"groundingChunks": web("a"), "groundingSupports": [support(0, 2, 0, text="no")]}
    frames = piece(ran, {"text": "no, yes"}, finish="STOP", groundingMetadata=grounded)
    text = "\n```python\n1\n```\nno, yes"
    assert cited(frames) == [("a", text.index("no"), text.index("no") + 2)]


def test_a_source_without_a_place_cites_the_whole() -> None:
    grounded = {"groundingChunks": [*web("a"), {"maps": {"uri": "b"}}, {"image": {}}]}
    frames = piece({"text": "four"}, finish="STOP", groundingMetadata=grounded)
    assert cited(frames) == [("a", 0, 4), ("b", 0, 4)]


def test_recited_works_are_named() -> None:
    sources = {
        "citationSources": [{"startIndex": 1, "endIndex": 3, "uri": "a"}, {"license": "mit"}]
    }
    assert cited(piece({"text": "four"}, finish="STOP", citationMetadata=sources)) == [("a", 1, 3)]


def test_the_engine_hands_out_this_decoder() -> None:
    decoder = Gemini().decoder(ChatRequest("m", {}), "sse", DEFAULT)
    assert isinstance(decoder, GeminiDecoder)
