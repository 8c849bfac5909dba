"""Where the streams to providers come from: TCP, with TLS over it when asked.

A `Network` is the seam at which a test puts memory in place of sockets: the transport sees
nothing of the world but this one method.
"""

from __future__ import annotations

import os
import select
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

import certifi
import trio

from uniapi.tcp import Tcp


class Network(Protocol):
    """Opens streams to providers."""

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        """A stream ready for HTTP, its TLS handshake done.

        Raises:
            OSError: refused, unreachable, no such host.
            trio.BrokenResourceError: the TLS handshake failed; the cause says why.
            ValueError: the host is not a name that can be looked up.
        """
        ...


@runtime_checkable
class Probed(Protocol):
    """A stream which can tell, without blocking, whether there is something to read."""

    def readable(self) -> bool:
        """Whether bytes or the end of the stream are waiting."""
        ...


class TcpNetwork:
    """The real network: happy eyeballs, TCP_NODELAY (trio sets it), TLS with verification.

    Args:
        ssl_context: what to trust and speak; made at the first TLS connection when None, because
            reading the system's certificates costs more than 20 ms.
    """

    def __init__(self, ssl_context: ssl.SSLContext | None = None) -> None:
        self._ssl_context = ssl_context

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        """As in `Network`."""
        return await self.connect_to(host, host, port, tls=tls)

    async def connect_to(self, address: str, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        """As `connect`, to an address that was looked up elsewhere; TLS still proves `host`."""
        tcp = Tcp(await trio.open_tcp_stream(address, port))
        if not tls:
            return tcp
        try:
            secure = trio.SSLStream(
                tcp, self._context(), server_hostname=host, https_compatible=True
            )
            await secure.do_handshake()
        except BaseException:
            await hang_up(tcp)
            raise
        return secure

    def _context(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = client_context()
        return self._ssl_context


def client_context() -> ssl.SSLContext:
    """TLS for a client of HTTP/1.1 that trusts what the system trusts, or else certifi."""
    context = ssl.create_default_context()
    if not _has_roots(context):
        context.load_verify_locations(cafile=certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


def _has_roots(context: ssl.SSLContext) -> bool:
    """Whether the system store holds anything; a directory is read lazily and counts as 0."""
    if context.cert_store_stats()["x509_ca"]:
        return True
    paths = ssl.get_default_verify_paths()
    folders = os.environ.get(paths.openssl_capath_env, paths.openssl_capath).split(os.pathsep)
    return any(any(Path(folder).iterdir()) for folder in folders if Path(folder).is_dir())


def probe(stream: trio.abc.Stream) -> Callable[[], bool]:
    """The question whether an idle stream has something to read, chosen once per stream.

    Between two requests a server has nothing to say: whatever can be read is the end of the
    stream, or bytes that would be taken for the next answer. A stream that cannot be asked is
    presumed quiet.
    """
    match stream:
        case trio.SSLStream():
            below = probe(stream.transport_stream)
            return lambda: stream.pending() > 0 or below()
        case Tcp():
            return lambda: _socket_readable(stream.socket.fileno())
        case Probed():
            return stream.readable
        case _:
            return lambda: False


if sys.platform == "win32":

    def _socket_readable(fileno: int) -> bool:
        return bool(select.select([fileno], [], [], 0)[0])

else:

    def _socket_readable(fileno: int) -> bool:
        poll = select.poll()  # select() cannot look at descriptors from 1024 on
        poll.register(fileno, select.POLLIN)
        return bool(poll.poll(0))


async def hang_up(stream: trio.abc.AsyncResource) -> None:
    """Close at once and without a goodbye; done when it returns, cancelled or not."""
    with trio.CancelScope(shield=True) as scope, suppress(trio.BrokenResourceError):
        scope.cancel()
        await stream.aclose()
