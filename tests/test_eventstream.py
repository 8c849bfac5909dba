"""AWS's event stream: the same messages in any cut, damage is seen, and botocore agrees."""

from __future__ import annotations

import struct
import zlib

import pytest
from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped] # ships no types
from hypothesis import given
from hypothesis import strategies as st

from tests.kit import awsframes
from uniapi.codec import loads
from uniapi.eventstream import EventStreamError, Message, Parser
from uniapi.framing import EventStreamFramer, FramingError, actual, framer

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
HEADERS = st.dictionaries(NAMES, st.text(max_size=40), max_size=4)
MESSAGES = st.lists(st.tuples(HEADERS, st.binary(max_size=200)), min_size=1, max_size=5)
ONE = awsframes.encode('event messageStop {"stopReason":"end_turn"}')


def parsed(data: bytes, *cuts: int) -> list[Message]:
    parser = Parser(1_000_000)
    found: list[Message] = []
    for begin, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
        found += parser.feed(data[begin:end])
    return found


@given(MESSAGES, st.data())
def test_any_messages_in_any_cut_are_read_as_botocore_reads_them(
    messages: list[tuple[dict[str, str], bytes]], choose: st.DataObject
) -> None:
    data = b"".join(awsframes.message(headers, payload) for headers, payload in messages)
    cuts = sorted(choose.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    found = parsed(data, *cuts)
    assert [(message.headers, message.payload) for message in found] == messages
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    assert [(event.headers, event.payload) for event in buffer] == messages


def test_every_bit_that_flips_is_seen() -> None:
    for place in range(len(ONE)):
        for bit in range(8):
            damaged = bytearray(ONE)
            damaged[place] ^= 1 << bit
            with pytest.raises(EventStreamError):
                parsed(bytes(damaged))


def test_a_message_that_is_not_whole_is_held_and_never_guessed() -> None:
    for place in range(len(ONE)):
        assert parsed(ONE[:place]) == []


def sealed(prelude: bytes, rest: bytes = b"") -> bytes:
    """A message whose checksums are right, whatever else is wrong."""
    told = prelude + struct.pack(">I", zlib.crc32(prelude)) + rest
    return told + struct.pack(">I", zlib.crc32(told))


def with_headers(packed: bytes) -> bytes:
    return sealed(struct.pack(">II", 16 + len(packed), len(packed)), packed)


@pytest.mark.parametrize(
    "data",
    [
        sealed(struct.pack(">II", 15, 0)),
        sealed(struct.pack(">II", 20, 5)),
        sealed(struct.pack(">II", 1_000_001, 0)),
        with_headers(b"\x01"),
        with_headers(b"\x01a"),
        with_headers(b"\x01a\x63"),
        with_headers(b"\x01a\x07\x00"),
        with_headers(b"\x01a\x07\x00\x09x"),
        with_headers(b"\x01a\x07\x00\x01\xff"),
    ],
)
def test_messages_that_contradict_themselves_are_refused(data: bytes) -> None:
    with pytest.raises(EventStreamError):
        parsed(data)


def test_headers_of_every_type_are_stepped_over() -> None:
    values = [
        b"\x00", b"\x01", b"\x02\x07", b"\x03\x00\x07", b"\x04\x00\x00\x00\x07",
        b"\x05" + bytes(8), b"\x06\x00\x02hi", b"\x08" + bytes(8), b"\x09" + bytes(16),
        b"\x07\x00\x02hi",
    ]  # fmt: skip
    packed = b"".join(b"\x01" + bytes([97 + n]) + value for n, value in enumerate(values))
    assert parsed(with_headers(packed)) == [Message({"j": "hi"}, b"")]


def test_a_frame_is_the_event_under_its_name() -> None:
    assert EventStreamFramer().feed(ONE) == [b'{"messageStop":{"stopReason":"end_turn"}}']
    bare = awsframes.message({":event-type": "ping"}, b"")
    assert EventStreamFramer().feed(bare) == [b'{"ping":{}}']
    assert EventStreamFramer().end() == []


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ('exception throttlingException {"message":"slow"}', "throttlingException", "slow"),
        ('exception X {"Message":"slow"}', "X", "slow"),
        ("exception X {}", "X", ""),
        ("exception X plain words", "X", "plain words"),
        ("error InternalFailure it broke", "InternalFailure", "it broke"),
    ],
)
def test_an_exception_is_an_error_object(line: str, kind: str, said: str) -> None:
    (frame,) = EventStreamFramer().feed(awsframes.encode(line))
    assert loads(frame) == {"error": {"type": kind, "message": said}}


def test_damage_is_the_framers_error_and_so_is_size() -> None:
    with pytest.raises(FramingError, match="checksum"):
        EventStreamFramer().feed(ONE[:-1] + bytes([ONE[-1] ^ 1]))
    with pytest.raises(FramingError, match="over 20 bytes"):
        EventStreamFramer(20).feed(ONE)


def test_what_a_body_is_depends_on_what_it_is_called_and_how_it_starts() -> None:
    aws = "application/vnd.amazon.eventstream"
    assert actual("json", aws, ONE) == "eventstream"
    assert actual("eventstream", aws, ONE) == "eventstream"
    assert actual("eventstream", "application/octet-stream", ONE) == "eventstream"
    assert actual("eventstream", "application/json", b'{"message":"no"}') == "json"
    assert actual("eventstream", "text/event-stream", b"data: {}") == "sse"
    assert isinstance(framer("eventstream"), EventStreamFramer)
