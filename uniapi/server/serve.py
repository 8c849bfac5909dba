"""Listening, signals, and the end: stop accepting, let streams finish, then go."""

from __future__ import annotations

import resource
import signal
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.worker_context import WorkerContext

from uniapi.errors import ApiError
from uniapi.server.accept import Listener, accept
from uniapi.server.bind import Bind
from uniapi.server.connection import Address, Application, Connection
from uniapi.tcp import Tcp

GRACE: Final = 30.0  # seconds for streams to finish after SIGTERM
_LAST_WORDS: Final = 1.0  # seconds more, to tell those that have not
_BACKLOG: Final = 1024
_HEAD_LIMIT: Final = 32_768  # bytes of a request's head

log = structlog.get_logger()


def _nobody() -> None:
    """Nobody has to be told."""


class Server:
    """Accepts connections until told to stop."""

    def __init__(
        self,
        app: Application,
        bind: Bind,
        *,
        grace: float = GRACE,
        max_connections: int = 0,
        last_call: Callable[[], None] = _nobody,
    ) -> None:
        """Accept nothing yet.

        Args:
            app: the ASGI application.
            bind: where to listen.
            grace: seconds for what is under way when the server is stopped.
            max_connections: 0 is half of what the process may have open.
            last_call: called when the grace is over, so that the application ends what is left.
        """
        self._app = app
        self._bind = bind
        self._grace = grace
        self._last_call = last_call
        self._most = max_connections or _half_of_files()
        self._context = WorkerContext(None)
        self._connections: set[Connection] = set()
        self._stop = trio.Event()
        self._config = HypercornConfig()
        self._config.include_server_header = False
        self._config.errorlog = None
        self._config.h11_max_incomplete_size = _HEAD_LIMIT
        self._config.keep_alive_max_requests = 1_000_000

    @property
    def open_connections(self) -> int:
        """Client connections open now."""
        return len(self._connections)

    def stop(self) -> None:
        """Stop accepting and drain; `run` returns when that is done."""
        self._stop.set()

    async def run(self, started: Callable[[Sequence[Address]], None]) -> None:
        """Listen and serve until `stop`.

        Args:
            started: called with the addresses once connections are accepted.

        Raises:
            OSError: the address is in use, or not ours.
            TlsError: the certificate or its key cannot be used.
        """
        context = self._bind.ssl_context()
        listeners = await trio.open_tcp_listeners(
            self._bind.port, host=self._bind.host, backlog=_BACKLOG
        )
        started([listener.socket.getsockname()[:2] for listener in listeners])

        async def handler(stream: trio.SocketStream) -> None:
            await self.serve_stream(stream, context)

        await self.serve(listeners, handler)

    async def serve(
        self, listeners: Sequence[Listener], handler: Callable[[Any], Awaitable[None]]
    ) -> None:
        """Accept from `listeners` until `stop`, then let what is under way finish.

        Args:
            listeners: anything that accepts; closed before the draining begins.
            handler: serves what they accept; cancelled when the last words have been said.
        """
        async with trio.open_nursery() as clock:
            async with trio.open_nursery() as connections:
                await self._accept(listeners, handler, connections)
                log.info("server.draining", connections=len(self._connections), grace=self._grace)
                clock.start_soon(self._end, connections.cancel_scope)
                await self._context.terminated.set()
                for connection in list(self._connections):
                    connection.drain()
            clock.cancel_scope.cancel()

    async def _accept(
        self,
        listeners: Sequence[Listener],
        handler: Callable[[Any], Awaitable[None]],
        connections: trio.Nursery,
    ) -> None:
        """Accept until told to stop."""
        async with trio.open_nursery() as accepting:
            for listener in listeners:
                accepting.start_soon(accept, listener, handler, connections)
            await self._stop.wait()
            accepting.cancel_scope.cancel()

    async def _end(self, connections: trio.CancelScope) -> None:
        """End what is left when the grace is over: by its own last words, and then without."""
        await trio.sleep(self._grace)
        self._last_call()
        await trio.sleep(_LAST_WORDS)
        connections.cancel()

    async def serve_stream(
        self, stream: trio.SocketStream, context: ssl.SSLContext | None = None
    ) -> None:
        """Serve one accepted connection."""
        client = _address(stream.socket.getpeername)
        server = _address(stream.socket.getsockname)
        if len(self._connections) >= self._most:
            await _turn_away(stream)
            return
        transport: trio.abc.Stream = Tcp(stream)
        if context is not None:
            transport = trio.SSLStream(transport, context, server_side=True)
        await self.serve_transport(transport, client=client, server=server)

    async def serve_transport(
        self, transport: trio.abc.Stream, *, client: Address = None, server: Address = None
    ) -> None:
        """Serve a connection over any stream: a socket, TLS, or memory in tests."""
        connection = Connection(
            self._app, self._config, self._context, transport, client=client, server=server
        )
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)


async def until_signalled(
    server: Server, on_drain: Callable[[], None], on_reload: Callable[[], None]
) -> int:
    """Wait for a signal and act on it; the process's exit status.

    SIGTERM drains; a second one, or SIGINT, ends at once. SIGHUP and SIGUSR1 reload and never end
    it: terminals that close send the one, so the other is there for who runs in one.
    """
    draining = False
    reloads = (signal.SIGHUP, signal.SIGUSR1)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, *reloads) as signals:
        async for number in signals:
            log.info("server.signal", signal=signal.Signals(number).name)
            if number in reloads:
                on_reload()
                continue
            if number == signal.SIGINT:
                return 130
            if draining:
                return 143
            draining = True
            on_drain()
            server.stop()
    return 0


async def _turn_away(stream: trio.SocketStream) -> None:
    """More connections than files: a short answer instead of a hang."""
    body = ApiError(503, "too many connections", code="overloaded").body()
    head = (
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
        b"connection: close\r\ncontent-length: " + str(len(body)).encode() + b"\r\n\r\n"
    )
    with trio.move_on_after(1), suppress(trio.BrokenResourceError):
        await stream.send_all(head + body)
    await trio.aclose_forcefully(stream)


def _address(ask: Callable[[], tuple[str, int]]) -> Address:
    try:
        host, port, *_ = ask()
    except OSError:
        return None  # it left between accept and now
    return host, port


def _half_of_files() -> int:
    """Half the descriptors: the other half is for the upstream side of each connection."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 50_000 if soft == resource.RLIM_INFINITY else max(16, soft // 2 - 32)
