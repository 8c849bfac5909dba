"""Framing laws: the cut of the reads changes nothing, and a line costs what it is long."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from types import FrameType

from hypothesis import given
from hypothesis import strategies as st

from uniapi.framing import SseFramer

# Pieces an SSE text is made of, with everything a cut may fall into.
PIECES = st.one_of(
    st.sampled_from(
        [
            b"\n",
            b"\r\n",
            b"\r",
            b"data: ",
            b"data:",
            b"data",
            b"event: error",
            b": comment",
            b":",
            b"id: 1",
            b"\xef\xbb\xbf",
            "é\u2028\U0001f600".encode(),
            b'{"a":1}',
            b"[DONE]",
            b" ",
        ]
    ),
    st.binary(max_size=4),
)
TEXTS = st.lists(PIECES, max_size=40).map(b"".join)


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return (data[start:end] for start, end in pairwise(edges))


def frames(reads: Iterator[bytes]) -> list[bytes]:
    sse = SseFramer()
    found = [frame for read in reads for frame in sse.feed(read)]
    return [*found, *sse.end()]


def by_the_standard(data: bytes) -> list[bytes]:
    """The events by the standard's own words, slowly: one line after another."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    lines.pop()  # what no newline has ended
    events: list[bytes] = []
    held: list[bytes] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not line:
            events += [b"\n".join(held)] if held else []
            held = []
        elif name == b"data":
            held.append(value.removeprefix(b" ") if colon else b"")
    return events


@given(TEXTS, st.lists(st.integers(0, 400), max_size=12))
def test_any_cut_gives_the_same_frames(data: bytes, places: list[int]) -> None:
    assert frames(cut(data, places)) == frames(iter([data]))


@given(TEXTS)
def test_every_byte_on_its_own_gives_the_same_frames(data: bytes) -> None:
    bytewise = (data[n : n + 1] for n in range(len(data)))
    assert frames(bytewise) == frames(iter([data]))


@given(TEXTS)
def test_the_frames_are_those_of_the_standard(data: bytes) -> None:
    # A blank line of our own: what the standard discards at the end is another promise.
    data += b"\n\n"
    assert frames(iter([data])) == by_the_standard(data)


@given(
    st.lists(st.lists(st.binary(max_size=8).filter(lambda b: not {10, 13} & set(b)), min_size=1)),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_what_is_written_as_events_is_read_as_them(events: list[list[bytes]], end: bytes) -> None:
    text = b"".join(
        b"".join(b"data: " + line + end for line in event) + b": noise" + end + end
        for event in events
    )
    assert frames(iter([text])) == [b"\n".join(event) for event in events]


def bytes_copied(size: int, read: int) -> int:
    """Bytes the framer joins, splits or replaces for one line of `size` in reads of `read`.

    Counted, not timed: the bytes in every local of every call at its return are what the call has
    made or was given, and those in one piece on the framer itself are a buffer it would scan.
    """
    counted = 0

    def count(frame: FrameType, event: str, _arg: object) -> None:
        nonlocal counted
        if event == "return" and frame.f_code.co_filename.endswith("framing.py"):
            kept = (value for value in sse_state() if isinstance(value, bytes | bytearray))
            for value in (*frame.f_locals.values(), *kept):
                match value:
                    case bytes() | bytearray():
                        counted += len(value)
                    case list():
                        counted += sum(len(item) for item in value if isinstance(item, bytes))
                    case _:
                        pass

    sse = SseFramer()

    def sse_state() -> Iterable[object]:
        return vars(sse).values()

    line = b"data: " + b"x" * size + b"\n\n"
    found = []
    sys.setprofile(count)
    try:
        for start in range(0, len(line), read):
            found += sse.feed(line[start : start + read])
    finally:
        sys.setprofile(None)
    assert [len(frame) for frame in found] == [size]
    return counted


def test_a_line_of_4_mb_in_reads_of_64_bytes_costs_what_it_is_long() -> None:
    small, large = bytes_copied(250_000, 64), bytes_copied(4_000_000, 64)
    assert large < 17 * small, "sixteen times the line, sixteen times the work"
    assert large < 20 * 4_000_000
