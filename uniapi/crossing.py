"""One request between a host's asyncio loop and the gateway's trio loop, in another thread.

A request crosses over as its ASGI messages: each `receive` and each `send` of the gateway is
awaited on the host's loop, one at a time, so that a slow client slows the provider as it does under
our own server. Both ends may leave: the host's cancellation cancels the request on trio, and what
the gateway no longer waits for is cancelled on the host's loop. Nothing is polled; either loop is
woken by the other (`call_soon_threadsafe`, `run_sync_soon`), and neither call is ever lost: it is
carried out, or says that the loop is gone. Requests may come from several loops; some hosts make a
new one for each.
"""
# ruff: noqa: TID251 - the host's event loop is asyncio's

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

import trio

from uniapi.frontend.asgi import Message, Receive, Send

_GONE: Final[Message] = {"type": "http.disconnect"}


class _Reply:
    """How one `send` went; waited for on trio."""

    def __init__(self) -> None:
        self.event = trio.Event()
        self.error: Exception | None = None
        self.task: asyncio.Task[None] | None = None

    def come(self, error: Exception | None) -> None:
        """On trio."""
        self.error = error
        self.event.set()

    def cancel(self) -> None:
        """On the host's loop."""
        if self.task is not None:
            self.task.cancel()


class Call:
    """One request between the loops; made on the host's."""

    def __init__(self, token: trio.lowlevel.TrioToken, receive: Receive, send: Send) -> None:
        self.scope = trio.CancelScope()
        self._token = token
        self._loop = asyncio.get_running_loop()
        self._host_receive = receive
        self._host_send = send
        self._ended = asyncio.Event()
        self._error: Exception | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._arriving, self._arrived = trio.open_memory_channel[Message](1)
        self._asked = False  # a message is on its way, whether or not somebody waits for it
        self._left = False

    # On the host's loop.

    async def carried(self) -> None:
        """Wait for the request's end; cancelled, end it."""
        try:
            try:
                await self._ended.wait()
            except asyncio.CancelledError:
                self._on_trio(self.scope.cancel)
                await self._ended.wait()
                raise
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._error is not None:
            raise self._error

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _ask(self) -> None:
        self._spawn(self._hear())

    async def _hear(self) -> None:
        try:
            message = await self._host_receive()
        except Exception:  # noqa: BLE001 - a host that cannot say more has lost its client
            message = _GONE
        self._on_trio(self._come, message)

    def _say(self, message: Message, reply: _Reply) -> None:
        reply.task = self._spawn(self._said(message, reply))

    async def _said(self, message: Message, reply: _Reply) -> None:
        error: Exception | None = None
        try:
            await self._host_send(message)
        except Exception as raised:  # noqa: BLE001 - raised again where it was sent
            error = raised
        self._on_trio(reply.come, error)

    def _on_trio(self, what: Callable[..., object], *arguments: object) -> None:
        with suppress(trio.RunFinishedError):  # then nobody waits for it
            self._token.run_sync_soon(what, *arguments)

    # On trio.

    async def receive(self) -> Message:
        """The host's next message. A cancelled wait loses none: the next one gets it."""
        if not self._left and not self._asked:
            self._asked = self._on_host(self._ask)
            self._left = not self._asked
        if self._left:
            await trio.lowlevel.checkpoint()
            return _GONE
        message = await self._arrived.receive()
        self._asked = False
        self._left = message["type"] == "http.disconnect"
        return message

    async def send(self, message: Message) -> None:
        """Wait until the host has sent it; to a client that has gone nothing is sent."""
        reply = _Reply()
        if self._left or not self._on_host(self._say, message, reply):
            self._hang_up()
            await trio.lowlevel.checkpoint()
            return
        try:
            await reply.event.wait()
        except trio.Cancelled:
            self._on_host(reply.cancel)
            raise
        match reply.error:
            case None:
                pass
            case OSError():  # how ASGI says that the client has gone
                self._hang_up()
            case error:
                raise error

    def end(self, error: Exception | None) -> None:
        """Nothing more will be asked of the host."""
        self._error = error
        self._on_host(self._ended.set)

    def _come(self, message: Message) -> None:
        with suppress(trio.WouldBlock):  # full of a farewell
            self._arriving.send_nowait(message)

    def _hang_up(self) -> None:
        """Whoever waits for a message hears that there will be none."""
        if not self._left:
            self._left = True
            self._come(_GONE)

    def _on_host(self, what: Callable[..., object], *arguments: object) -> bool:
        """False when the host's loop is gone, and the client with it."""
        try:
            self._loop.call_soon_threadsafe(what, *arguments)
        except RuntimeError:
            return False
        return True
