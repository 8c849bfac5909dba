"""HTTP/1.1 as hypercorn speaks it, less what is dangerous, plus what it forgets.

Refused: websocket and h2c upgrades (a request that asks for one is served as plain HTTP), cleartext
HTTP/2, and requests with both a length and chunks, where two parsers may disagree about the end.
Kept going: while a request is served and the next one already waits, the connection is still
read, because the client's leaving has to be seen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, cast

import h11
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, Scope
from hypercorn.typing import ASGIReceiveCallable as Receive
from hypercorn.typing import ASGISendCallable as Send

from uniapi.errors import ApiError
from uniapi.server.turn import SENDING, Turn, date, scope_of

Spoken: TypeAlias = h11.Response | h11.InformationalResponse | h11.Data | h11.EndOfMessage

_MAX_WAITING: Final = 65_536  # bytes a client may send ahead while it waits for an answer


class H1(H11Protocol):
    """One HTTP/1.1 connection."""

    config: HypercornConfig
    connection: h11.Connection
    stream: Turn | None  # type: ignore[assignment] # hypercorn's own is not used
    write_now: Callable[[bytes], bytes]
    """Writes what can be written without waiting; what is left. The connection's own."""
    prompt = False
    """Whether `write_now` ever writes: TLS has to wait for its own."""
    head_follows = True  # bytes after an answer begin a head, and that has a deadline

    @property
    def unread(self) -> bool:
        """The client has not sent all of its request yet."""
        return self.connection.their_state is h11.SEND_BODY

    @property
    def head_wanted(self) -> bool:
        """A head is on its way, and not whole yet."""
        return self.connection.their_state is h11.IDLE

    async def initiate(self) -> None:
        """Nothing is said before the client speaks."""
        self._reading = trio.Lock()
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
        try:
            self._reading.acquire_nowait()  # nearly always; and it costs no trip to the scheduler
        except trio.WouldBlock:
            await self._reading.acquire()
        try:
            await self._handle_events()
        finally:
            self._reading.release()

    async def _handle_events(self) -> None:
        self._paused = False
        while True:
            try:
                event = self.connection.next_event()
            except h11.RemoteProtocolError as error:
                if error.error_status_hint == 431:
                    await self._refuse(*self._too_large())
                else:
                    await self._refuse(error.error_status_hint, "malformed HTTP request")
                return
            match event:
                case h11.Request():
                    if (refusal := self._unacceptable(event)) is not None:
                        await self._refuse(*refusal)
                        return
                    await self.send(Updated(idle=False))
                    await self._take_turn(event)
                case h11.Data(data=data) if self.stream is not None:
                    await self.stream.body(bytes(data))
                case h11.EndOfMessage() if self.stream is not None:
                    await self.stream.end()
                case h11.PAUSED:
                    self._paused = True
                    return
                case h11.Data() | h11.EndOfMessage():
                    pass  # the rest of a body whose request was answered already
                case _:
                    return  # NEED_DATA, or the connection is over

    async def _take_turn(self, request: h11.Request) -> None:
        waiting = self.connection.they_are_waiting_for_100_continue
        self.keep_alive_requests += 1
        turn = Turn(self, last=self.keep_alive_requests > self.config.keep_alive_max_requests)
        scheme = "https" if self.ssl else "http"
        scope = scope_of(request, scheme=scheme, client=self.client, server=self.server)
        if self.prompt:
            scope["extensions"][SENDING] = turn.send_now
        app = cast("AppWrapper", self._inviting) if waiting else self.app
        put = await self.task_group.spawn_app(app, self.config, scope, turn.send)
        turn.begin(put, request.method)
        self.stream = turn

    # What a turn needs.

    def encoded(self, event: Spoken) -> bytes:
        """What to write; nothing when the client broke the protocol meanwhile."""
        try:
            return self.connection.send(event) or b""
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return b""

    async def write(self, data: bytes) -> None:
        """Write, and wait for it."""
        await self.send(RawData(data))

    async def over(self) -> None:
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

    async def _close_stream(self) -> None:
        turn, self.stream = self.stream, None
        if turn is not None:
            await turn.close()

    async def _inviting(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, for a client that sends its body when it is told to go on.

        It is told when the application first asks for it: who is refused keeps the body.
        """

        async def invite() -> ASGIReceiveEvent:
            if self.connection.they_are_waiting_for_100_continue:
                await self.write(
                    self.encoded(h11.InformationalResponse(status_code=100, headers=[]))
                )
            return await receive()

        app = cast("Callable[[Scope, Receive, Send], Awaitable[None]]", self.app)
        await app(scope, invite, send)

    async def _refuse(self, status: int, why: str) -> None:
        """Answer what never became a request, and hang up."""
        if self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            body = ApiError(status, why, code="bad_http").body()
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"connection", b"close"),
                (b"date", date()),
            ]
            said = (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            await self.write(b"".join([self.encoded(event) for event in said]))
        await self.send(Closed())

    def _unacceptable(self, request: h11.Request) -> tuple[int, str] | None:
        names = {name for name, _ in request.headers}
        if b"content-length" in names and b"transfer-encoding" in names:
            return 400, "a request has a content-length or a transfer-encoding, not both"
        if request.http_version not in {b"1.0", b"1.1"}:
            return 400, "only HTTP/1.1 is spoken here; HTTP/2 needs TLS"
        # h11 holds only a head that is still incomplete to the limit.
        size = len(request.target) + sum(len(n) + len(v) + 4 for n, v in request.headers)
        return self._too_large() if size > self.config.h11_max_incomplete_size else None

    def _too_large(self) -> tuple[int, str]:
        limit = self.config.h11_max_incomplete_size
        return 431, f"the request's head is larger than {limit} bytes, the limit here"
