"""How an answer is sent, and who tells the log and the statistics of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from uniapi.errors import ApiError
from uniapi.frontend.asgi import JSON, Headers, Message, Request, Send
from uniapi.stats.record import Record

WRITE_TIMEOUT: Final = 60.0  # seconds a client may take to take what we have for it

CORS: Final[Headers] = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"x-request-id, x-uniapi-attempts, retry-after"),
]
NO_STORE: Final = ((b"cache-control", b"no-store"),)
PREFLIGHT: Final[Headers] = [
    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
    (b"access-control-allow-headers", b"*, authorization"),
    (b"access-control-max-age", b"86400"),
]


class Account(Protocol):
    """What a route knows of a request, asked for when it is over."""

    def facts(self) -> dict[str, object]:
        """For the log's one line; None for what does not apply."""
        ...

    def record(self, visit: Visit) -> Record:
        """For the statistics."""
        ...

    def stop(self, error: ApiError) -> None:
        """End with this error, now."""
        ...


@dataclass(frozen=True, slots=True)
class Visit:
    """What can be told of any request that is over, whatever it was about.

    Attributes:
        at: when it ended, unix seconds.
        endpoint: method and canonical path; `other` for a path that is none of ours.
        outcome: in a word.
        seconds: from its first byte to its end.
    """

    at: float
    endpoint: str
    outcome: str
    seconds: float

    def record(self, answer: Answer) -> Record:
        """What is remembered of a request that no provider had a part in."""
        request = answer.request
        return Record(
            at=self.at,
            id=request.id,
            endpoint=self.endpoint,
            client=request.client,
            key=str(answer.facts.get("key") or ""),
            model="",
            stream=False,
            status=answer.status,
            outcome=self.outcome,
            limit="",
            provider="",
            upstream="",
            seconds=self.seconds,
            first=None,
            prompt=0,
            completion=0,
            total=0,
            cost=0.0,
            via=(),
            attempts=(),
        )


@dataclass(slots=True)
class Answer:
    """The way an answer goes out: a head, some body, and the last word.

    Attributes:
        status: 0 until the head has gone out.
        sent: bytes of the body so far.
        broken: the client stopped reading; nothing more will reach it.
        owing: some of what was sent at once has not gone out.
        extra: headers to add to the head, whatever the answer turns out to be.
        facts: what the route knows of it, for the log's one line.
        account: tells more of it, once it is over.

    The last word is sent by whoever has already left the request's nursery: the server says
    "disconnect" while it is finishing, and a watcher that cancels on it would cut the finishing
    short and leave a connection half recycled.
    """

    request: Request
    _send: Send
    status: int = 0
    sent: int = 0
    broken: bool = False
    owing: bool = False
    extra: Headers = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    account: Account | None = None

    @property
    def started(self) -> bool:
        """Whether the head has gone out."""
        return self.status != 0

    async def head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send status and headers; ours are added."""
        self.status = status
        ours = [(b"x-request-id", self.request.id.encode()), *CORS, *self.extra]
        await self._out(
            {"type": "http.response.start", "status": status, "headers": [*headers, *ours]}
        )

    async def body(self, data: bytes) -> None:
        """Send a part, and what is owing before it; waits until the client took it."""
        if not data and not self.owing:
            return
        self.sent += len(data)
        self.owing = False
        await self._out({"type": "http.response.body", "body": data, "more_body": True})

    @property
    def at_once(self) -> bool:
        """Whether `body_now` may be called."""
        return self.request.sending is not None and self.started and not self.owing

    def body_now(self, data: bytes) -> bool:
        """Send a part without waiting; False when some of it is owing, for `body` to send."""
        sending = self.request.sending
        assert sending is not None  # noqa: S101 - see `at_once`
        self.sent += len(data)
        self.owing = not sending(data)
        return not self.owing

    async def last_word(self, data: bytes = b"") -> None:
        """Send the end of the body."""
        self.sent += len(data)
        await self._out({"type": "http.response.body", "body": data, "more_body": False})

    async def whole(
        self,
        status: int,
        data: bytes,
        headers: Iterable[tuple[bytes, bytes]] = (),
        kind: str = JSON,
    ) -> None:
        """Send a complete answer, of JSON unless `kind` says otherwise."""
        length = (b"content-length", str(len(data)).encode())
        await self.head(status, [(b"content-type", kind.encode()), length, *headers])
        await self.last_word(data)

    async def _out(self, message: Message) -> None:
        if not self.request.streams_share:
            await self._send(message)  # HTTP/1: the connection's own write deadline holds
            return
        if self.broken:
            return
        with trio.move_on_after(WRITE_TIMEOUT) as patience:
            await self._send(message)
        self.broken = patience.cancelled_caught  # HTTP/2: a stream's window may never open
