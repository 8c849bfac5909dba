"""HTTP/1.1 as hypercorn speaks it, less what is dangerous, plus what it forgets.

Refused: websocket and h2c upgrades (a request that asks for one is served as plain HTTP), cleartext
HTTP/2, and requests with both a length and chunks, where two parsers may disagree about the end.
Kept going: while a request is served and the next one already waits, the connection is still
read, because the client's leaving has to be seen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import chain
from typing import Final, cast

import h11
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, Request
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, Scope
from hypercorn.typing import ASGIReceiveCallable as Receive
from hypercorn.typing import ASGISendCallable as Send

from uniapi.errors import ApiError

_MAX_WAITING: Final = 65_536  # bytes a client may send ahead while it waits for an answer


class H1(H11Protocol):
    """One HTTP/1.1 connection."""

    config: HypercornConfig
    connection: h11.Connection
    head_follows = True  # bytes after an answer begin a head, and that has a deadline

    @property
    def unread(self) -> bool:
        """The client has not sent all of its request yet."""
        return self.connection.their_state is h11.SEND_BODY

    async def initiate(self) -> None:
        """Nothing is said before the client speaks."""
        self._turn = trio.Lock()
        self._paused = False

    async def handle(self, event: Event) -> None:
        """Take in bytes, or the end of the connection."""
        match event:
            case RawData(data=data):
                if self._paused and len(self.connection.trailing_data[0]) > _MAX_WAITING:
                    await self.send(Closed())
                    return
                self.connection.receive_data(data)
                await self._read_on()
            case Closed():
                await self._close_stream()
            case _:
                pass

    async def _read_on(self) -> None:
        async with self._turn:
            await self._handle_events()

    async def _handle_events(self) -> None:
        self._paused = False
        while True:
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint, "malformed HTTP request")
                return
            match event:
                case h11.Request():
                    if (refusal := self._unacceptable(event)) is not None:
                        await self._refuse(*refusal)
                        return
                    await self.send(Updated(idle=False))
                    await self._create_stream(event)
                case h11.Data(data=data) if self.stream is not None:
                    await self.stream.handle(Body(stream_id=STREAM_ID, data=bytes(data)))
                case h11.EndOfMessage() if self.stream is not None:
                    await self.stream.handle(EndBody(stream_id=STREAM_ID))
                case h11.PAUSED:
                    self._paused = True
                    return
                case h11.Data() | h11.EndOfMessage():
                    pass  # the rest of a body whose request was answered already
                case _:
                    return  # NEED_DATA, or the connection is over

    async def _create_stream(self, request: h11.Request) -> None:
        waiting = self.connection.they_are_waiting_for_100_continue
        self.stream = HTTPStream(
            cast("AppWrapper", self._inviting) if waiting else self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii").upper(),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1

    async def _inviting(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, for a client that sends its body when it is told to go on.

        It is told when the application first asks for it: who is refused keeps the body.
        """

        async def invite() -> ASGIReceiveEvent:
            if self.connection.they_are_waiting_for_100_continue:
                await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))
            return await receive()

        app = cast("Callable[[Scope, Receive, Send], Awaitable[None]]", self.app)
        await app(scope, invite, send)

    async def _maybe_recycle(self) -> None:
        """After an answer: serve what already waits, wait for more, or close."""
        await self._close_stream()
        states = (self.connection.our_state, self.connection.their_state)
        if self.context.terminated.is_set() or states != (h11.DONE, h11.DONE):
            await self.send(Closed())
            return
        self.connection.start_next_cycle()
        await self.send(Updated(idle=True))
        if self._paused:
            self.task_group.spawn(self._read_on)

    async def _refuse(self, status: int, said: str) -> None:
        """Answer what never became a request, and hang up."""
        if self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            body = ApiError(status, said, code="bad_http").body()
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
            ]
            ours = self.config.response_headers("h11")
            await self._send_h11_event(
                h11.Response(status_code=status, headers=list(chain(headers, ours)))
            )
            await self._send_h11_event(h11.Data(data=body))
            await self._send_h11_event(h11.EndOfMessage())
        await self.send(Closed())

    def _unacceptable(self, request: h11.Request) -> tuple[int, str] | None:
        names = {name for name, _ in request.headers}
        if b"content-length" in names and b"transfer-encoding" in names:
            return 400, "a request has a content-length or a transfer-encoding, not both"
        if request.http_version not in {b"1.0", b"1.1"}:
            return 400, "only HTTP/1.1 is spoken here; HTTP/2 needs TLS"
        # h11 holds only a head that is still incomplete to the limit.
        limit = self.config.h11_max_incomplete_size
        size = len(request.target) + sum(len(n) + len(v) + 4 for n, v in request.headers)
        if size > limit:
            return 431, f"the request's head is larger than {limit} bytes, the limit here"
        return None
