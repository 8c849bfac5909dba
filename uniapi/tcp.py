"""TCP as a proxy uses it: waiting before reading, and writing without waiting where it can.

Trio's own stream tries to read before it waits, which between two tokens is always in vain (a
system call and an exception, 8 us), and goes to the scheduler after each write. Everything else
is trio's.
"""

from __future__ import annotations

import os
import sys
import threading
from abc import abstractmethod
from typing import Final

import trio

_READ: Final = 65_536  # bytes
_BY_NUMBER: Final = sys.platform != "win32"  # where a socket is a file like others


class _Room(threading.local):
    """Where a thread reads into.

    Reading into 64 KiB of its own and cutting that to the size of a token leaves holes wherever
    the next token is put: 5 KB for every open stream.
    """

    def __init__(self) -> None:
        self.whole = memoryview(bytearray(_READ))


_room: Final = _Room()


class Prompt(trio.abc.HalfCloseableStream):
    """A stream that can send without waiting."""

    @abstractmethod
    def send_now(self, data: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
        """Send what can be sent without waiting, nearly always all of it; what is left.

        An error is left to `send_all`, which meets it again.
        """


class Tcp(Prompt):
    """A TCP stream.

    Attributes:
        socket: trio's, for who wants to know addresses.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        """Owns the stream from now on."""
        self._stream = stream
        self._number = stream.socket.fileno()
        self.socket = stream.socket

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As any stream; 64 KiB at most unless told otherwise."""
        most = max_bytes or _READ
        if not _BY_NUMBER:
            return bytes(await self._stream.receive_some(most))
        while True:
            if self._number < 0:
                raise trio.ClosedResourceError
            await trio.lowlevel.wait_readable(self._number)
            try:
                room = _room.whole[:most]
                return bytes(room[: os.readv(self._number, (room,))])
            except BlockingIOError:
                continue  # somebody woke us for nothing
            except OSError as error:
                raise trio.BrokenResourceError from error

    def send_now(self, data: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
        """As any prompt stream."""
        if not _BY_NUMBER:
            return data
        try:
            sent = os.write(self._number, data)
        except OSError:  # of a closed stream too: -1 is no file
            return data
        return data[sent:] if sent < len(data) else b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As any stream, but for not being a checkpoint when nothing has to be waited for."""
        left = self.send_now(data)
        if left:
            await self._stream.send_all(left)

    async def wait_send_all_might_not_block(self) -> None:
        """As any stream."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """As any stream."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """As any stream."""
        self._number = -1  # before the system gives it to somebody else
        await self._stream.aclose()
