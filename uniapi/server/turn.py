"""One request of an HTTP/1.1 connection and its answer, between ASGI and h11.

Hypercorn's own stream makes an event of each message, logs an access nobody reads and writes a
head, a body and an end by themselves: six writes, two of which have bytes. This one writes the
head together with the first of the body and the end together with the last: 60 us a call less.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from time import time
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import unquote
from wsgiref.handlers import format_date_time

import h11

# ASGI messages are typed at our edge, past this room.
Message: TypeAlias = Any
Put: TypeAlias = Callable[[Message], Awaitable[None]]

_HEAD_ONLY: Final = frozenset({204, 304})
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_NO_LINE: Final = re.compile(rb"[\r\n\0]")
_ASGI: Final = {"spec_version": "2.1", "version": "3.0"}

SENDING: Final = "uniapi.sending"
"""The key in an ASGI scope's `extensions` of `Turn.send_now`."""


class Wire(Protocol):
    """The connection, as a turn needs it."""

    def encoded(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> bytes:
        """What to write; nothing when the client broke the protocol meanwhile."""
        ...

    def write_now(self, data: bytes) -> bytes:
        """Write what can be written without waiting, nearly always all of it; what is left."""
        ...

    async def write(self, data: bytes) -> None:
        """Write, and wait for it."""
        ...

    async def over(self) -> None:
        """Nothing more will be said in this turn; the answer may be without its end."""
        ...


class Turn:
    """One request and its answer.

    Attributes:
        closed: the client has gone, or the turn is over: what is still said goes nowhere.
    """

    __slots__ = (
        "_chunked",
        "_ended",
        "_held",
        "_last",
        "_put",
        "_silent",
        "_started",
        "_wire",
        "closed",
    )

    def __init__(self, wire: Wire, *, last: bool) -> None:
        """`last` closes the connection after the answer."""
        self._wire = wire
        self._last = last
        self._put: Put | None = None
        self._held = b""  # goes out with what follows: the head, or what was left of a part
        self._chunked = False
        self._started = False
        self._silent = False
        self._ended = False
        self.closed = False

    def begin(self, put: Put, method: bytes) -> None:
        """The application runs; `put` hands it messages."""
        self._put = put
        self._silent = method == b"HEAD"

    async def body(self, data: bytes) -> None:
        """A part of the request's body has come."""
        if self._put is not None and not self.closed:
            await self._put({"type": "http.request", "body": data, "more_body": True})

    async def end(self) -> None:
        """The request is whole."""
        if self._put is not None and not self.closed:
            await self._put({"type": "http.request", "body": b"", "more_body": False})

    async def close(self) -> None:
        """The client has gone, or the answer has been given."""
        if self.closed:
            return
        self.closed = True
        if self._put is not None:
            await self._put({"type": "http.disconnect"})

    async def send(self, message: Message) -> None:
        """What the application says; None when it has ended."""
        if self.closed:
            return
        if message is None:
            await self._finish()
            return
        match message["type"]:
            case "http.response.body" if self._started and not self._ended:
                await self._send_body(message.get("body", b""), message.get("more_body", False))
            case "http.response.start" if not self._started:
                self._start(message["status"], message["headers"])
            case kind:
                raise RuntimeError(f"an ASGI message out of turn: {kind}")

    def send_now(self, body: bytes) -> bool:
        """Send a part of the body of an answer that has begun, without waiting.

        False when some of it is left: it goes out with the next message, before anything else.
        """
        if self.closed:
            return True
        data, self._held = self._held, b""
        if body and not self._silent:
            data += self._framed(body)
        self._held = self._wire.write_now(data)
        return not self._held

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        framing, others = _parted(headers)
        self._started = True
        self._silent = self._silent or status in _HEAD_ONLY
        if self._last:
            framing.append((b"connection", b"close"))
        head = self._wire.encoded(h11.Response(status_code=status, headers=framing))
        self._held = head and head[:-2] + others + b"date: %b\r\n\r\n" % date()
        # A word of h11's own: it comes where no length was given, and the client knows chunks.
        self._chunked = b"\r\nTransfer-Encoding: chunked\r\n" in self._held

    async def _send_body(self, body: bytes, more: bool) -> None:
        wire = self._wire
        data, self._held = self._held, b""
        if body and not self._silent:
            data += self._framed(body)
        if not more:
            data += wire.encoded(h11.EndOfMessage())
            self._ended = True
        await self._write(data)
        if not more:
            await wire.over()

    async def _write(self, data: bytes) -> None:
        if data and (left := self._wire.write_now(data)):
            await self._wire.write(left)

    def _framed(self, body: bytes) -> bytes:
        """A part of the body as the head said it would come; h11 minds all but the chunks."""
        if self._chunked:
            return b"%x\r\n%b\r\n" % (len(body), body)
        return self._wire.encoded(h11.Data(data=body))

    async def _finish(self) -> None:
        """The application has ended; without an answer that is an error, and told as one."""
        if not self._started:
            self._last = True
            self._start(500, [(b"content-length", b"0")])
            await self._send_body(b"", more=False)
        elif not self._ended:
            await self._write(self._held)
            await self._wire.over()


def _parted(headers: list[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers by which an answer ends, for h11 to judge, and the lines of the others.

    h11 takes 2 us to check each; that none of the others is more than one line is seen at once.

    Raises:
        ValueError: one is.
    """
    framing = [item for item in headers if item[0].lower() in _FRAMING]
    lines = [b"%b: %b" % item for item in headers if item[0].lower() not in _FRAMING]
    if _NO_LINE.search(b"".join(lines)):
        raise ValueError("an answer's header holds what no header can")
    return framing, b"".join([line + b"\r\n" for line in lines])


def scope_of(request: h11.Request, *, scheme: str, client: object, server: object) -> Message:
    """The ASGI scope of a request."""
    path, _, query = request.target.partition(b"?")
    return {
        "type": "http",
        "http_version": request.http_version.decode(),
        "asgi": _ASGI,
        "method": request.method.decode("ascii").upper(),
        "scheme": scheme,
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": list(request.headers),
        "client": client,
        "server": server,
        "state": {},
        "extensions": {},
    }


_dates: tuple[int, bytes] = (0, b"")


def date() -> bytes:
    """The time of the answer, as HTTP writes it; made once a second."""
    global _dates  # noqa: PLW0603 - a cache of one
    now = int(time())
    if _dates[0] != now:
        _dates = (now, format_date_time(now).encode("ascii"))
    return _dates[1]
