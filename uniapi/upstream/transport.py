"""HTTP/1.1 to the providers: httpx's transport interface over h11 and trio streams.

Used without a client around it: what a client adds (redirects, cookies, proxies from the
environment) a gateway must not have. `send` takes a request that is bytes already;
`handle_async_request` is the same behind httpx's interface, at 70 us more. A connection has one
owner at any time: the request, then the answer's body, then the pool. Whoever is cancelled closes
what it owns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import h11
import httpx
import trio

from uniapi.upstream import httperrors
from uniapi.upstream.body import InflatedBody, ResponseBody
from uniapi.upstream.connection import Connection
from uniapi.upstream.network import Network, hang_up
from uniapi.upstream.outgoing import Outgoing, outgoing_of
from uniapi.upstream.pool import IdlePool, Origin

Body = ResponseBody | InflatedBody
RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer whose body is still to be read.

    Attributes:
        head: as h11 read it.
        headers: names in lower case, without those that compression was about.
        body: plain; to be closed by who asked.
    """

    head: h11.Response
    headers: RawHeaders
    body: Body


class Transport(httpx.AsyncBaseTransport):
    """Sends requests, keeps connections alive between them, and never sends one twice by itself.

    The caller owns the deadlines: one cancel scope around the call and the reading of the body.
    `request.extensions["timeout"]` is not looked at, and redirects are answers like others. The
    body's stream gives one chunk per read of the socket; gzip and deflate are undone.

    Args:
        network: where connections come from.
        connect_timeout: seconds for name, TCP and TLS together.
        keepalive_expiry: seconds a connection may be idle. Half of what the strictest common load
            balancer allows (60 s), so that we are nearly always the one who closes.
        max_idle_per_origin: idle connections kept for one origin.
        max_connections: in use, idle or being opened; more requests wait for their turn, in order.
        max_header_bytes: of an answer's head; one read (64 KiB) may come on top.
    """

    def __init__(
        self,
        network: Network,
        *,
        connect_timeout: float = 15.0,
        keepalive_expiry: float = 30.0,
        max_idle_per_origin: int = 64,
        max_connections: int = 1000,
        max_header_bytes: int = 100 * 1024,
    ) -> None:
        self._network = network
        self._connect_timeout = connect_timeout
        self._max_connections = max_connections
        self._max_header_bytes = max_header_bytes
        self._slots = trio.Semaphore(max_connections)
        self._idle = IdlePool[Connection](expiry=keepalive_expiry, per_origin=max_idle_per_origin)
        self._active: set[Connection] = set()
        self._connecting: set[trio.CancelScope] = set()
        self._closed = False

    @property
    def open_connections(self) -> int:
        """Connections in use, idle or being opened."""
        return self._max_connections - self._slots.value + len(self._idle)

    @property
    def idle_connections(self) -> int:
        """Connections waiting for a request."""
        return len(self._idle)

    @property
    def idle_origins(self) -> int:
        """Origins to which a connection is waiting."""
        return self._idle.origins

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As `send`, in httpx's words."""
        reply = await self.send(outgoing_of(request))
        head = reply.head
        return httpx.Response(
            head.status_code,
            headers=reply.headers,
            stream=reply.body,
            extensions={"http_version": b"HTTP/" + head.http_version, "reason_phrase": head.reason},
        )

    async def send(self, request: Outgoing, *, kept: bool = True) -> Reply:
        """The answer to a request, its body still to be read.

        Args:
            request: what to ask.
            kept: whether a connection that was kept will do.

        Raises:
            httpx.ConnectError, httpx.ConnectTimeout: nobody there.
            httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError: lost on the way.
            httperrors.StaleConnectionError: a kept connection was closed before it answered.
            httpx.LocalProtocolError: the body is not what its head promises.
        """
        connection = await self._check_out(request.origin, kept=kept)
        try:
            head, start = await connection.ask(request)
            body = ResponseBody(connection, start, self._check_in)
            if connection.ended or connection.failure is not None:
                await body.let_go()
        except BaseException:
            await self._discard(connection)
            raise
        return _reply(head, body)

    async def sweep(self) -> int:
        """Close what has been idle too long; how many that were.

        Every request does this as well, so it need be called only when none may come for long.
        """
        expired = self._idle.take_expired(trio.current_time())
        for connection in expired:
            await hang_up(connection.stream)
        return len(expired)

    async def aclose(self) -> None:
        """Close every connection, idle and in use; whoever uses one gets an error."""
        self._closed = True
        for scope in self._connecting:
            scope.cancel()
        closing = [*self._idle.take_all(), *self._active]
        for _ in self._active:
            self._slots.release()
        self._active.clear()  # before the first await, so that none of them is checked in
        for connection in closing:
            await hang_up(connection.stream)

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def _check_out(self, origin: Origin, *, kept: bool) -> Connection:
        """A connection to the origin, for this request alone."""
        try:
            self._slots.acquire_nowait()
        except trio.WouldBlock:
            await self._slots.acquire()
        try:
            connection = await self._reuse(origin, kept=kept) or await self._connect(origin)
        except BaseException:
            self._slots.release()
            raise
        self._active.add(connection)
        if self._closed:  # while the connection was being made
            await self._discard(connection)
            raise httperrors.closed()
        return connection

    async def _reuse(self, origin: Origin, *, kept: bool) -> Connection | None:
        """The idle connection that was used last and is still good; closes those that are not.

        None when none may be used; there is room for a new one then.
        """
        closing = self._idle.take_expired(trio.current_time())
        connection = self._idle.take(origin) if kept else None
        while connection is not None and not connection.quiet():
            closing.append(connection)
            connection = self._idle.take(origin)
        if connection is None and self.open_connections > self._max_connections:
            closing.append(self._idle.take_oldest())
        for other in closing:
            await hang_up(other.stream)
        return connection

    async def _connect(self, origin: Origin) -> Connection:
        scheme, host, port = origin
        if self._closed:
            raise httperrors.closed()
        with trio.move_on_after(self._connect_timeout) as scope:
            self._connecting.add(scope)
            try:
                stream = await self._network.connect(host, port, tls=scheme == "https")
            except httperrors.UNREACHABLE as error:
                raise httperrors.connecting(host, port, error) from error
            finally:
                self._connecting.discard(scope)
            return Connection(origin, stream, self._max_header_bytes)
        raise self._unconnected(host, port)

    def _unconnected(self, host: str, port: int) -> httpx.TransportError:
        if self._closed:
            return httperrors.closed()
        return httperrors.connect_timeout(host, port, self._connect_timeout)

    async def _check_in(self, connection: Connection) -> None:
        """Take a connection back whose answer has been read, or never will be."""
        if connection not in self._active:
            return
        if not connection.recycle():
            await self._discard(connection)
            return
        self._active.remove(connection)
        surplus = self._idle.put(connection.origin, connection, trio.current_time())
        self._slots.release()
        if surplus is not None:
            await hang_up(surplus.stream)

    async def _discard(self, connection: Connection) -> None:
        if connection not in self._active:
            return
        self._active.remove(connection)
        await hang_up(connection.stream)
        self._slots.release()


def _reply(head: h11.Response, body: ResponseBody) -> Reply:
    headers = list(head.headers)
    encoding = _encoding(head)
    if not encoding or body.empty:
        return Reply(head, headers, body)
    gone = (b"content-encoding", b"content-length")
    plain = [item for item in headers if item[0] not in gone]
    return Reply(head, plain, InflatedBody(body, encoding))


def _encoding(head: h11.Response) -> str:
    """What the body is compressed with; "" for nothing."""
    values = [value for name, value in head.headers if name == b"content-encoding"]
    encoding = b",".join(values).decode("ascii", "replace").strip().lower()
    return "" if encoding == "identity" else encoding
