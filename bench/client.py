"""A cheap OpenAI client that times what it reads and believes nothing: whole and equal, or wrong.

It leaves the parsing until the answer is over, does not parse again what it has seen, and waits
before it reads, on plain sockets: at ten thousand chunks a second it has to be on time itself.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import trio

from bench.answers import WrongError, json_text, stream_text
from uniapi.codec import dumps

_HEAD_LIMIT: Final = 65_536
_READ: Final = 65_536
_FIRST_WORDS: Final = re.compile(rb'"(?:reasoning_)?content": ?"[^"]|"arguments": ?"[^"]')


@dataclass(frozen=True, slots=True)
class Target:
    """Where and what to ask.

    Attributes:
        host: a loopback address.
        port: of the endpoint.
        request: the whole HTTP request as bytes.
        stream: whether it asks for a stream.
        expected: the text every answer must equal; None takes any text.
    """

    host: str
    port: int
    request: bytes
    stream: bool
    expected: str | None


def target(
    url: str, *, key: str, model: str, stream: bool, expected: str | None, prompt: str = "Hello"
) -> Target:
    """The target for an endpoint's URL.

    Raises:
        ValueError: when it is not plain http on loopback: load is for one's own machine.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "http" or not _is_loopback(host):
        raise ValueError(f"{url} is not http on loopback")
    port = parts.port or 80
    body = dumps(
        {"model": model, "stream": stream, "messages": [{"role": "user", "content": prompt}]}
    )
    head = (
        f"POST {parts.path or '/v1/chat/completions'} HTTP/1.1\r\nhost: {host}:{port}\r\n"
        f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    address = "127.0.0.1" if host == "localhost" else host
    return Target(address, port, head.encode() + body, stream, expected)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(slots=True)
class Result:
    """How one request went; seconds from when it was due.

    Attributes:
        error: the kind of failure, or None for an answer that is whole and right.
        latency: to the last byte.
        ttft: to the first word; None when there was none, and for JSON answers.
        gaps: between reads that brought words.
    """

    error: str | None = None
    latency: float = 0.0
    ttft: float | None = None
    gaps: list[float] = field(default_factory=list)


class Client:
    """Asks one target, over connections it keeps; any number of requests at once."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._idle: list[socket.socket] = []
        self._right = b""  # a body that was judged: the same bytes again are as right

    async def ask(self, due: float, patience: float) -> Result:
        """One request, due at this `trio.current_time()`, given up after `patience` seconds."""
        result = Result()
        try:
            with trio.fail_after(patience):
                body = await self._exchange(due, result)
            self._judge(body)
        except WrongError as wrong:
            result.error = str(wrong)
        except trio.TooSlowError:
            result.error = "timeout"
        except (ConnectionResetError, BrokenPipeError):
            result.error = "reset"
        except OSError:
            result.error = "connect"
        result.latency = result.latency or trio.current_time() - due
        return result

    async def aclose(self) -> None:
        """Close what is kept."""
        while self._idle:
            _close(self._idle.pop())
        await trio.lowlevel.checkpoint()

    async def _exchange(self, due: float, result: Result) -> bytes:
        """Ask and read the whole answer; fills in the times."""
        sock = self._idle.pop() if self._idle else await _connected(self._target)
        keep = False
        try:
            await _send(sock, self._target.request)
            status, body, keep = await self._read(sock, due, result)
        finally:
            if keep:
                self._idle.append(sock)
            else:
                _close(sock)
        if status != 200:
            raise WrongError(f"status {status}")
        return body

    async def _read(
        self, sock: socket.socket, due: float, result: Result
    ) -> tuple[int, bytes, bool]:
        buffer = b""
        while b"\r\n\r\n" not in buffer:
            data = await _receive(sock)
            if not data or len(buffer) > _HEAD_LIMIT:
                raise WrongError("reset" if not buffer else "not HTTP")
            buffer += data
        head, _, data = buffer.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        reader = _Body(lines)
        last: float | None = None
        while True:
            now = trio.current_time()
            piece = reader.feed(data) if data else b""
            if piece and self._target.stream and (last or _FIRST_WORDS.search(piece)):
                if last is None:
                    result.ttft = now - due
                elif b'"delta"' in piece:
                    result.gaps.append(now - last)
                last = now
            if reader.done:
                break
            data = await _receive(sock)
            if not data:
                raise WrongError("cut")
        result.latency = trio.current_time() - due
        keep = b"connection: close" not in lines
        return int(head[9:12]), b"".join(reader.pieces), keep

    def _judge(self, body: bytes) -> None:
        """Raise `WrongError` unless the answer is whole and right."""
        if body == self._right:
            return
        text = stream_text(body) if self._target.stream else json_text(body)
        if self._target.expected is not None and text != self._target.expected:
            raise WrongError("wrong text")
        self._right = body


async def _connected(target: Target) -> socket.socket:
    family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
    sock = socket.socket(family)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BlockingIOError):
            sock.connect((target.host, target.port))
        await trio.lowlevel.wait_writable(sock)
        sock.getpeername()  # an OSError where nobody listens
    except BaseException:
        sock.close()
        raise
    return sock


async def _send(sock: socket.socket, data: bytes) -> None:
    while data:
        try:
            data = data[sock.send(data) :]
        except BlockingIOError:
            await trio.lowlevel.wait_writable(sock)


async def _receive(sock: socket.socket) -> bytes:
    while True:
        await trio.lowlevel.wait_readable(sock)
        with contextlib.suppress(BlockingIOError):
            return sock.recv(_READ)


def _close(sock: socket.socket) -> None:
    trio.lowlevel.notify_closing(sock)
    sock.close()


class _Body:
    """Takes the chunked coding off, or counts the length."""

    def __init__(self, lines: list[bytes]) -> None:
        self.pieces: list[bytes] = []
        self.done = False
        self._rest = b""
        self._left = 0  # bytes of this chunk (with its CR LF) or of the body still to come
        self._chunked = any(
            line.startswith(b"transfer-encoding:") and b"chunked" in line for line in lines
        )
        if not self._chunked:
            lengths = [line[15:] for line in lines if line.startswith(b"content-length:")]
            if not lengths:
                raise WrongError("not HTTP")
            self._left = int(lengths[0])
            self.done = self._left == 0

    def feed(self, data: bytes) -> bytes:
        """The body's bytes out of these."""
        if not self._chunked:
            self._left -= len(data)
            self.done = self._left <= 0
            self.pieces.append(data)
            return data
        data = self._rest + data
        found: list[bytes] = []
        while True:
            size_line, end, rest = data.partition(b"\r\n")
            if not end:
                break
            size = int(size_line.partition(b";")[0], 16)
            if len(rest) < size + 2:
                break
            self.done = size == 0
            found.append(rest[:size])
            data = rest[size + 2 :]
            if self.done:
                break
        self._rest = data
        piece = b"".join(found)
        self.pieces.append(piece)
        return piece
