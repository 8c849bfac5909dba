"""What a client sends, on its way to the application: at most so many messages wait.

A memory channel does the same for 6 us more a request. And here the application may say whom to
tell when the client leaves, which costs nothing until it does; a task that waits for it costs 40.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import trio

# An ASGI message; it is typed at our edge, past this room.
Message: TypeAlias = Any
Leaving: TypeAlias = Callable[[], None]

LEAVING: Final = "uniapi.leaving"
"""The key in an ASGI scope's `extensions` of a function that takes a `Leaving`, or None."""

ARRIVED: Final = "uniapi.arrived"
"""Of a function that says whether the whole request has come, so that nothing is waited for."""

_GONE: Final = {"type": "http.disconnect"}


class Inbox:
    """The messages of one request; ends with a disconnect, whatever came before it."""

    __slots__ = ("_arrived", "_closed", "_leaving", "_messages", "_most", "_news", "_room")

    def __init__(self, most: int) -> None:
        """Who puts waits while `most` messages have not been received."""
        self._messages: list[Message] = []  # a few: a deque takes 0.6 KB to be empty
        self._most = most
        self._closed = False
        self._arrived = False
        self._news: trio.Event | None = None
        self._room: trio.Event | None = None
        self._leaving: Leaving | None = None

    async def put(self, message: Message) -> None:
        """Hand on a message; nobody is waited for once the application or the client has gone."""
        if message["type"] == "http.disconnect":
            # It must not wait: the inbox may be full, and the one who says it may be the
            # application itself, or a reader that was cancelled for it.
            self.close()
            return
        while len(self._messages) >= self._most and not self._closed:
            self._room = trio.Event()
            await self._room.wait()
        if self._closed:
            return
        self._messages.append(message)
        self._arrived = not message.get("more_body", True)  # a websocket's have no such word
        if self._news is not None:
            self._news.set()

    async def receive(self) -> Message:
        """The next message; disconnects for ever when there is none and will be none."""
        while not self._messages:
            if self._closed:
                await trio.lowlevel.checkpoint()
                return _GONE
            self._news = trio.Event()
            await self._news.wait()
        message = self._messages.pop(0)
        if self._room is not None:
            self._room.set()
        return message

    def arrived(self) -> bool:
        """Whether the whole request has come."""
        return self._arrived

    def tell(self, leaving: Leaving | None) -> None:
        """Whom to tell when the client leaves; at once when it has. None dismisses them."""
        self._leaving = leaving
        if self._closed and leaving is not None:
            leaving()

    def close(self) -> None:
        """Nothing more will come: the client has gone, or the application has."""
        if self._closed:
            return
        self._closed = True
        for waiting in (self._news, self._room):
            if waiting is not None:
                waiting.set()
        if self._leaving is not None:
            self._leaving()
