"""Listening, signals, and the end: stop accepting, let streams finish, then go."""

from __future__ import annotations

import re
import resource
import signal
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.worker_context import WorkerContext

from uniapi.errors import ApiError
from uniapi.server.accept import Listener, accept
from uniapi.server.connection import Address, Application, Connection
from uniapi.tcp import Tcp

GRACE: Final = 30.0  # seconds for streams to finish after SIGTERM
_LAST_WORDS: Final = 1.0  # seconds more, to tell those that have not
_BACKLOG: Final = 1024
_HEAD_LIMIT: Final = 32_768  # bytes of a request's head

# What it accepts is the handler's business: sockets, or memory in tests.


log = structlog.get_logger()


class TlsError(Exception):
    """The certificate or its key cannot be used."""


@dataclass(frozen=True, slots=True)
class Bind:
    """Where to listen.

    Attributes:
        host: address or name; every address it has.
        port: 0 lets the system choose.
        certfile, keyfile: PEM files; both or neither.
    """

    host: str
    port: int
    certfile: str | None = None
    keyfile: str | None = None

    def ssl_context(self) -> ssl.SSLContext | None:
        """TLS 1.2 or newer, HTTP/2 by ALPN; None for plain HTTP.

        Raises:
            TlsError: a file that cannot be read, or is not what it should be.
        """
        if self.certfile is None or self.keyfile is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2", "http/1.1"])
        try:
            context.load_cert_chain(self.certfile, self.keyfile, password=_nobody_to_ask)
        except OSError as error:  # an SSLError is one
            raise TlsError(_fault(self.certfile, self.keyfile, error)) from None
        return context


def _nobody() -> None:
    """Nobody has to be told."""


def _nobody_to_ask() -> str:
    """OpenSSL would stop at the terminal and ask for the password of an encrypted key."""
    raise _EncryptedError


class _EncryptedError(OSError):
    """The key has a password."""


_CERTIFICATE: Final = re.compile(rb"-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----")
_PRIVATE_KEY: Final = re.compile(rb"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----")
_MISMATCHES: Final = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}


def _fault(certfile: str, keyfile: str, error: OSError) -> str:
    """Which of the two files cannot be used, and why; OpenSSL says "PEM lib" of them all."""
    if isinstance(error, _EncryptedError):
        return f"{keyfile} is encrypted, and nobody is here to type its password"
    if Path(certfile).is_fifo() or Path(keyfile).is_fifo():  # what was in it has been read
        return f"{certfile} and {keyfile} are no matching pair of PEM files"
    kinds = (certfile, _CERTIFICATE, "certificate"), (keyfile, _PRIVATE_KEY, "private key")
    for path, begins, kind in kinds:
        try:
            data = Path(path).read_bytes()
        except OSError as unread:
            return f"{path} cannot be read: {unread.strerror or unread}"
        if not begins.search(data):
            return f"{path} holds no {kind} in PEM form"
    match error:
        case ssl.SSLError(reason=str(reason)) if reason in _MISMATCHES:
            return f"{keyfile} is not the private key of the first certificate in {certfile}"
        case ssl.SSLError(library="SSL", reason=str(reason)):  # too small, too old a digest
            return f"{certfile} is refused by OpenSSL: {reason.lower().replace('_', ' ')}"
        case _:
            pass
    whole = _is_read(certfile)
    path, kind = (keyfile, "private key") if whole else (certfile, "certificate")
    return f"the {kind} in {path} is cut or damaged"


def _is_read(certfile: str) -> bool:
    """Whether OpenSSL can read every certificate of the file."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(certfile)
    except OSError:
        return False
    return True


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
        self._config.graceful_timeout = grace

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
                async with trio.open_nursery() as accepting:
                    for listener in listeners:
                        accepting.start_soon(accept, listener, handler, connections)
                    await self._stop.wait()
                    accepting.cancel_scope.cancel()
                log.info("server.draining", connections=len(self._connections), grace=self._grace)
                clock.start_soon(self._end, connections.cancel_scope)
                await self._context.terminated.set()
                for connection in list(self._connections):
                    connection.drain()
            clock.cancel_scope.cancel()

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
