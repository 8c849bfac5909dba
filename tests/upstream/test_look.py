"""What is told of an answer without understanding it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniapi.codec import Json, dumps
from uniapi.errors import Failure, Kind
from uniapi.events import Start, Usage
from uniapi.framing import SseFramer
from uniapi.relay import EMBEDDINGS, SPEECH
from uniapi.upstream import look

LARGE = b'{"data":"' + b"x" * 300_000


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", Kind.EMPTY),
        (b" \r\n\t", Kind.EMPTY),
        (b" " * 300_000, Kind.GARBAGE),
        (b"hello", Kind.GARBAGE),
        (b'{"a":', Kind.GARBAGE),
        (b'{"a":NaN}', Kind.GARBAGE),
        (LARGE, Kind.GARBAGE),
        (LARGE[1:] + b'"}', Kind.GARBAGE),
        (b'{"error":{"message":"over","code":429}}', Kind.RATE_LIMIT),
        (b'{"error":"over"}', Kind.GARBAGE),
        (b'{"object":"error","message":"no"}', Kind.GARBAGE),
        (b'{"success":false,"errors":[{"message":"no"}]}', Kind.GARBAGE),
    ],
)
def test_what_is_no_answer(body: bytes, kind: Kind) -> None:
    found = look.whole(body, EMBEDDINGS)
    assert isinstance(found, Failure)
    assert found.kind is kind


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b'{"error":null}', b'{"errors":[]}', b'{"error":{}}', LARGE + b'"}\n'],
)
def test_what_is_one(body: bytes) -> None:
    assert look.whole(body, EMBEDDINGS) == ()


def test_json_is_no_speech_however_large() -> None:
    for body in (b"{}", LARGE + b'"}'):
        assert isinstance(look.whole(body, SPEECH), Failure)


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8, 0, 8)),
        ({"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}, Usage(3, 4, 7)),
        ({"input_tokens": 3, "output_tokens": 4, "input_token_details": {"x": 1}}, Usage(3, 4, 7)),
        ({"type": "duration", "seconds": 9}, None),
        ({"prompt_tokens": "8"}, None),
        (None, None),
    ],
)
@pytest.mark.parametrize("size", [0, 300_000])
def test_tokens_are_found_in_bodies_small_and_large(
    usage: Json, counted: Usage | None, size: int
) -> None:
    body = dumps({"data": "x" * size, "usage": usage})
    assert look.whole(body, EMBEDDINGS) == (() if counted is None else (counted,))
    assert tuple(look.counted([body])) == (() if counted is None else (counted,))


def test_the_model_is_told_where_it_is_read() -> None:
    assert look.whole(b'{"model":"m-1"}', EMBEDDINGS) == (Start(model="m-1"),)


@pytest.mark.parametrize(
    ("events", "owes"),
    [
        ([], False),
        ([b'{"type":"image_generation.partial_image"}'], True),
        ([b'{"type":"image_edit.partial_image"}', b'{"type":"image_edit.completed"}'], False),
        ([b'{"type": "transcript.text.delta"}', b'{"type": "transcript.text.done"}'], False),
        ([b'{"type":"speech.audio.delta"}', b"[DONE]"], True),
        ([b'{"type":"something.else"}'], False),
        ([b"[DONE]"], False),
    ],
)
def test_a_stream_owes_its_last_event(events: list[bytes], owes: bool) -> None:
    assert look.unfinished(events, before=False) is owes
    assert look.unfinished([], before=owes) is owes


@given(
    st.lists(st.sampled_from(["data: a", "data: b", ": note", "event: x"]), max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.binary(max_size=4).filter(lambda tail: b"\r" not in tail and b"\n" not in tail),
)
def test_where_events_end_the_framer_agrees(lines: list[str], end: str, tail: bytes) -> None:
    data = bytearray("".join(line + end * 2 for line in lines).encode() + tail)
    cut = look.events_end(data)
    assert bytes(data[cut:]) == tail
    whole, first = SseFramer(), SseFramer()
    assert first.feed(bytes(data[:cut])) == whole.feed(bytes(data))


@given(st.binary(max_size=40), st.booleans())
def test_whatever_comes_there_is_a_verdict(body: bytes, speech: bool) -> None:
    look.whole(body, SPEECH if speech else EMBEDDINGS)
    look.error_in(body)
