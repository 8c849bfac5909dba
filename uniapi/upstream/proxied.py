"""Calls through a proxy: httpx's own transports, one for each proxy.

They know http and socks proxies, and close no idle connection before another request comes. One
that nobody uses is therefore closed as a whole: at once when the configuration no longer names its
proxy, otherwise when its connections would be too old to be used again.
"""

from __future__ import annotations

import ssl
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Container,
    Iterable,
    Mapping,
)
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

import httpx
import trio

from uniapi.config.types import Secret
from uniapi.engines.base import Call
from uniapi.upstream import httperrors
from uniapi.upstream.inflate import InflateError, Inflater
from uniapi.upstream.network import client_context

KEPT: Final = 30.0  # seconds a connection may be idle, as direct ones
_MOST_IDLE: Final = 64  # connections to one proxy


class ProxyError(Exception):
    """The provider's proxy setting is not one that can be used."""


@dataclass(slots=True)
class _Way:
    """The way through one proxy.

    Attributes:
        transport: the connections.
        in_use: requests under way.
        since: when the last of them ended, on trio's clock.
    """

    transport: httpx.AsyncBaseTransport
    in_use: int = 0
    since: float = 0.0

    def leave(self) -> None:
        """One request is over."""
        self.in_use -= 1
        self.since = trio.current_time()


class Proxies:
    """All the ways through proxies, by the digest of the proxy."""

    def __init__(self, make: Callable[[str], httpx.AsyncBaseTransport] | None = None) -> None:
        """`make` gives the transport through the proxy at a URL; httpx's own when None."""
        self._make = self._stock if make is None else make
        self._ways: dict[str, _Way] = {}
        self._named: Container[str] | None = None
        self._ssl_context: ssl.SSLContext | None = None

    @property
    def in_use(self) -> int:
        """Requests under way, each on a connection of its own."""
        return sum(way.in_use for way in self._ways.values())

    def keep(self, proxies: Iterable[Secret]) -> None:
        """Name the proxies of the configuration; before the first time all are taken for named."""
        self._named = {proxy.digest for proxy in proxies}

    async def send(
        self, call: Call, proxy: Secret, connect_timeout: float
    ) -> tuple[int, Mapping[str, str], ProxiedBody]:
        """Status, headers by lower-case name, and the body, which the caller closes.

        Args:
            call: what to ask.
            proxy: its URL.
            connect_timeout: seconds for TCP and TLS each.

        Raises:
            httpx.TransportError, httpx.InvalidURL, ProxyError: see `client.network_failure`.
        """
        request = httpx.Request(
            call.method,
            call.url,
            headers=[(name.encode("ascii"), value.encode()) for name, value in call.headers],
            content=call.body or None,
            extensions={"timeout": {"connect": connect_timeout}},
        )
        way = self._way(proxy)
        way.in_use += 1
        try:
            response = await way.transport.handle_async_request(request)
        except httpx.LocalProtocolError:
            way.leave()
            raise httperrors.unsendable() from None
        except BaseException:
            way.leave()
            raise
        headers = dict(response.headers.items())
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding in {"", "identity"}:
            return response.status_code, headers, ProxiedBody(response, way.leave)
        plain = {
            name: value
            for name, value in headers.items()
            if name not in {"content-encoding", "content-length"}
        }
        return response.status_code, plain, ProxiedBody(response, way.leave, encoding)

    async def sweep(self) -> int:
        """Close the ways that nobody uses and nobody will; how many that were."""
        old = trio.current_time() - KEPT
        named = self._named
        unused = [
            digest
            for digest, way in self._ways.items()
            if not way.in_use and (way.since <= old or (named is not None and digest not in named))
        ]
        closing = [self._ways.pop(digest) for digest in unused]
        await _close(closing)
        return len(closing)

    async def aclose(self) -> None:
        """Close every connection."""
        closing = list(self._ways.values())
        self._ways.clear()
        await _close(closing)

    def _way(self, proxy: Secret) -> _Way:
        way = self._ways.get(proxy.digest)
        if way is None:
            try:
                way = _Way(self._make(proxy.reveal()))
            except (ValueError, httpx.InvalidURL):
                raise ProxyError("the proxy of this provider is not a usable URL") from None
            self._ways[proxy.digest] = way
        return way

    def _stock(self, url: str) -> httpx.AsyncBaseTransport:
        if self._ssl_context is None:  # 20 ms
            self._ssl_context = client_context()
        context = self._ssl_context
        proxy = httpx.Proxy(url)
        if proxy.url.scheme == "https":  # left to itself it reads certificates at every connection
            proxy = httpx.Proxy(url, ssl_context=context)
        limits = httpx.Limits(
            max_connections=None, max_keepalive_connections=_MOST_IDLE, keepalive_expiry=KEPT
        )
        return httpx.AsyncHTTPTransport(verify=context, proxy=proxy, limits=limits)


async def _close(ways: Iterable[_Way]) -> None:
    for way in ways:
        with suppress(*httperrors.LOST):
            await way.transport.aclose()


class ProxiedBody:
    """The body of one answer, made plain as it is read.

    Args:
        response: its head has been read.
        leave: called once, when the connection has gone back.
        encoding: what the body is compressed with; "" for nothing.
    """

    def __init__(
        self, response: httpx.Response, leave: Callable[[], None], encoding: str = ""
    ) -> None:
        stream = response.stream
        assert isinstance(stream, AsyncIterable)  # noqa: S101 - an async transport's always is
        self._pieces: AsyncIterator[bytes] = aiter(stream)
        self._response = response
        self._leave = leave
        self._encoding = encoding
        self._inflater: Inflater | None = None
        self._over = False

    def __aiter__(self) -> Self:
        """Itself: a body can be read once."""
        return self

    async def __anext__(self) -> bytes:
        """The next plain bytes; with the end of them the connection goes back.

        Raises:
            httpx.TransportError: the connection was lost, or what came cannot be made plain.
        """
        try:
            return await self._inflated() if self._encoding else await anext(self._pieces)
        except StopAsyncIteration:
            await self.aclose()
            raise
        except InflateError as error:
            raise httperrors.malformed(error) from error

    def over(self) -> bool:
        """Whether the connection has gone back already."""
        return self._over

    async def aclose(self) -> None:
        """Be done with it; closes the connection unless the end has been read."""
        if self._over:
            return
        self._over = True
        try:
            match self._pieces:
                case AsyncGenerator() as generator:  # or the garbage collector would have to
                    await generator.aclose()
                case _:
                    pass
            await self._response.aclose()
        finally:
            self._leave()

    async def _inflated(self) -> bytes:
        while self._inflater is None or not (piece := self._inflater.take()):
            try:
                data = await anext(self._pieces)
            except StopAsyncIteration:
                if self._inflater is not None:
                    self._inflater.finish()
                raise
            if self._inflater is None:  # an answer without a body may name any encoding
                self._inflater = Inflater(self._encoding)
            self._inflater.feed(data)
        return piece
