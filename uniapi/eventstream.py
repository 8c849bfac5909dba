"""AWS's event stream: binary messages with headers, a payload and two checksums.

    total length, headers length, CRC of these two | headers | payload | CRC of all before it

Lengths and CRCs are big-endian u32; the CRC is zlib's. A header is a name (u8 length), a type (u8)
and a value whose size the type tells. Source: the event stream encoding in the Smithy and Amazon
Transcribe documentation.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"
_PRELUDE: Final = struct.Struct(">III")
_CRC: Final = 4  # bytes
_LEAST: Final = _PRELUDE.size + _CRC  # bytes of a message that holds nothing
# By a header's type number: the bytes of its value. 6 (bytes) and 7 (text) tell their own length.
_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_BYTES, _TEXT = 6, 7


class EventStreamError(ValueError):
    """Bytes that are no event stream, or one damaged on its way."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        headers: those with text for a value, by name as sent (`:event-type`).
        payload: as sent; JSON, mostly.
    """

    headers: Mapping[str, str]
    payload: bytes


class Parser:
    """The reads of one body to messages, in any cut; holds at most one unfinished message."""

    def __init__(self, max_message: int) -> None:
        """`max_message` is in bytes, headers and checksums included."""
        self._max = max_message
        self._held = bytearray()
        self._wanted = _PRELUDE.size  # bytes without which there is nothing to look at

    def feed(self, data: bytes) -> list[Message]:
        """The messages this read completed.

        Raises:
            EventStreamError: a checksum is wrong, lengths contradict each other, a message is too
                large; what came before it in the same read is lost with it.
        """
        held = self._held
        held += data
        messages: list[Message] = []
        start = 0
        while len(held) - start >= self._wanted:
            if self._wanted == _PRELUDE.size:
                self._wanted = self._total(start)
                continue
            end = start + self._wanted
            messages.append(_message(bytes(held[start:end])))
            start, self._wanted = end, _PRELUDE.size
        del held[:start]
        return messages

    def _total(self, start: int) -> int:
        """The length of the message that starts here, once its prelude is known to be sound."""
        total, headers, crc = _PRELUDE.unpack_from(self._held, start)
        prelude = self._held[start : start + _PRELUDE.size - _CRC]
        if zlib.crc32(prelude) != crc:
            raise EventStreamError("an event stream message with a wrong prelude checksum")
        if total < _LEAST + headers:
            raise EventStreamError("an event stream message with impossible lengths")
        if total > self._max:
            raise EventStreamError(f"an event stream message of over {self._max} bytes")
        return int(total)


def _message(data: bytes) -> Message:
    (crc,) = struct.unpack_from(">I", data, len(data) - _CRC)
    if zlib.crc32(data[:-_CRC]) != crc:
        raise EventStreamError("an event stream message with a wrong checksum")
    _, length, _ = _PRELUDE.unpack_from(data)
    body = _PRELUDE.size + length
    return Message(_headers(data[_PRELUDE.size : body]), data[body:-_CRC])


def _headers(data: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            named = at + 1 + data[at]
            name, kind = data[at + 1 : named].decode(), data[named]
            at = named + 1
            if kind in {_BYTES, _TEXT}:
                (size,) = struct.unpack_from(">H", data, at)
                at += 2
            else:
                size = _SIZES[kind]
            value, at = data[at : at + size], at + size
            if kind == _TEXT:
                found[name] = value.decode()
    except (IndexError, KeyError, struct.error, UnicodeDecodeError):
        raise EventStreamError("an event stream message with malformed headers") from None
    if at != len(data):
        raise EventStreamError("an event stream message with malformed headers")
    return found
