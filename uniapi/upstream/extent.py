"""Where an answer's body ends: after so many bytes, after the last chunk, or with the connection.

h11 reads heads here and nothing else: asked for a body it gives an event a chunk, and at 10 us
each they were a quarter of what a stream in a burst cost. These say the same (a law holds them
to it) at about 1 us a chunk. No I/O: bytes go in, and the body's bytes come out.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

import h11

# As h11 has it (RFC 9112, 7.1): extensions are skipped, blanks before the line's end forgiven.
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,20})(?:;[^\r\n\0]*)?[ \t]*\r\n")
_END: Final = b"\r\n"
_CUT: Final = "the connection was closed before the end of the answer"


class Extent(Protocol):
    """One body on its way.

    Attributes:
        ended: the whole body has been fed.
        rest: what was fed beyond its end.
        failure: why no more can come: they were not the bytes the head announced, or were cut.
    """

    ended: bool
    rest: bytes
    failure: str

    def feed(self, data: bytes) -> bytes:
        """The body's bytes among these, up to where they broke the coding."""
        ...

    def end(self) -> None:
        """The connection has ended; a failure unless the body had."""
        ...


class Sized:
    """A body of a known size."""

    __slots__ = ("_left", "_size", "ended", "failure", "rest")

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self.failure = ""
        self.ended = size == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """As in `Extent`."""
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            return data
        self._left = 0
        self.ended = True
        self.rest += data[left:]
        return data[:left]

    def end(self) -> None:
        """As in `Extent`."""
        if not self.ended:
            self.failure = (
                f"{_CUT}: received {self._size - self._left} bytes, expected {self._size}"
            )


class UntilClosed:
    """A body that ends when the connection does."""

    __slots__ = ("ended", "failure", "rest")

    def __init__(self) -> None:
        self.ended = False
        self.failure = ""
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """As in `Extent`."""
        return data

    def end(self) -> None:
        """As in `Extent`."""
        self.ended = True


class Chunked:
    """A body in chunks, then perhaps trailers, which nobody reads.

    Args:
        limit: bytes of a chunk's first line, and of all trailers.
    """

    __slots__ = ("_kept", "_left", "_limit", "_trailing", "ended", "failure", "rest")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = b""  # the beginning of a line
        self._left = 0  # bytes of the chunk still to come, with its CR LF
        self._trailing = False
        self.ended = False
        self.failure = ""
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """As in `Extent`."""
        if self.ended:
            self.rest += data
            return b""
        if self._kept:
            data, self._kept = self._kept + data, b""
        parts: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not (self._trailing or self.failure):
            if self._left:
                at = self._take(data, at, parts)
                continue
            head = _CHUNK.match(data, at)
            if head is None:
                self._keep(data[at:])
                break
            at = head.end()
            length = int(head[1], 16)
            end = at + length
            if length and data[end : end + 2] == _END:  # all of it is here, as nearly always
                parts.append(data[at:end])
                at = end + 2
                continue
            self._trailing = length == 0
            self._left = length and length + 2
        if self._trailing:
            self._skip(data[at:])
        return b"".join(parts)

    def end(self) -> None:
        """As in `Extent`."""
        if not self.ended:
            self.failure = self.failure or _CUT

    def _take(self, data: bytes, at: int, parts: list[bytes]) -> int:
        """Take what there is of a chunk and its line end; where the rest begins."""
        end = min(at + self._left, len(data))
        body = min(at + max(self._left - 2, 0), end)
        if body > at:
            parts.append(data[at:body])
        self._left -= end - at
        closing = data[body:end]  # of CR LF, all or one of them or none
        if closing and closing != _END[2 - self._left - len(closing) : 2 - self._left]:
            self.failure = "a chunk is longer than it said"
        return end

    def _keep(self, line: bytes) -> None:
        """Put aside the beginning of a chunk's first line, when it may be one."""
        if b"\n" in line or len(line) > self._limit:
            self.failure = f"not a chunk: {line[:40]!r}"
        self._kept = line

    def _skip(self, data: bytes) -> None:
        """Skip trailers; the blank line after them is the end."""
        if data[:2] == _END:
            found, end = 0, 2
        else:
            found = data.find(b"\r\n\r\n")
            end = found + 4
        if found >= 0:
            self.ended = True
            self.rest = data[end:]
        elif len(data) > self._limit:
            self.failure = "the trailers are too large"
        else:
            self._kept = data


def extent_of(head: h11.Response, *, bodiless: bool, limit: int) -> Extent:
    """How the body of an answer ends; h11 has seen to it that its head makes sense.

    Args:
        head: of the answer.
        bodiless: the request was one whose answers have no body (HEAD).
        limit: see `Chunked`.
    """
    if bodiless or head.status_code in {204, 304}:
        return Sized(0)
    size: int | None = None
    for name, value in head.headers:
        if name == b"transfer-encoding":
            return Chunked(limit)
        if name == b"content-length":
            size = int(value)
    return UntilClosed() if size is None else Sized(size)
