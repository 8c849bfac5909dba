"""The client's stream with a limit to how long it may refuse what we send."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, TypeAlias

import trio

from uniapi.tcp import Prompt

WRITE_TIMEOUT: Final = 60.0  # seconds a client may take none of what is sent to it
_CLOSE_TIMEOUT: Final = 1.0  # seconds for TLS to say goodbye
_PIECE: Final = 65_536  # bytes sent under one deadline: about 1 KB/s is the slowest reader

Transport: TypeAlias = trio.abc.Stream


class ClientStream:
    """A stream whose writes have a deadline of their own; once broken it stays broken."""

    def __init__(self, transport: Transport, write_timeout: float = WRITE_TIMEOUT) -> None:
        """`transport` is a socket, TLS over one, or a memory stream in tests."""
        self._transport = transport
        self._prompt = transport if isinstance(transport, Prompt) else None
        self._write_timeout = write_timeout
        self._writing: trio.CancelScope | None = None
        self._ended = False
        self.broken = False

    @property
    def prompt(self) -> bool:
        """Whether `send_now` ever sends anything."""
        return self._prompt is not None

    def send_now(self, data: bytes) -> bytes:
        """Send what the system takes without waiting, nearly always all of it; what is left.

        What does not wait needs no deadline, no lock and no checkpoint: they were 17 us of the 83
        that a small piece of a stream cost. An error is left to `send_all`, which meets it again.
        """
        if self._prompt is None or self._ended:
            return data
        return bytes(self._prompt.send_now(data))

    async def send_all(self, data: bytes) -> None:
        """Send, or break the stream when the client does not take it in time.

        The deadline is inside whatever shield the caller put around this: an inner scope's own
        deadline still fires. It is for each piece of a large answer: slow is not stalled.

        Raises:
            trio.BrokenResourceError: the client has gone, or has not read for too long.
        """
        for start in range(0, len(data), _PIECE):  # none when empty, as hypercorn ends a body
            await self._send_piece(data[start : start + _PIECE])

    async def _send_piece(self, data: bytes) -> None:
        if self._ended:
            raise trio.BrokenResourceError
        with trio.move_on_after(self._write_timeout) as self._writing:
            try:
                await self._transport.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.broken = self._ended = True
                raise trio.BrokenResourceError from None
        if self._writing.cancelled_caught:
            self.broken = self._ended = True
            await trio.aclose_forcefully(self._transport)
            raise trio.BrokenResourceError("the client does not read")

    def end_writes(self) -> None:
        """Nothing more is to be sent; a write in progress breaks now, whatever shields it."""
        self._ended = True
        if self._writing is not None:
            self._writing.cancel()

    async def receive_some(self, most: int) -> bytes:
        """Read; empty at the end."""
        return bytes(await self._transport.receive_some(most))

    async def send_eof(self) -> bool:
        """Say that nothing more will be sent; False where the transport cannot say it."""
        match self._transport:
            case trio.abc.HalfCloseableStream():
                with suppress(
                    trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError
                ):
                    await self._transport.send_eof()
                return True
            case _:
                return False

    async def aclose(self) -> None:
        """Close, politely for a moment and then not."""
        if self.broken:
            await trio.aclose_forcefully(self._transport)
            return
        with (
            trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_TIMEOUT),
            suppress(trio.BrokenResourceError),
        ):
            await self._transport.aclose()
