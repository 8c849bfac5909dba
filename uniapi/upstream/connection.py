"""One HTTP/1.1 connection: a stream, and where h11 stands on it.

I/O happens in `ask` and `receive` only; what one receive brought is then pulled from h11 in one
go, so that the many small chunks of a token stream cost one chunk downstream.
"""

from __future__ import annotations

from collections.abc import AsyncIterable

import h11
import httpx
import trio

from uniapi.upstream import httperrors
from uniapi.upstream.network import probe
from uniapi.upstream.pool import Origin
from uniapi.upstream.upload import PIECE, Upload

EARLY_BODY = 256 * 1024
"""Bytes of an early refusal which are read while the upload is still being stopped."""


class Connection:
    """A stream to an origin, over which requests are asked one after the other.

    Args:
        origin: where it leads.
        stream: ready for HTTP; the connection's owner closes it.
        max_header_bytes: of an answer's head, up to one receive more; also of a trailer.
    """

    __slots__ = ("_heard", "_http", "_readable", "_reused", "ended", "failure", "origin", "stream")

    def __init__(self, origin: Origin, stream: trio.abc.Stream, max_header_bytes: int) -> None:
        self.origin = origin
        self.stream = stream
        self.ended = False
        """Whether the whole answer has been pulled."""
        self.failure: httpx.TransportError | None = None
        """Why the rest of the answer cannot be pulled."""
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=max_header_bytes)
        self._readable = probe(stream)
        self._reused = False
        self._heard = False

    def quiet(self) -> bool:
        """Whether an idle connection is still good: open, and without a word nobody asked for."""
        return not self._readable()

    def recycle(self) -> bool:
        """Make ready for another request; False when the connection must be closed instead."""
        http = self._http
        if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return False
        if http.trailing_data != (b"", False):
            return False  # bytes behind the answer would be taken for the next one
        http.start_next_cycle()
        self.ended = False
        self._heard = False
        self._reused = True
        return True

    async def ask(self, request: httpx.Request) -> tuple[h11.Response, bytes]:
        """Send a request; the answer's head, and as much of its body as came along.

        Raises:
            httpx.TransportError: as `upstream.httperrors` tells it.
        """
        upload = Upload(self._http, self.stream, request)
        try:
            content = _content(request)
            match content:
                case bytes() if len(content) < PIECE:
                    await upload.send_whole(content)
                    return await self._read_head(), self.pull()
                case _:
                    return await self._converse(upload, content)
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            if self._heard:
                raise
            if self._reused:
                raise httperrors.stale() from error
            if upload.broken is None:
                raise
            raise httperrors.writing(upload.broken) from upload.broken

    async def receive(self) -> bool:
        """Let one read of the stream reach h11; False when it was the stream's end.

        Raises:
            httpx.ReadError: the connection is lost.
        """
        try:
            data = await self.stream.receive_some()
        except httperrors.LOST as error:
            raise httperrors.reading(error) from error
        self._http.receive_data(bytes(data))  # memory streams give bytearrays
        if not data:
            return False
        self._heard = True
        return True

    def pull(self) -> bytes:
        """The body bytes that are there; sets `ended` or `failure` when they are the last."""
        parts: list[bytes | bytearray] = []
        http = self._http
        try:
            while True:
                match http.next_event():
                    case h11.Data(data=data):
                        parts.append(data)
                    case h11.NEED_DATA:
                        break
                    case _:
                        self.ended = True
                        break
        except h11.RemoteProtocolError as error:
            self.failure = httperrors.malformed(error)
        return b"".join(parts)

    async def _read_head(self) -> h11.Response:
        http = self._http
        while True:
            try:
                event = http.next_event()
            except h11.RemoteProtocolError as error:
                raise httperrors.malformed(error) from error
            match event:
                case h11.Response():
                    return event
                case h11.InformationalResponse():
                    continue
                case h11.NEED_DATA:
                    if not await self.receive():
                        raise httperrors.unanswered()
                case _:
                    raise httperrors.switched()

    async def _converse(
        self, upload: Upload, content: bytes | AsyncIterable[bytes]
    ) -> tuple[h11.Response, bytes]:
        """Write while listening: a server may refuse a large body before it has it all."""
        answer: tuple[h11.Response, bytes] | httpx.TransportError | None = None
        async with trio.open_nursery() as nursery:

            async def write() -> None:
                await upload.send_pieces(content)
                if upload.failure is not None:
                    nursery.cancel_scope.cancel()
                written.set()

            written = trio.Event()
            nursery.start_soon(write)
            answer = await self._listen(upload, written)
            nursery.cancel_scope.cancel()
        match answer:
            case None:
                raise upload.failure or httperrors.unsendable()
            case Exception():
                raise answer
            case _:
                return answer

    async def _listen(
        self, upload: Upload, written: trio.Event
    ) -> tuple[h11.Response, bytes] | httpx.TransportError:
        try:
            head = await self._read_head()
        except httpx.TransportError as error:
            return error
        if head.status_code < 300:
            await written.wait()  # it has begun to answer, but will want the rest of the body
            return head, self.pull()
        upload.stop()
        return head, await self._read_refusal(written)

    async def _read_refusal(self, written: trio.Event) -> bytes:
        """The body of an early refusal, read before the writing is cut off.

        Cancelling a write in progress breaks a TLS stream for reading as well.
        """
        body = self.pull()
        while not (self.ended or self.failure or written.is_set() or len(body) > EARLY_BODY):
            try:
                await self.receive()
            except httpx.ReadError as error:
                self.failure = error
                break
            body += self.pull()
        return body


def _content(request: httpx.Request) -> bytes | AsyncIterable[bytes]:
    try:
        return request.content
    except httpx.RequestNotRead:
        pass
    match request.stream:
        case httpx.AsyncByteStream() as stream:
            return stream
        case _:
            raise TypeError("the request's stream is not asynchronous")
