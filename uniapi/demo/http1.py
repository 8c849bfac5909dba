"""Just enough of HTTP/1.1 to be asked: requests off any trio stream, one at a time.

Hand-rolled so that a scripted provider is cheap beside the gateway it measures, and so that it can
write bytes no library would agree to.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

import trio

HEAD_LIMIT: Final = 65_536
BODY_LIMIT: Final = 64_000_000


class BadRequestError(Exception):
    """What arrived is not a request we can read."""


@dataclass(frozen=True, slots=True)
class Message:
    """A request as it came.

    Attributes:
        method: as sent.
        path: the target without its query.
        headers: names in lower case; of several with one name, the last.
        body: all of it.
        keep_alive: whether the client will go on with this connection.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


class Connection:
    """One peer's stream and what has been read of it too early."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    async def request(self) -> Message | None:
        """The next request, or None when the peer closed instead.

        Raises:
            BadRequestError: for bytes that are no request, or more than the limits.
            trio.BrokenResourceError: when the peer reset the connection.
        """
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > HEAD_LIMIT:
                raise BadRequestError("the head is too long")
            if not await self._more():
                return None
        head = bytes(self._buffer[:end]).decode("latin-1")
        del self._buffer[: end + 4]
        first, *lines = head.split("\r\n")
        try:
            method, target, version = first.split(" ")
            pairs = (line.split(":", 1) for line in lines)
            headers = {name.strip().lower(): value.strip() for name, value in pairs}
            body = await self._body(headers)
        except ValueError:
            raise BadRequestError("not HTTP/1.1") from None
        kept = version == "HTTP/1.1" and "close" not in headers.get("connection", "").lower()
        return Message(method, target.partition("?")[0], headers, body, kept)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "chunked" in headers.get("transfer-encoding", "").lower():
            body = bytearray()
            while size := int((await self._line()).partition(b";")[0], 16):
                body += await self._exactly(size)
                await self._line()
                if len(body) > BODY_LIMIT:
                    raise BadRequestError("the body is too long")
            while await self._line():
                pass  # trailers
            return bytes(body)
        return await self._exactly(int(headers.get("content-length", "0")))

    async def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > HEAD_LIMIT or not await self._more():
                raise BadRequestError("a line without an end")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    async def _exactly(self, size: int) -> bytes:
        if not 0 <= size <= BODY_LIMIT:
            raise BadRequestError("the body is too long")
        while len(self._buffer) < size:
            if not await self._more():
                raise BadRequestError("the body was cut")
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _more(self) -> bool:
        data = await self.stream.receive_some()
        self._buffer += data
        return bool(data)

    async def gone(self) -> None:
        """Return when the peer has closed or reset; what it says before that is kept for later."""
        try:
            while await self._more():
                if len(self._buffer) > BODY_LIMIT:
                    await trio.sleep_forever()  # no more is read; its leaving shows in a write
        except trio.BrokenResourceError:
            return

    def reset(self) -> None:
        """Make the coming close a reset, where there is such a thing (a socket)."""
        match self.stream:
            case trio.SocketStream() as sockets:
                linger = struct.pack("ii", 1, 0)
                sockets.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            case _:
                pass
