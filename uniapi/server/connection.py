"""One client connection: its guard, its deadlines, and the tasks that live in it.

One deadline is for reading, and it moves: idle between requests, short for a head that has begun,
none while a request is served (its body has the application's limit). Nothing a client sends
can end more than its own connection.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any, Final, TypeAlias, cast

import structlog
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState, TaskGroup

from uniapi.alarm import Alarm
from uniapi.server.h1 import H1
from uniapi.server.h2 import H2
from uniapi.server.inbox import ARRIVED, LEAVING, Inbox, Message
from uniapi.server.stream import ClientStream

HEAD_TIMEOUT: Final = 10.0  # seconds for a request's head, from its first byte
IDLE_TIMEOUT: Final = 75.0  # seconds between requests
HANDSHAKE_TIMEOUT: Final = 10.0  # seconds for TLS
_LINGER: Final = 2.0  # seconds to read on after the last byte, so that it is not lost to a reset
_AFTERMATH: Final = 10.0  # seconds the tasks of a connection that is gone may take to see it
_READ: Final = 65_536  # bytes

# An ASGI application, as hypercorn sees one; its messages are typed at our edge.
Application: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
Address: TypeAlias = tuple[str, int] | None

log = structlog.get_logger()


class Tasks:
    """The tasks of one connection, in the shape hypercorn's protocols ask for."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def spawn(self, action: Callable[..., Awaitable[None]], *args: object) -> None:
        """Start a task of the protocol's own."""
        self._nursery.start_soon(partial(action, *args))

    async def spawn_app(
        self,
        app: Application,
        config: HypercornConfig,
        scope: Message,
        send: Callable[[Any], Awaitable[None]],
    ) -> Callable[[Any], Awaitable[None]]:
        """Start the application for one request; returns the way to hand it events.

        An application that has ended hears nothing more: what is still handed to it is dropped,
        where hypercorn's own would block the reader for ever.
        """
        inbox = Inbox(config.max_app_queue_size)
        scope["extensions"] |= {LEAVING: inbox.tell, ARRIVED: inbox.arrived}

        async def run() -> None:
            try:
                await app(scope, inbox.receive, send)
            except Exception:
                log.exception("server.application_crashed")
            finally:
                inbox.tell(None)
                inbox.close()
                await send(None)

        self._nursery.start_soon(run)
        return inbox.put


class Connection:
    """One client connection, from accept to close."""

    def __init__(
        self,
        app: Application,
        config: HypercornConfig,
        context: WorkerContext,
        transport: trio.abc.Stream,
        *,
        client: Address = None,
        server: Address = None,
    ) -> None:
        """`transport` may be an `SSLStream` whose handshake is still to be done."""
        self._app = app
        self._config = config
        self._context = context
        self._transport = transport
        self._stream = ClientStream(transport)
        self._client = client
        self._server = server
        self._send_lock = trio.Lock()
        self._patience = trio.CancelScope()
        self._alarm = Alarm(self._patience)
        self._leave: Callable[[], None] = self._patience.cancel
        self._idle = True
        self._closing = False
        self._protocol: H1 | H2

    async def run(self) -> None:
        """Serve the connection; never raises but for cancellation."""
        try:
            await self._serve()
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client is gone: nobody to tell
        except* Exception as group:  # noqa: BLE001 - the guard of the connection
            # h2 and hypercorn raise on some malformed input; it is this client's loss alone.
            first = group.exceptions[0]
            log.warning("connection.broken", client=self._client, error=repr(first)[:300])
        finally:
            self._alarm.stop()
            self._leave = self._patience.cancel
            with suppress(AttributeError):  # no handshake, no protocol
                del self._protocol  # it holds our `_send`: 40 objects would wait for the collector
            await self._stream.aclose()

    def drain(self) -> None:
        """Close now when idle; when busy, the protocol closes after the last answer."""
        if self._idle:
            self._leave()

    async def _serve(self) -> None:
        alpn, secure = await self._handshake()
        if alpn is None:
            return
        async with trio.open_nursery() as nursery:
            kind = H2 if alpn == "h2" else H1
            self._protocol = kind(
                cast("AppWrapper", self._app),  # `Tasks` calls it with three arguments
                self._config,
                self._context,
                cast("TaskGroup", Tasks(nursery)),
                ConnectionState({}),
                secure,
                self._client,
                self._server,
                self._send,
            )
            match self._protocol:
                case H1() as http:
                    http.write_now, http.prompt = self._send_now, self._stream.prompt
                case H2() as http:
                    self._leave = http.leave
            await self._protocol.initiate()
            try:
                await self._read()
            finally:
                self._stream.end_writes()  # also of a write that is shielded against us
            await self._protocol.handle(Closed())
            nursery.cancel_scope.deadline = trio.current_time() + _AFTERMATH

    async def _handshake(self) -> tuple[str | None, bool]:
        """The application protocol (None when the handshake failed), and whether it is TLS."""
        if not isinstance(self._transport, trio.SSLStream):
            return "http/1.1", False
        with trio.move_on_after(HANDSHAKE_TIMEOUT):
            try:
                await self._transport.do_handshake()
            except trio.BrokenResourceError:
                return None, True
            return self._transport.selected_alpn_protocol() or "http/1.1", True
        return None, True

    async def _read(self) -> None:
        """Feed the protocol until the client has gone, was too slow, or was hung up on."""
        with self._patience:
            self._expect(IDLE_TIMEOUT)
            while True:
                try:
                    data = await self._stream.receive_some(_READ)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return
                if not self._closing:
                    begins = self._idle and data and self._protocol.head_follows
                    self._idle = self._idle and not begins
                    await self._protocol.handle(RawData(data))
                    # Only for a head that did not come in one piece: nearly all do.
                    if begins and self._protocol.head_wanted:
                        self._expect(HEAD_TIMEOUT)
                if not data:
                    return

    def _expect(self, seconds: float) -> None:
        self._alarm.move(trio.current_time() + seconds)

    def _send_now(self, data: bytes) -> bytes:
        """Send what the system takes at once, unless somebody is sending; what is left."""
        return data if self._send_lock.locked() else self._stream.send_now(data)

    async def _send(self, event: Event) -> None:
        """What the protocol wants done on the outside."""
        match event:
            case RawData(data=data):
                # Whole or not at all, and all of them: HTTP/2 compresses each head against the
                # last. The stream's own deadline holds inside the shield.
                left = self._send_now(data)
                if left:
                    with trio.CancelScope(shield=True), suppress(trio.BrokenResourceError):
                        async with self._send_lock:
                            await self._stream.send_all(left)
                if self._stream.broken:
                    self._patience.cancel()
                    await self._protocol.handle(Closed())
            case Closed():
                await self._hang_up()
            case Updated(idle=idle):
                self._idle = idle
                self._expect(IDLE_TIMEOUT if idle else inf)
                if idle and self._context.terminated.is_set():
                    self._patience.cancel()
            case _:
                pass

    async def _hang_up(self) -> None:
        """Say goodbye and read on for a moment: a close over unread bytes resets the answer."""
        if self._closing:
            return
        self._closing = True
        self._expect(_LINGER)
        if not await self._stream.send_eof() and not self._protocol.unread:
            self._patience.cancel()  # TLS has no half-close: the goodbye is the close
        await self._protocol.handle(Closed())
