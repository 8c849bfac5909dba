"""AWS's event stream for people: one message a line, made into the bytes of the wire.

    event messageStop {"stopReason":"end_turn"}
    exception throttlingException {"message":"Too many requests"}
    error InternalFailure the words of the error

A line may be a `# comment` or blank.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One message, with headers of type text."""
    packed = b"".join(
        struct.pack(">B", len(name.encode())) + name.encode() + b"\x07"
        + struct.pack(">H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )  # fmt: skip
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    told = prelude + struct.pack(">I", zlib.crc32(prelude)) + packed + payload
    return told + struct.pack(">I", zlib.crc32(told))


def encode(text: str) -> bytes:
    """The bytes of all the messages in a text."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return b"".join(_line(line) for line in lines)


def _line(line: str) -> bytes:
    kind, name, payload = line.split(" ", 2)
    match kind:
        case "event" | "exception":
            headers = {
                f":{kind}-type": name,
                ":content-type": "application/json",
                ":message-type": kind,
            }
            return message(headers, payload.encode())
        case "error":
            headers = {":error-code": name, ":error-message": payload, ":message-type": kind}
            return message(headers, b"")
        case _:
            raise ValueError(f"not a message: {line}")
