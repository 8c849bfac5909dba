"""Server-sent events to the letter, and whole bodies; what a recorded stream can throw at it."""

from __future__ import annotations

import pytest

from uniapi.framing import Framer, Framing, FramingError, JsonFramer, SseFramer, actual, framer


def frames(data: bytes) -> list[bytes]:
    sse = SseFramer()
    return [*sse.feed(data), *sse.end()]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\r", [b"a"]),
        (b"data: a\r\n\rdata: b\n\r", [b"a", b"b"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a  \n\n", [b"a  "]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"data:\n\n", [b""]),
        (b"data: a\ndata\ndata:\n\n", [b"a\n\n"]),
        (b"\n\n\n\ndata: a\n\n\n\n", [b"a"]),
        (b": comment\n\n:\n\n: OPENROUTER PROCESSING\n\ndata: a\n\n", [b"a"]),
        (b"data: a\n: in between\ndata: b\n\n", [b"a\nb"]),
        (b"event: ping\n\n", []),
        (b"event: error\ndata: a\n\n", [b"a"]),
        (b"id: 1\nretry: 10\ndata: a\nx-new: y\n\n", [b"a"]),
        (b"database: a\n\n", []),
        (b" data: a\n\n", []),
        (b"DATA: a\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (
            "data: \u2028\u2029\x85\x0c\x0b\x1c\n\n".encode(),
            ["\u2028\u2029\x85\x0c\x0b\x1c".encode()],
        ),
        ('data: {"a":"é\U0001f600"}\n\n'.encode(), ['{"a":"é\U0001f600"}'.encode()]),
        (b"data: [DONE]\n\n", [b"[DONE]"]),
    ],
)
def test_events_are_cut_as_the_standard_says(data: bytes, found: list[bytes]) -> None:
    assert frames(data) == found


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_no_event_is_held_back_until_more_comes(newline: bytes) -> None:
    sse = SseFramer()
    assert sse.feed(b"data: a" + newline + newline) == [b"a"]
    assert sse.feed(b"data: b" + newline + newline) == [b"b"]


def test_a_newline_cut_between_its_two_bytes_is_one_newline() -> None:
    sse = SseFramer()
    assert sse.feed(b"data: a\r") == []
    assert sse.feed(b"\ndata: b\r") == []
    assert sse.feed(b"\n\r") == [b"a\nb"]
    assert sse.feed(b"\ndata: c\r\n\r\n") == [b"c"]


@pytest.mark.parametrize(
    ("tail", "found"),
    [
        (b'data: {"a":1}', [b'{"a":1}']),
        (b'data: {"a":1}\n', [b'{"a":1}']),
        (b'data: {"a":1}\r', [b'{"a":1}']),
        (b"data: [DONE]", [b"[DONE]"]),
        (b"data: [DONE] ", [b"[DONE] "]),
        (b'data: {"a":', []),
        (b"data: [DON", []),
        (b"dat", []),
        (b": bye", []),
        (b"", []),
    ],
)
def test_a_last_event_without_its_blank_line_counts_when_it_is_whole(
    tail: bytes, found: list[bytes]
) -> None:
    assert frames(b"data: first\n\n" + tail) == [b"first", *found]


@pytest.mark.parametrize("cut", [1, 3, 100, 5000])
def test_an_event_larger_than_the_cap_is_refused_however_it_is_cut(cut: int) -> None:
    data = b"data: " + b"x" * 3000 + b"\n\n"
    reads = [data[start : start + cut] for start in range(0, len(data), cut)]
    with pytest.raises(FramingError):
        fed(SseFramer(max_event=1000), reads)
    assert fed(SseFramer(max_event=4000), reads) == [b"x" * 3000]


def test_many_lines_of_one_event_are_held_to_the_cap_together() -> None:
    lines = [b"data: 0123456789\n"] * 200
    with pytest.raises(FramingError):
        fed(SseFramer(max_event=1000), lines)


def fed(sse: SseFramer, reads: list[bytes]) -> list[bytes]:
    return [frame for read in reads for frame in sse.feed(read)]


def test_what_is_dropped_does_not_count_towards_the_cap() -> None:
    sse = SseFramer(max_event=1000)
    for _ in range(500):
        assert sse.feed(b": still thinking\n\n") == []
        assert sse.feed(b": still thinking\n") == []
        assert sse.feed(b"event: ping\n\n") == []
    assert sse.feed(b"data: a\n\n") == [b"a"]


def test_comments_inside_an_event_do_not_count_either() -> None:
    sse = SseFramer(max_event=1000)
    sse.feed(b"data: a\n")
    for _ in range(500):
        assert fed(sse, [b": still", b" thinking\n"]) == []
    assert sse.feed(b"\n") == [b"a"]


def test_a_line_without_an_end_is_held_to_the_cap_whatever_it_is() -> None:
    with pytest.raises(FramingError):
        fed(SseFramer(max_event=1000), [b": endless "] * 200)


def test_events_one_after_another_do_not_add_up_to_the_cap() -> None:
    sse = SseFramer(max_event=100)
    for _ in range(50):
        assert sse.feed(b"data: 0123456789\n\n") == [b"0123456789"]


def test_a_json_body_is_one_frame_at_its_end() -> None:
    json = JsonFramer()
    assert json.feed(b'{"a":') == []
    assert json.feed(b"1}\n") == []
    assert json.end() == [b'{"a":1}\n']


@pytest.mark.parametrize("blank", [b"", b"  \r\n\t"])
def test_a_blank_body_is_no_frame(blank: bytes) -> None:
    json = JsonFramer()
    json.feed(blank)
    assert json.end() == []


def test_a_json_body_is_held_to_its_cap() -> None:
    json = JsonFramer(max_body=10)
    json.feed(b"12345")
    with pytest.raises(FramingError):
        json.feed(b"678901")


@pytest.mark.parametrize(
    ("asked", "content_type", "start", "really"),
    [
        ("sse", "text/event-stream; charset=utf-8", b"data: ", "sse"),
        ("sse", "Text/Event-Stream", b": hi", "sse"),
        ("sse", "text/event-stream", b' {"error"', "json"),
        ("json", "text/event-stream", b'{"id"', "json"),
        ("sse", "text/event-stream", b"<html>", "json"),
        ("eventstream", "text/event-stream", b"data: ", "sse"),
        ("eventstream", "application/json", b"\x00\x00", "eventstream"),
        ("json", "text/event-stream", b"data: ", "sse"),
        ("sse", "application/json", b'{"id"', "json"),
        ("sse", "application/octet-stream", b"data: ", "sse"),
        ("sse", "text/plain", b": comment", "sse"),
        ("sse", "application/json", b"data: {}", "sse"),
        ("sse", "", b"\xef\xbb\xbf \r\n{", "json"),
        ("sse", "text/html", b"<html>", "json"),
        ("json", "application/json", b'{"id"', "json"),
        ("json", "text/plain", b"data: {}", "sse"),
        ("json", "application/json", b"event: message", "sse"),
        ("json", "", b"", "json"),
    ],
)
def test_how_a_body_is_cut_is_seen_from_what_comes(
    asked: Framing, content_type: str, start: bytes, really: Framing
) -> None:
    assert actual(asked, content_type, start) == really


def test_each_framing_has_a_fresh_framer() -> None:
    first: Framer = framer("sse")
    first.feed(b"data: a\n")
    assert framer("sse").feed(b"\n") == []
    assert framer("json").end() == []
