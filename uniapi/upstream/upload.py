"""One request on its way out: in a single write when it is small, in pieces when it is not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Final

import trio

from uniapi.upstream import httperrors
from uniapi.upstream.outgoing import Outgoing

PIECE = 64 * 1024
"""Bytes in one write; also the size from which a body is written while the answer is awaited."""

_LAST: Final = b"0\r\n\r\n"  # the chunk that is none


class Upload:
    """The writing of one request, and what became of it.

    Losing the connection is no error here but a fact for the reader: the server may have answered
    before it hung up.

    Args:
        stream: where to write.
        request: what.
    """

    __slots__ = ("_left", "_request", "_stopped", "_stream", "broken", "failure", "whole")

    def __init__(self, stream: trio.abc.Stream, request: Outgoing) -> None:
        self._stream = stream
        self._request = request
        self._left = request.length
        self._stopped = False
        self.whole = False
        """All of it has been written."""
        self.broken: Exception | None = None
        """How the connection was lost, when it was."""
        self.failure: Exception | None = None
        """What went wrong on this side: the caller's stream failed, or is not as declared."""

    async def send_whole(self, content: bytes) -> None:
        """Head and body in one write."""
        body = content and self._framed(content)
        end = _LAST if self._request.chunked else b""
        try:
            await self._stream.send_all(self._request.head + body + end)
            self.whole = True
        except httperrors.LOST as error:
            self.broken = error

    async def send_pieces(self) -> None:
        """Head, then the body piece by piece; raises nothing, see `broken` and `failure`."""
        request = self._request
        try:
            await self._stream.send_all(request.head)
            match request.content:
                case bytes() as content:
                    await self._send_slices(content)
                case content:
                    await self._send_stream(content)
            if not self._stopped:
                await self._send_end()
        except httperrors.LOST as error:
            self.broken = error
        except Exception as error:  # noqa: BLE001 - the caller's stream may raise anything
            self.failure = error

    def stop(self) -> None:
        """Write nothing after the piece under way: the server wants no more."""
        self._stopped = True

    async def _send_stream(self, content: AsyncIterable[bytes]) -> None:
        chunks = aiter(content)
        try:
            async for chunk in chunks:
                await self._send_slices(chunk)
                if self._stopped:
                    return
        finally:
            match chunks:
                case AsyncGenerator():
                    await chunks.aclose()
                case _:
                    pass

    async def _send_slices(self, content: bytes) -> None:
        for start in range(0, len(content), PIECE):
            await self._stream.send_all(self._framed(content[start : start + PIECE]))
            if self._stopped:
                return

    async def _send_end(self) -> None:
        if self._left:
            raise httperrors.unsendable()  # less than was declared
        if self._request.chunked:
            await self._stream.send_all(_LAST)
        self.whole = True

    def _framed(self, piece: bytes) -> bytes:
        if self._request.chunked:
            return b"%x\r\n%b\r\n" % (len(piece), piece)
        if self._left is not None:
            self._left -= len(piece)
            if self._left < 0:
                raise httperrors.unsendable()  # more than was declared
        return piece
