"""Cutting an answer's bytes into frames: server-sent events, AWS's event stream, one JSON body.

A framer is fed the reads of one body in any cut whatever and gives the same frames. Memory holds
at most one unfinished frame; a frame above the cap is an error of the one who sent it.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol, TypeAlias

from uniapi import codec, eventstream

Framing: TypeAlias = Literal["sse", "json", "eventstream"]

MAX_EVENT: Final = 16_000_000  # bytes; a Gemini image is megabytes on one line
MAX_MESSAGE: Final = 16_911_000  # bytes; AWS's own limits: 16 MiB of payload, 128 KiB of headers
MAX_BODY: Final = 64_000_000  # bytes of one whole JSON answer
DONE: Final = b"[DONE]"
_BOM: Final = b"\xef\xbb\xbf"
_EVENT_END: Final = b"\n\n"
_BLANK: Final = b" \t\r\n"


class FramingError(ValueError):
    """The peer's bytes cannot be a frame: too large, or damaged."""


class Framer(Protocol):
    """Bytes in, frames out."""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames completed by this read.

        Raises:
            FramingError: when the unfinished frame outgrows its cap, or a checksum is wrong.
        """
        ...

    def end(self) -> list[bytes]:
        """The frames completed by the end of the body."""
        ...


class SseFramer:
    r"""Server-sent events to their data.

    Lines end in \n, \r\n or a lone \r; comments, `event`, `id`, `retry` and unknown fields are
    dropped; the data lines of one event are joined with \n. UTF-8 is not looked at: a character
    may be cut between reads, a line never is when it is handed out.
    """

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max = max_event
        self._line: list[bytes] = []  # the unfinished line, in the pieces it came in
        self._data: list[bytes] = []  # the data lines of the unfinished event
        self._line_size = 0  # bytes
        self._data_size = 0  # bytes
        self._after_cr = False  # a \n that comes now belongs to the \r that ended the last read
        self._first_line = True

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each event this read completed."""
        if data[-2:] == _EVENT_END and not (self._line or self._data or self._after_cr):
            whole = self._whole(data)
            if whole is not None:
                return whole
        if self._after_cr and data:
            self._after_cr = False
            if data[:1] == b"\n":
                data = data[1:]
        if b"\r" in data:
            self._after_cr = data[-1:] == b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        head, newline, rest = data.partition(b"\n")
        if not newline:
            self._keep(data)
            return []
        events: list[bytes] = []
        if self._line:
            self._line.append(head)
            head = b"".join(self._line)
            self._line.clear()
            self._line_size = 0
        self._take(head, events)
        *lines, tail = rest.split(b"\n")
        for line in lines:
            self._take(line, events)
        self._keep(tail)
        return events

    def _whole(self, data: bytes) -> list[bytes] | None:
        """The same for a read of whole events, one line of data each, as nearly all are.

        None for any other, which has to be read line by line.
        """
        if b"\r" in data or len(data) > self._max:
            return None
        events: list[bytes] = []
        for block in data[:-2].split(_EVENT_END):
            line = block
            if block[:6] == b"event:":  # a name before the data: Anthropic, Cohere
                line = block[block.find(b"\n") + 1 :]
            if line[:6] != b"data: " or b"\n" in line:
                return None
            events.append(line[6:])
        self._first_line = False
        return events

    def end(self) -> list[bytes]:
        """The last event when its blank line is missing but its data is whole."""
        events: list[bytes] = []
        if self._line:
            self._take(b"".join(self._line), events)
            self._line.clear()
        self._take(b"", events)
        return [event for event in events if _is_whole(event)]

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BOM)
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._data_size += len(value)
            self._check()
        elif line == b"data":
            self._data.append(b"")
        elif not line and self._data:
            events.append(b"\n".join(self._data))
            self._data.clear()
            self._data_size = 0

    def _keep(self, data: bytes) -> None:
        """Put aside the beginning of a line, or more of it."""
        if data:
            self._line.append(data)
            self._line_size += len(data)
            self._check()

    def _check(self) -> None:
        if self._line_size + self._data_size > self._max:
            raise FramingError(f"an event of over {self._max} bytes")


def _is_whole(data: bytes) -> bool:
    if data.strip(_BLANK) == DONE:
        return True
    try:
        codec.loads(data)
    except ValueError:
        return False
    return True


class EventStreamFramer:
    """AWS's event stream to one JSON object a message.

    An event is an object with the event's name over its payload (`{"messageStop":{...}}`), as the
    services' own models have it. An exception is `{"error":{"type":...,"message":...}}`.
    """

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        self._parser = eventstream.Parser(max_message)

    def feed(self, data: bytes) -> list[bytes]:
        """The events this read completed."""
        try:
            return [_event(message) for message in self._parser.feed(data)]
        except eventstream.EventStreamError as error:
            raise FramingError(str(error)) from error

    def end(self) -> list[bytes]:
        """Nothing: a message is whole or cut."""
        return []


def _event(message: eventstream.Message) -> bytes:
    headers = message.headers
    match headers.get(":message-type", "event"):
        case "event":
            # The payload is JSON already; reading it here would read it twice.
            name = codec.dumps(headers.get(":event-type", ""))
            return b"{%b:%b}" % (name, message.payload or b"{}")
        case "exception":
            said, kind = _said(message.payload), headers.get(":exception-type", "")
        case _:
            said, kind = headers.get(":error-message", ""), headers.get(":error-code", "")
    return codec.dumps({"error": {"type": kind, "message": said}})


def _said(payload: bytes) -> str:
    """The message of an exception, whose first letter is a capital in some of AWS's services."""
    try:
        value = codec.loads_mended(payload)
    except ValueError:
        return payload.decode("utf-8", "replace")
    match value:
        case {"message": str(said)} | {"Message": str(said)}:
            return said
        case _:
            return ""


class JsonFramer:
    """One JSON body: a single frame at the end."""

    def __init__(self, max_body: int = MAX_BODY) -> None:
        self._max = max_body
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Nothing yet; the body is kept."""
        self._size += len(data)
        if self._size > self._max:
            raise FramingError(f"a body of over {self._max} bytes")
        self._parts.append(data)
        return []

    def end(self) -> list[bytes]:
        """The whole body; nothing for a blank one."""
        body = b"".join(self._parts)
        self._parts.clear()
        return [body] if body.strip(_BLANK) else []


def actual(asked: Framing, content_type: str, start: bytes) -> Framing:
    """How a body really is cut: servers answer a stream with JSON, and JSON with a stream.

    Args:
        asked: what the call asked for.
        content_type: the response's header, which some servers get wrong.
        start: the first bytes of the body.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == eventstream.CONTENT_TYPE:
        return "eventstream"
    start = start.lstrip(_BOM + _BLANK)
    told: Framing = "sse" if kind == "text/event-stream" else asked
    if told != "json":
        # No event begins so; of AWS's, the message would be 1 GB and more.
        return "json" if start[:1] in {b"{", b"[", b"<"} else told
    return "sse" if start.startswith((b"data:", b"event:")) else "json"


def framer(framing: Framing) -> Framer:
    """A fresh framer."""
    match framing:
        case "sse":
            return SseFramer()
        case "json":
            return JsonFramer()
        case "eventstream":
            return EventStreamFramer()
