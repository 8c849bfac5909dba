"""HTTP/2 as hypercorn speaks it, so that what ends one stream ends one stream.

An answer that comes before the whole request (a 401, a 413) leaves bytes on their way that belong
to no stream any more: they are counted and dropped, where hypercorn's own would end the connection
and every other stream with it. An answer that is given up is reset, so that its client hears of it.

When the server ends, a connection ends with a GOAWAY, and that comes when its last stream is over:
to h2, here and in many a client, a connection that is going away is closed, and what is still sent
over it a mistake. Nor is the number of streams set to 0 before: who asks all the same would end the
whole connection. Streams that come too late are refused: their clients may safely ask elsewhere.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Final

from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamReset
from h2.exceptions import ProtocolError
from hypercorn.events import Updated
from hypercorn.protocol.events import Body, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h2 import BUFFER_HIGH_WATER, H2Protocol

_OF_HTTP1: Final = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"})


class H2(H2Protocol):
    """One HTTP/2 connection."""

    head_follows = head_wanted = False  # bytes between requests are pings, settings and windows
    unread = False

    def leave(self) -> None:
        """End the connection: at once when nothing is under way, else after the last stream."""
        with suppress(RuntimeError):  # its nursery takes no more tasks: it has ended
            self.task_group.spawn(self._leave)

    async def _handle_events(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case RequestReceived(stream_id=stream) if self._leaving:
                    self.connection.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
                    await self._flush()
                case StreamReset(stream_id=stream) if stream in self.streams:
                    await super()._handle_events([event])
                    await self._over()
                case DataReceived(stream_id=stream) if stream not in self.streams:
                    with suppress(ProtocolError):
                        self.connection.acknowledge_received_data(
                            event.flow_controlled_length, stream
                        )
                    await self._flush()
                case _:
                    await super()._handle_events([event])

    async def stream_send(self, event: StreamEvent) -> None:
        """What a stream wants sent."""
        match event:
            case Response(headers=headers):
                kept = [(name, value) for name, value in headers if name not in _OF_HTTP1]
                await super().stream_send(replace(event, headers=kept))
            case Body(stream_id=stream):
                await super().stream_send(event)
                buffer = self.stream_buffers.get(stream)
                if buffer is not None and len(buffer.buffer) >= BUFFER_HIGH_WATER:
                    # Hypercorn's own wait ends with any small write, that of a shut window too.
                    await buffer.drain()
            case StreamClosed(stream_id=stream):
                await self._give_up(stream)
                await self._close_stream(stream)
                await self._over()
            case _:
                await super().stream_send(event)

    @property
    def _leaving(self) -> bool:
        return self.context.terminated.is_set()

    async def _over(self) -> None:
        """A stream is over, if perhaps not all of it sent."""
        if self._leaving:
            await self._leave()
        else:
            await self.send(Updated(idle=self.idle))

    async def _send_data(self, stream_id: int) -> None:
        await super()._send_data(stream_id)
        if self._leaving:
            await self._leave()

    async def _leave(self) -> None:
        if self.idle and not self.stream_buffers:
            self.connection.close_connection()
            await self._flush()
            await self.send(Updated(idle=True))

    async def _give_up(self, stream: int) -> None:
        """Reset a stream whose answer has no end."""
        buffer = self.stream_buffers.get(stream)
        if buffer is None or buffer.complete:
            return
        with suppress(ProtocolError):
            self.connection.reset_stream(stream, ErrorCodes.CANCEL)
        await buffer.close()
        with suppress(KeyError):  # the sending task has cleared it away already
            self.priority.unblock(stream)
        await self.has_data.set()
        await self._flush()
