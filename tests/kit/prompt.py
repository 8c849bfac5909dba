"""A connection in memory whose one end sends without waiting, as a socket does."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from math import inf

import trio
from trio.testing import MemoryReceiveStream, memory_stream_one_way_pair

from uniapi.tcp import Prompt


class PromptEnd(Prompt):
    """The end that sends without waiting, as much as the system has room for."""

    def __init__(
        self,
        ours: trio.abc.ReceiveStream,
        theirs: MemoryReceiveStream,
        room: Iterator[float],
        wait: float,
    ) -> None:
        self._ours = ours
        self._theirs = theirs
        self._room = room
        self._wait = wait
        self._closed = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._ours.receive_some(max_bytes))

    def send_now(self, data: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
        taken = int(min(next(self._room), len(data)))
        try:
            if taken:
                self._theirs.put_data(bytes(data[:taken]))
        except trio.ClosedResourceError:
            return data
        return data[taken:]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        await trio.sleep(self._wait)
        try:
            self._theirs.put_data(bytes(data))
        except trio.ClosedResourceError:
            raise trio.BrokenResourceError from None

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        self._theirs.put_eof()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self._closed = True
        self._theirs.put_eof()
        await self._ours.aclose()


def prompt_pair(
    room: Iterator[float] | None = None, wait: float = 0.0
) -> tuple[trio.abc.Stream, PromptEnd]:
    """A client's end, and ours.

    `room` is how many bytes each `send_now` may send; what it may not takes so many seconds.
    """
    up, ours = memory_stream_one_way_pair()
    theirs = MemoryReceiveStream()
    end = PromptEnd(ours, theirs, room if room is not None else repeat(inf), wait)
    return trio.StapledStream(up, theirs), end
