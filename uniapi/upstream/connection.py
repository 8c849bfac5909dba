"""One HTTP/1.1 connection: a stream, and where its present answer stands.

h11 reads the head, `extent` finds the end of the body. What one read of the stream brought is one
piece downstream, however many chunks it was.
"""

from __future__ import annotations

from typing import Final

import h11
import httpx
import trio

from uniapi.upstream import httperrors
from uniapi.upstream.extent import Extent, Sized, extent_of
from uniapi.upstream.network import probe
from uniapi.upstream.outgoing import Outgoing
from uniapi.upstream.pool import Origin
from uniapi.upstream.upload import PIECE, Upload

# What h11 is told was asked, so that it reads an answer; the request itself is written elsewhere.
_ASKED: Final = h11.Request(method="POST", target="/", headers=[("host", "-")])
_ALL: Final = h11.EndOfMessage()

EARLY_BODY = 256 * 1024
"""Bytes of an early refusal which are read while the upload is still being stopped."""


class Connection:
    """A stream to an origin, over which requests are asked one after the other.

    Args:
        origin: where it leads.
        stream: ready for HTTP; the connection's owner closes it.
        max_header_bytes: of an answer's head, up to one receive more; also of a trailer.
    """

    __slots__ = (
        "_extent", "_heard", "_keep", "_limit", "_readable", "_reused", "_upload", "failure",
        "origin", "stream",
    )  # fmt: skip

    def __init__(self, origin: Origin, stream: trio.abc.Stream, max_header_bytes: int) -> None:
        self.origin = origin
        self.stream = stream
        self.failure: httpx.TransportError | None = None
        """Why the rest of the answer cannot be read."""
        self._limit = max_header_bytes
        self._extent: Extent = Sized(0)
        self._upload: Upload | None = None
        self._keep = True
        self._readable = probe(stream)
        self._reused = False
        self._heard = False

    @property
    def ended(self) -> bool:
        """Whether the whole answer has been read."""
        return self._extent.ended

    def quiet(self) -> bool:
        """Whether an idle connection is still good: open, and without a word nobody asked for."""
        return not self._readable()

    def recycle(self) -> bool:
        """Make ready for another request; False when the connection must be closed instead."""
        asked = self._upload is not None and self._upload.whole
        # Bytes behind the answer would be taken for the next one.
        if not (asked and self._keep and self.ended) or self._extent.rest or self.failure:
            return False
        self._upload = None
        self._heard = False
        self._reused = True
        return True

    async def ask(self, request: Outgoing) -> tuple[h11.Response, bytes]:
        """Send a request; the answer's head, and as much of its body as came along.

        Raises:
            httpx.TransportError: as `upstream.httperrors` tells it.
        """
        upload = self._upload = Upload(self.stream, request)
        try:
            match request.content:
                case bytes() as content if len(content) < PIECE:
                    await upload.send_whole(content)
                    return await self._read_head(request)
                case _:
                    return await self._converse(upload, request)
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            if self._heard:
                raise
            if self._reused:
                raise httperrors.stale() from error
            if upload.broken is None:
                raise
            raise httperrors.writing(upload.broken) from upload.broken

    def take(self, data: bytes) -> bytes:
        """The body's bytes among those of one read; the end of the stream when there are none.

        Sets `failure` when the body is cut or malformed.
        """
        extent, body = self._extent, b""
        if data:
            body = extent.feed(data)
        else:
            extent.end()
            self._keep = False
        if extent.failure:
            self.failure = httperrors.broken(extent.failure)
        return body

    async def _read_head(self, request: Outgoing) -> tuple[h11.Response, bytes]:
        """The head of the answer, and what of its body came with it."""
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=self._limit)
        http.send(_ASKED)
        http.send(_ALL)
        while True:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError as error:
                raise httperrors.malformed(error) from error
            match event:
                case h11.Response():
                    return event, self._begin(event, request, http.trailing_data[0])
                case h11.InformationalResponse():
                    continue
                case h11.NEED_DATA:
                    await self._hear(http)
                case _:
                    raise httperrors.switched()

    async def _hear(self, http: h11.Connection) -> None:
        """Let one read of the stream reach h11."""
        try:
            data = bytes(await self.stream.receive_some())
        except httperrors.LOST as error:
            raise httperrors.reading(error) from error
        if not data:
            raise httperrors.unanswered()
        self._heard = True
        http.receive_data(data)

    def _begin(self, head: h11.Response, request: Outgoing, start: bytes) -> bytes:
        """Begin with the body."""
        self._keep = head.http_version == b"1.1" and not _closes(head)
        self._extent = extent_of(head, bodiless=request.bodiless, limit=self._limit)
        return self.take(start) if start else b""

    async def _converse(self, upload: Upload, request: Outgoing) -> tuple[h11.Response, bytes]:
        """Write while listening: a server may refuse a large body before it has it all."""
        answer: tuple[h11.Response, bytes] | httpx.TransportError | None = None
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                await upload.send_pieces()
                if upload.failure is not None:
                    nursery.cancel_scope.cancel()
                written.set()

            written = trio.Event()
            nursery.start_soon(write)
            answer = await self._listen(upload, request, written)
            nursery.cancel_scope.cancel()
        match answer:
            case None:
                raise upload.failure or httperrors.unsendable()
            case Exception():
                raise answer
            case _:
                return answer

    async def _listen(
        self, upload: Upload, request: Outgoing, written: trio.Event
    ) -> tuple[h11.Response, bytes] | httpx.TransportError:
        try:
            head, body = await self._read_head(request)
        except httpx.TransportError as error:
            return error
        if head.status_code < 300:
            await written.wait()  # it has begun to answer, but will want the rest of the body
            return head, body
        upload.stop()
        return head, await self._read_refusal(body, written)

    async def _read_refusal(self, body: bytes, written: trio.Event) -> bytes:
        """The body of an early refusal, read before the writing is cut off.

        Cancelling a write in progress breaks a TLS stream for reading as well.
        """
        while not (self.ended or self.failure or written.is_set() or len(body) > EARLY_BODY):
            try:
                body += self.take(bytes(await self.stream.receive_some()))
            except httperrors.LOST as error:
                self.failure = httperrors.reading(error)
        return body


def _closes(head: h11.Response) -> bool:
    """Whether the server will close the connection after this answer."""
    return any(
        name == b"connection" and b"close" in map(bytes.strip, value.lower().split(b","))
        for name, value in head.headers
    )
