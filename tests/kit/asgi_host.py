"""An ASGI host on asyncio, as function platforms have one, for applications that run under it.

`httpx.ASGITransport` joins the body before it returns; this one shows every message as it comes.
"""
# ruff: noqa: TID251 - the host's event loop is asyncio's

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from uniapi.codec import Json, dumps, loads

Application = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass
class Exchange:
    """One request to an application, and what it sent.

    Attributes:
        parts: of the request's body.
        sent: the messages of the application.
        asked: how often it asked for a message.
        at_once: how many of its messages were being sent at a time, at most.
        slow: `send` waits for this before it takes a message.
        breaks: what `send` raises after the head.
    """

    app: Application
    path: str = "/v1/chat/completions"
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)
    parts: Sequence[bytes] = (b"",)
    slow: asyncio.Event | None = None
    breaks: Exception | None = None
    sent: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    at_once: int = 0
    _sending: int = 0
    _given: int = 0

    def __post_init__(self) -> None:
        self._left = asyncio.Event()
        self._news = asyncio.Event()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "https",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(k.encode(), v.encode()) for k, v in self.headers.items()],
            "client": ("203.0.113.7", 0),
            "server": ("gateway.test", 443),
        }
        self.task = asyncio.ensure_future(self.app(scope, self._receive, self._send))
        self.task.add_done_callback(lambda _: self._news.set())

    async def _receive(self) -> dict[str, Any]:
        self.asked += 1
        if self._given < len(self.parts):
            part = self.parts[self._given]
            self._given += 1
            return {
                "type": "http.request",
                "body": part,
                "more_body": self._given < len(self.parts),
            }
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self._sending += 1
        self.at_once = max(self.at_once, self._sending)
        if self.slow is not None:
            self._news.set()
            await self.slow.wait()
        else:
            await asyncio.sleep(0)
        self._sending -= 1
        if self.breaks is not None and self.sent:
            raise self.breaks
        self.sent.append(message)
        self._news.set()

    def leave(self) -> None:
        """The client hangs up."""
        self._left.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for news until it holds, or the application has returned."""
        while not holds() and not self.task.done():
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), 5)
        assert holds()

    async def ended(self) -> Exchange:
        """Wait for the application's return; it raises what the application raised."""
        await asyncio.wait_for(asyncio.shield(self.task), 5)
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def json(self) -> Json:
        return loads(self.body)


def chat(app: Application, key: str, *, stream: bool, **how: Any) -> Exchange:
    """One chat request."""
    messages: Json = [{"role": "user", "content": "Hello"}]
    body = dumps({"model": "m", "stream": stream, "messages": messages})
    parts = (body[:20], body[20:21], body[21:])
    return Exchange(app, headers={"authorization": f"Bearer {key}"}, parts=parts, **how)


@dataclass
class Lifespan:
    """The lifespan of an application under a host."""

    app: Application

    def __post_init__(self) -> None:
        self._to: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}}
        self.task = asyncio.ensure_future(self.app(scope, self._to.get, self._from.put))

    async def say(self, word: str) -> dict[str, Any]:
        """`startup` or `shutdown`; the application's answer."""
        await self._to.put({"type": f"lifespan.{word}"})
        return await asyncio.wait_for(self._from.get(), 5)
