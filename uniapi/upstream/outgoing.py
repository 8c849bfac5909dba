"""A request as bytes: its head checked once, then said as often as it is asked.

httpx's `Request` and h11's checks of each header are 50 us a call, and between two calls to one
provider nothing of the head differs but the length. So heads are kept by what they are made of.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import h11
import httpx

from uniapi.upstream import httperrors
from uniapi.upstream.pool import Origin

_PORTS: Final = {"http": 80, "https": 443}
_FRAMING: Final = {"content-length", "transfer-encoding"}  # ours to say
_SIZED: Final = {"POST", "PUT", "PATCH"}  # a length even when it is 0
_MOST: Final = 1024  # heads kept; a configuration has as many as channels, keys and passed headers
_LARGEST: Final = 4096  # bytes of a head that is kept: some of it may be a client's own

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One request, ready for a connection.

    Attributes:
        origin: where to.
        head: with the blank line after it.
        content: the body.
        chunked: `content` is a stream whose head promises chunks.
        length: what the head promises of a stream that is not chunked.
        bodiless: its answer has no body, whatever the answer's head says.
    """

    origin: Origin
    head: bytes
    content: bytes | AsyncIterable[bytes]
    chunked: bool = False
    length: int | None = None
    bodiless: bool = False


class Heads:
    """The heads of requests, by what they are made of."""

    def __init__(self) -> None:
        self._heads: dict[tuple[str, str, Headers], tuple[Origin, bytes]] = {}

    def outgoing(
        self, method: str, url: str, headers: tuple[tuple[str, str], ...], body: bytes
    ) -> Outgoing:
        """A request with a body in memory.

        Raises:
            httpx.InvalidURL, httpx.UnsupportedProtocol: not a URL that can be asked.
            httpx.LocalProtocolError: it cannot be said in HTTP/1.1.
        """
        made_of = (method, url, headers)
        kept = self._heads.get(made_of)
        if kept is None:
            kept = _made(method, httpx.URL(url), headers)
            if len(self._heads) >= _MOST:
                self._heads.clear()
            if len(kept[1]) <= _LARGEST:
                self._heads[made_of] = kept
        origin, head = kept
        sized = b"content-length: %d\r\n\r\n" % len(body) if body or method in _SIZED else b"\r\n"
        return Outgoing(origin, head + sized, body, bodiless=method == "HEAD")


def _made(method: str, url: httpx.URL, headers: Headers) -> tuple[Origin, bytes]:
    """Where to, and the head without its framing and its blank line."""
    given = [(name, value) for name, value in headers if name.lower() not in _FRAMING]
    if not any(name.lower() == "host" for name, _ in given):
        given.insert(0, ("host", url.netloc.decode("ascii")))
    pairs = [(name.encode("ascii"), value.encode("utf-8")) for name, value in given]
    return origin_of(url), _head(method, url.raw_path, pairs).removesuffix(b"\r\n")


def outgoing_of(request: httpx.Request) -> Outgoing:
    """The same for a request of httpx's.

    Raises:
        httpx.UnsupportedProtocol: neither http nor https.
        httpx.LocalProtocolError: it cannot be said in HTTP/1.1.
    """
    content = _content(request)
    said = request.headers.get("content-length")
    length = int(said) if said is not None and said.isdecimal() else None
    if isinstance(content, bytes) and length not in {None, len(content)}:
        raise httperrors.unsendable()
    return Outgoing(
        origin_of(request.url),
        _head(request.method, request.url.raw_path, request.headers.raw),
        content,
        chunked="transfer-encoding" in request.headers,
        length=length,
        bodiless=request.method == "HEAD",
    )


def _head(method: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    # raised outside any handler: h11's error quotes the header, and so would a traceback
    with suppress(h11.LocalProtocolError):
        event = h11.Request(method=method, target=target, headers=headers)
        return h11.Connection(h11.CLIENT).send(event) or b""
    raise httperrors.unsendable()


def origin_of(url: httpx.URL) -> Origin:
    """What a URL leads to.

    Raises:
        httpx.UnsupportedProtocol: neither http nor https, or no host.
    """
    scheme = url.scheme
    if scheme not in _PORTS:
        raise httpx.UnsupportedProtocol("the URL is neither http nor https")
    host = url.raw_host.decode("ascii")
    if not host:
        raise httpx.UnsupportedProtocol("the URL names no host")
    return Origin(scheme, host, url.port or _PORTS[scheme])


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
