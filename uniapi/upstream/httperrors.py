"""How a connection's troubles are told: httpx's exceptions, and words without secrets.

The one place where trio's, ssl's and the system's exceptions become httpx's. No message holds
more of the request than host and port: a path may hold an account, a query or a header a key.
"""

from __future__ import annotations

import ssl

import httpx
import trio

LOST = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
"""What a stream raises when it is no more."""

UNREACHABLE = (*LOST, ValueError)
"""What a network raises when it cannot connect; ValueError for a host that is not a name."""

_WORDS = 200
"""Characters of a peer's own bytes which a message may quote."""


class StaleConnectionError(httpx.ReadError):
    """A kept connection was found closed: not one byte of an answer came over it.

    In all likelihood the server had closed it for idleness before the request arrived, but this
    cannot be known, so the request is not sent again here. Whoever may retry may do so at once.
    """


def connecting(host: str, port: int, error: BaseException) -> httpx.ConnectError:
    """No connection came about."""
    return httpx.ConnectError(f"cannot connect to {_where(host, port)}: {reason(error)}")


def connect_timeout(host: str, port: int, seconds: float) -> httpx.ConnectTimeout:
    """No connection came about in time."""
    return httpx.ConnectTimeout(f"cannot connect to {_where(host, port)} within {seconds:g} s")


def closed() -> httpx.ConnectError:
    """The transport takes no more requests."""
    return httpx.ConnectError("the transport is closed")


def writing(error: BaseException) -> httpx.WriteError:
    """The connection broke while the request went out, and no answer had come."""
    return httpx.WriteError(f"the connection broke while sending: {reason(error)}")


def reading(error: BaseException) -> httpx.ReadError:
    """The connection broke while the answer was awaited or came in."""
    return httpx.ReadError(f"the connection broke while receiving: {reason(error)}")


def stale() -> StaleConnectionError:
    """A kept connection was found closed."""
    return StaleConnectionError("the server had closed the kept connection")


def switched() -> httpx.RemoteProtocolError:
    """The server changed to a protocol which is not HTTP/1.1."""
    return httpx.RemoteProtocolError("the server switched protocols")


def unanswered() -> httpx.RemoteProtocolError:
    """The server ended the connection in good order, but before it had answered."""
    return httpx.RemoteProtocolError("the server closed the connection without an answer")


def malformed(error: BaseException) -> httpx.RemoteProtocolError:
    """What came is not HTTP, or ends too early."""
    return broken(str(error))


def broken(why: str) -> httpx.RemoteProtocolError:
    """The body is not what its head announced."""
    return httpx.RemoteProtocolError(why[:_WORDS])


def unsendable() -> httpx.LocalProtocolError:
    """The request is not HTTP; h11's own words would quote the header, and so the key."""
    return httpx.LocalProtocolError("the request is not valid HTTP/1.1")


def reason(error: BaseException) -> str:
    """Why, in a few words."""
    match error:
        case BaseExceptionGroup(exceptions=each):
            words = "; ".join(dict.fromkeys(map(reason, each)))
        case ssl.SSLCertVerificationError(verify_message=text):
            words = f"certificate not trusted: {text}"
        case ssl.SSLEOFError():
            words = "closed by the peer"
        case ssl.SSLError(reason=str(text)):
            words = f"TLS: {text}"
        case OSError(strerror=str(text)):
            words = text
        case trio.ClosedResourceError():
            words = "closed on this side"
        case BaseException(__cause__=BaseException() as cause):
            words = reason(cause)
        case _:
            words = str(error) or type(error).__name__
    return words[:_WORDS]


def _where(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
