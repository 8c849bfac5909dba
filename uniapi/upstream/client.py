"""Sending a call to a provider, and what the network's troubles mean.

Transports are called directly: `httpx.AsyncClient` would add 0.22 ms a call and nothing used
here. Redirects are therefore never followed. Direct calls go through our own transport, those of a
provider with a `proxy` through `proxied`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import httpx
import trio

from uniapi.config.types import Secret
from uniapi.engines.base import Call
from uniapi.errors import Failure, Kind
from uniapi.upstream.httperrors import StaleConnectionError
from uniapi.upstream.network import Network, TcpNetwork
from uniapi.upstream.outgoing import Heads
from uniapi.upstream.proxied import Proxies, ProxyError
from uniapi.upstream.transport import RawHeaders, Transport

CONNECT_TIMEOUT: Final = 15.0  # seconds
# A provider that closes a kept connection has not seen what was on its way then. Seconds for that
# to be known; who closes later may have read it, and asking again is the walk's to decide.
_CROSSED: Final = 2.0
_MAX_ERROR: Final = 256_000  # bytes of an error body that are read
_HANG_UP: Final = 1.0  # seconds a polite close may take before it is left to the transport


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose body is still to come.

    Attributes:
        status: HTTP status.
        headers: by lower-case name.
        body: the bytes, one item a read, not compressed; raises what `send` raises.
        over: whether the connection has gone back already, its answer read.
    """

    status: int
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]
    over: Callable[[], bool]
    _close: Callable[[], Awaitable[None]]

    async def aclose(self) -> None:
        """Hang up; at once when the body was not read to its end. Works in a cancelled task."""
        if self.over():
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _HANG_UP):
            await self._close()

    async def error_body(self) -> bytes:
        """As much of an error's body as anyone will read."""
        parts: list[bytes] = []
        size = 0
        async for part in self.body:
            parts.append(part)
            size += len(part)
            if size >= _MAX_ERROR:
                break
        return b"".join(parts)[:_MAX_ERROR]


class Client:
    """All the connections to providers, kept between requests."""

    def __init__(self, network: Network | None = None, proxies: Proxies | None = None) -> None:
        """`network` is the memory network in tests, real sockets otherwise; so with `proxies`."""
        self._direct = Transport(network or TcpNetwork(), connect_timeout=CONNECT_TIMEOUT)
        self._heads = Heads()
        self._proxied = proxies or Proxies()

    @property
    def open_connections(self) -> int:
        """Connections in use or being opened, and direct ones that are idle.

        What waits at a proxy for another request cannot be told: httpx keeps it to itself.
        """
        return self._direct.open_connections + self._proxied.in_use

    @property
    def idle_connections(self) -> int:
        """Direct connections that wait for a request."""
        return self._direct.idle_connections

    async def send(self, call: Call, proxy: Secret | None) -> Answer:
        """Send a call; the answer's head has arrived, its body has not.

        The caller closes the answer. Deadlines are the caller's too, but for connecting.

        Raises:
            httpx.TransportError, httpx.InvalidURL, ProxyError: see `network_failure`.
        """
        if proxy is not None:
            status, named, plain = await self._proxied.send(call, proxy, CONNECT_TIMEOUT)
            return Answer(status, named, plain, plain.over, plain.aclose)
        request = self._heads.outgoing(call.method, call.url, call.headers, call.body)
        begun = trio.current_time()
        try:
            reply = await self._direct.send(request)
        except StaleConnectionError:
            if trio.current_time() - begun > _CROSSED:
                raise
            reply = await self._direct.send(request, kept=False)
        headers = _by_name(reply.headers)
        body = reply.body
        return Answer(reply.head.status_code, headers, body, body.over, body.aclose)

    def keep(self, proxies: Iterable[Secret]) -> None:
        """Name the proxies of a new configuration; what leads to others goes once it is unused."""
        self._proxied.keep(proxies)

    async def sweep(self) -> int:
        """Close what has been idle too long, or leads to proxies no longer named; how many."""
        return await self._direct.sweep() + await self._proxied.sweep()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._direct.aclose()
        await self._proxied.aclose()


def _by_name(raw: RawHeaders) -> dict[str, str]:
    """Headers by name; the values of a repeated one are joined, as HTTP has it."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("ascii"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def network_failure(error: httpx.TransportError | httpx.InvalidURL | ProxyError) -> Failure:
    """The failure that a broken or missing connection is: the one table of the library's errors."""
    match error:
        case ProxyError():
            return Failure(Kind.CONNECT, str(error), 502, code="proxy_error")
        case httpx.ConnectTimeout():
            said = f"could not connect within {CONNECT_TIMEOUT:g} s"
            return Failure(Kind.CONNECT, said, 504, code="timeout")
        case httpx.ConnectError() | httpx.ProxyError():
            return Failure(Kind.CONNECT, f"could not connect: {error}", 502, code="connect_error")
        case httpx.UnsupportedProtocol() | httpx.InvalidURL():
            return Failure(Kind.CONNECT, "the base_url cannot be called", 502, code="bad_base_url")
        case httpx.RemoteProtocolError():
            said = f"the connection broke: {error}"
            return Failure(Kind.RESET, said, 502, code="connection_reset")
        case _:
            said = f"the connection broke: {str(error) or type(error).__name__}"
            return Failure(Kind.RESET, said, 502, code="connection_reset")
