"""Where a body ends: the same as h11 has it, wherever the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from uniapi.upstream.extent import Chunked, Extent, Sized, UntilClosed, extent_of

LIMIT = 1000


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


def as_h11(head: bytes, body: bytes) -> tuple[bytes, str, bytes]:
    """The body, how it ended, and what was left over."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=LIMIT)
    http.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    http.send(h11.EndOfMessage())
    http.receive_data(head)
    assert isinstance(http.next_event(), h11.Response)
    got = b""
    for piece in (body, b""):
        http.receive_data(piece)
        try:
            while True:
                match http.next_event():
                    case h11.Data(data=data):
                        got += bytes(data)
                    case h11.EndOfMessage():
                        return got, "whole", http.trailing_data[0]
                    case _:
                        break
        except h11.RemoteProtocolError:
            return got, "broken", b""
    return got, "broken", b""


def as_ours(extent: Extent, pieces: list[bytes]) -> tuple[bytes, str, bytes]:
    got = b""
    for piece in pieces:
        got += extent.feed(piece)
        if extent.failure:
            return got, "broken", b""
    if not extent.ended:
        extent.end()
    return got, "whole" if extent.ended else "broken", extent.rest


def head_of(head: bytes) -> h11.Response:
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    http.receive_data(head)
    event = http.next_event()
    assert isinstance(event, h11.Response)
    return event


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
PARTS = st.sampled_from(
    [
        b"5\r\nhello\r\n",
        b"1\r\nx\r\n",
        b"A;name=value\r\n0123456789\r\n",
        b"003 \r\nabc\r\n",
        b"2\r\n\r\n\r\n",
        b"0\r\n\r\n",
        b"0\r\nx-trailer: y\r\n\r\n",
        b"5\r\nhell\r\n",
        b"4\r\nhello\r\n",
        b"+4\r\nfour\r\n",
        b"0x4\r\nfour\r\n",
        b"g\r\n",
        b"\r\n",
        b"-1\r\n",
        b"fffffffffffffffffffff\r\n",
        b"3\nabc\n",
        b"HTTP/1.1 200 OK\r\n",
    ]
)


@given(st.lists(PARTS, max_size=8), st.lists(st.integers(0, 200), max_size=6))
@example([b"5\r\nhello\r\n", b"0\r\n\r\n"], [1, 4, 7, 8, 9, 10, 12])
@example([b"5\r\nhello\r\n", b"0\r\nx-trailer: y\r\n\r\n", b"1\r\nx\r\n"], [13, 20])
def test_chunks_end_where_h11_ends_them_wherever_they_are_cut(
    parts: list[bytes], places: list[int]
) -> None:
    body = b"".join(parts)
    theirs = as_h11(CHUNKED, body)
    ours = as_ours(Chunked(LIMIT), cut(body, places))
    assert ours == theirs


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_any_bytes_are_read_as_h11_reads_them(body: bytes, places: list[int]) -> None:
    theirs = as_h11(CHUNKED, body)
    ours = as_ours(Chunked(LIMIT), cut(body, places))
    assert ours[1:] == theirs[1:]
    assert ours[0].startswith(theirs[0])


@given(st.integers(0, 20), st.binary(max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_a_size_is_kept_to_wherever_it_is_cut(size: int, body: bytes, places: list[int]) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size
    assert as_ours(Sized(size), cut(body, places)) == as_h11(head, body)


def test_without_a_size_the_end_of_the_connection_is_the_end() -> None:
    assert as_ours(UntilClosed(), [b"ab", b"c"]) == (b"abc", "whole", b"")


def test_a_chunk_line_and_trailers_have_a_limit() -> None:
    line = Chunked(LIMIT)
    line.feed(b"5;" + b"x" * (LIMIT + 1))
    assert line.failure
    trailers = Chunked(LIMIT)
    trailers.feed(b"0\r\n")
    trailers.feed(b"a: b\r\n" * LIMIT)
    assert trailers.failure


@pytest.mark.parametrize(
    ("head", "bodiless", "kind"),
    [
        (CHUNKED, False, Chunked),
        (CHUNKED, True, Sized),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", False, Sized),
        (b"HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\n", False, Sized),
        (b"HTTP/1.1 200 OK\r\n\r\n", False, UntilClosed),
    ],
)
def test_the_head_says_how_the_body_ends(head: bytes, bodiless: bool, kind: type) -> None:
    extent = extent_of(head_of(head), bodiless=bodiless, limit=LIMIT)
    assert type(extent) is kind
    assert extent.ended == (bodiless or b"204" in head)
