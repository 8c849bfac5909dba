"""One request on its way out: in a single write when it is small, in pieces when it is not."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import suppress

import h11
import httpx
import trio

from uniapi.upstream import httperrors

PIECE = 64 * 1024
"""Bytes in one write; also the size from which a body is written while the answer is awaited."""


class Upload:
    """The writing of one request, and what became of it.

    Losing the connection is no error here but a fact for the reader: the server may have answered
    before it hung up.

    Args:
        http: the connection's state machine, ready for a request.
        stream: where to write.
        request: with its content in memory, or with an asynchronous stream.
    """

    __slots__ = ("_http", "_request", "_stopped", "_stream", "broken", "failure")

    def __init__(
        self, http: h11.Connection, stream: trio.abc.Stream, request: httpx.Request
    ) -> None:
        self._http = http
        self._stream = stream
        self._request = request
        self._stopped = False
        self.broken: Exception | None = None
        """How the connection was lost, when it was."""
        self.failure: Exception | None = None
        """What went wrong on this side: the caller's stream failed, or is not as declared."""

    async def send_whole(self, content: bytes) -> None:
        """Head and body in one write.

        Raises:
            httpx.LocalProtocolError: it cannot be said in HTTP/1.1.
        """
        message = self._head() + (self._encode(h11.Data(content)) if content else b"")
        message += self._encode(h11.EndOfMessage())
        try:
            await self._stream.send_all(message)
        except httperrors.LOST as error:
            self._http.send_failed()
            self.broken = error

    async def send_pieces(self, content: bytes | AsyncIterable[bytes]) -> None:
        """Head, then the body piece by piece; raises nothing, see `broken` and `failure`."""
        try:
            await self._stream.send_all(self._head())
            match content:
                case bytes():
                    await self._send_slices(content)
                case _:
                    await self._send_stream(content)
            if not self._stopped:
                await self._send(h11.EndOfMessage())
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
            await self._send(h11.Data(content[start : start + PIECE]))
            if self._stopped:
                return

    async def _send(self, event: h11.Data | h11.EndOfMessage) -> None:
        data = self._encode(event)
        if data:
            await self._stream.send_all(data)

    def _head(self) -> bytes:
        request = self._request
        # raised outside any handler: h11's error quotes the header, and so would a traceback
        with suppress(h11.LocalProtocolError):
            head = h11.Request(
                method=request.method,
                target=request.url.raw_path,
                headers=request.headers.raw,
            )
            return self._encode(head)
        raise httperrors.unsendable()

    def _encode(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> bytes:
        try:
            return self._http.send(event)
        except h11.LocalProtocolError as error:
            raise httperrors.unsendable() from error
