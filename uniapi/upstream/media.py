"""Fetching what a request points to, for providers that do not fetch it themselves.

A URL in a request is a stranger's wish to make this machine open a connection. So: http and https
only; the name is resolved here, every address it has is checked, and the connection is made to a
checked address and no other; no redirects; a cap on size and on time.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias
from urllib.parse import urlsplit

import httpx
import trio

from uniapi import __version__
from uniapi.codec import Json
from uniapi.engines.base import Media
from uniapi.errors import ApiError
from uniapi.upstream.network import Network, TcpNetwork
from uniapi.upstream.transport import Transport

MAX_SIZE: Final = 20_000_000  # bytes
TIMEOUT: Final = 10.0  # seconds for one URL, everything included
_TYPES: Final = ("image/", "audio/", "video/", "application/pdf", "text/plain")

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]


class Addressed(Protocol):
    """A network that connects to an address under another name."""

    async def connect_to(self, address: str, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        """As `TcpNetwork.connect_to`."""
        ...


class ForbiddenAddressError(OSError):
    """The name leads to an address that is not on the public internet."""


def public(address: str) -> bool:
    """Whether an address may be fetched from: global unicast, also behind IPv6's disguises.

    What carries an IPv4 address is as public as that one (RFC 4291 2.5.5.2, 3056, 4380, 6052).
    Python's `is_global` alone would let through site-local and IPv4-compatible addresses.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is None:
            return ip in _UNICAST and ip.is_global and ip not in _DOCUMENTATION
        ip = inner
    return ip.is_global and not ip.is_multicast and ip not in _RELAYS


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # all that has been given out (RFC 3587)
_DOCUMENTATION: Final = ipaddress.IPv6Network("3fff::/20")  # RFC 9637; too new for some Pythons
_RELAYS: Final = ipaddress.IPv4Network("192.88.99.0/24")  # 6to4's, withdrawn by RFC 7526


async def resolve(host: str, port: int) -> Sequence[str]:
    """Every address a name has.

    Raises:
        OSError: the name has none.
    """
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


@dataclass(frozen=True, slots=True)
class PublicNetwork:
    """A network that reaches public addresses only.

    Attributes:
        below: makes the connection, to an address.
        resolve: name to addresses.
        allowed: which addresses may be reached.
    """

    below: Addressed = field(default_factory=TcpNetwork)
    resolve: Resolve = resolve
    allowed: Callable[[str], bool] = public

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        """Connect to a checked address of the host; TLS still proves the name.

        The addresses are tried in the order they came, which is the system's.

        Raises:
            ForbiddenAddressError: one of its addresses is not public.
            OSError: nobody there.
        """
        addresses = await self.resolve(host.strip("[]"), port)
        if not addresses or not all(self.allowed(address) for address in addresses):
            raise ForbiddenAddressError("its address is not public")
        *others, last = dict.fromkeys(addresses)
        for address in others:
            with suppress(OSError):
                return await self.below.connect_to(address, host, port, tls=tls)
        return await self.below.connect_to(last, host, port, tls=tls)


class Fetcher:
    """Fetches media; keeps no connection and no copy."""

    def __init__(self, network: Network | None = None) -> None:
        self._transport = Transport(network or PublicNetwork(), max_idle_per_origin=0)

    async def fetch(self, url: str, param: str = "messages") -> Media:
        """What is behind a URL.

        Args:
            url: http or https.
            param: where in the request it stands.

        Raises:
            ApiError: 400 naming the parameter and saying why it cannot be had; never shows more
                of the URL than its host.
        """
        refused = _Refusal(param, "?")
        try:
            parts = urlsplit(url)
            refused = _Refusal(param, parts.hostname or "?")
            if parts.port == 0:  # reading it raises ValueError above 65535
                raise refused("it is not a URL")
            with trio.fail_after(TIMEOUT):
                return await self._fetch(url, refused)
        except trio.TooSlowError:
            raise refused(f"it did not arrive within {TIMEOUT:g} s") from None
        except httpx.TransportError as error:
            forbidden = isinstance(error.__cause__, ForbiddenAddressError)
            said = str(error.__cause__) if forbidden else "it could not be fetched"
            raise refused(said) from None
        except (httpx.InvalidURL, ValueError):
            raise refused("it is not a URL") from None

    async def _fetch(self, url: str, refused: _Refusal) -> Media:
        headers = {"user-agent": f"uniapi/{__version__}", "accept-encoding": "identity"}
        request = httpx.Request("GET", url, headers=headers)
        response = await self._transport.handle_async_request(request)
        try:
            if response.status_code != 200:
                raise refused(f"the server there answered {response.status_code}")
            kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            if not kind.startswith(_TYPES):
                raise refused(f"it is {kind or 'of no type'}, not media")
            data = bytearray()
            async for part in response.stream:  # type: ignore[union-attr] # an async transport's
                data += part
                if len(data) > MAX_SIZE:
                    raise refused(f"it is larger than {MAX_SIZE} bytes")
            return Media(kind, bytes(data))
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Close what is open."""
        await self._transport.aclose()


@dataclass(frozen=True, slots=True)
class _Refusal:
    """How an error about one URL begins: where in the request it stands, and its host."""

    param: str
    host: str

    def __call__(self, said: str) -> ApiError:
        message = f"{self.param}: the URL there (host {self.host}) was not used: {said}"
        return ApiError(400, message, "media_not_fetched", param=self.param)


def place(messages: Json, url: str) -> str:
    """Where in a request's messages a URL stands, such as `messages[0].content[1].image_url.url`.

    `messages` when it is nowhere to be found, or spelt another way.
    """
    return next(_places(messages, "messages", url), "messages")


def _places(value: Json, path: str, url: str) -> Iterator[str]:
    match value:
        case dict():
            for name, inner in value.items():
                yield from _places(inner, f"{path}.{name}", url)
        case list():
            for number, inner in enumerate(value):
                yield from _places(inner, f"{path}[{number}]", url)
        case str() if value == url:
            yield path
        case _:
            pass
