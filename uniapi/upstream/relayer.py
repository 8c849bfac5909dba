"""One attempt at an endpoint other than chat: the provider's bytes go through as they come.

Two kinds of answer. One JSON body is read to its end before anything is handed on, so that a
provider which breaks off, or says 200 and means an error, can be followed by another. Everything
else (audio, subtitles, server-sent events) commits with its first bytes, once they have shown
that they are not an error in disguise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from uniapi.engines.base import Call, Engine, Recipient, Relay, Translate
from uniapi.errors import Failure, Kind
from uniapi.events import Batch
from uniapi.framing import MAX_BODY, MAX_EVENT, FramingError, SseFramer
from uniapi.race import Leg
from uniapi.relay import RelayRequest
from uniapi.upstream import look
from uniapi.upstream.attempt import Line, end_in
from uniapi.upstream.client import Answer

JSON: Final = "application/json"
SSE: Final = "text/event-stream"

_BINARY: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Head:
    """What the client is told of an answer before its body.

    Attributes:
        content_type: of the body.
        whole: the body is one JSON text, in one batch.
    """

    content_type: str
    whole: bool


@dataclass(frozen=True, slots=True)
class Relayer:
    """Runs the attempts of one request.

    Attributes:
        line: the way to the providers.
        request: what is relayed.
        heads: by attempt, from the moment it has committed.
    """

    line: Line
    request: RelayRequest
    heads: dict[int, Head] = field(default_factory=dict)

    async def __call__(self, leg: Leg) -> None:
        """Run one attempt to its end."""
        await self.line.run(leg, _Passage(self, leg))

    def head(self, leg: Leg) -> Head:
        """The head of a committed attempt's answer."""
        return self.heads[leg.attempt.number]


@dataclass(slots=True)
class _Passage:
    """One attempt."""

    of: Relayer
    leg: Leg
    relay: Relay | None = None

    async def call(self, engine: Engine, to: Recipient) -> Call | Failure:
        """The engine's call; a provider that has no such endpoint is not asked."""
        self.relay = engine.relay(self.of.request, to)
        if self.relay is None:
            said = f"this provider does not offer {self.of.request.endpoint}"
            return Failure(Kind.REQUEST, said, 400, code="endpoint_not_offered")
        return self.relay.call

    async def read(self, engine: Engine, call: Call, answer: Answer) -> None:  # noqa: ARG002 - as of any talk
        """Pass on the answer, whichever kind it is."""
        kind = answer.headers.get("content-type", "")
        plain = kind.partition(";")[0].strip().lower()
        if plain == "text/html":
            await self._fail(look.garbage("a web page"))
        elif plain == SSE:
            await self._events(answer, kind)
        elif self.of.request.whole or _is_json(plain):
            await self._whole(answer, kind if _is_json(plain) else JSON)
        else:
            await self._stream(answer, kind or _BINARY)

    async def _whole(self, answer: Answer, kind: str) -> None:
        """One JSON body: read, looked at, handed on."""
        parts: list[bytes] = []
        size = 0
        async for data in answer.body:
            self._token(data)
            parts.append(data)
            size += len(data)
            if size > MAX_BODY:
                raise FramingError(f"a body of over {MAX_BODY} bytes")
        body = b"".join(parts)
        del parts[:]
        if self.relay is not None and self.relay.translate is not None:
            translated = _translated(self.relay.translate, body)
            if isinstance(translated, Failure):
                await self._fail(translated)
                return
            body, kind = translated, JSON
        found = look.whole(body, self.of.request.endpoint)
        if isinstance(found, Failure):
            await self._fail(found)
            return
        self._head(kind, whole=True)
        await self.leg.pass_on(Batch(found, wire=body))

    async def _stream(self, answer: Answer, kind: str) -> None:
        """Bytes as they come; what may be an error object by another name is looked at first."""
        sound = kind.lower().startswith("audio/")  # raw samples may begin with any byte
        held = b""
        async for data in answer.body:
            if not data:
                continue
            self._token(data)
            held += data
            if self.leg.committed or sound or not look.may_be_error(held):
                await self._pass_on(kind, (), held)
                held = b""
        if held and (failure := look.error_in(held)) is not None:
            await self._fail(failure)
        elif held:
            await self._pass_on(kind, (), held)
        elif not self.leg.committed:
            await self._fail(look.EMPTY)

    async def _events(self, answer: Answer, kind: str) -> None:
        """Server-sent events as they come, once the first of them is none of an error."""
        frames = SseFramer(MAX_EVENT)
        held = bytearray()  # an event that is cut off must not become the beginning of ours
        unfinished = False
        async for data in answer.body:
            events = frames.feed(data)
            held += data
            if await self._event_failed(events):
                return
            unfinished = look.unfinished(events, unfinished)
            end = look.events_end(held)
            if end and (events or self.leg.committed):
                await self._pass_on(kind, events, bytes(held[:end]))
            del held[:end]  # comments before the first event are no answer
        if await self._event_failed(rest := frames.end()):
            return
        if rest:
            await self._pass_on(kind, rest, bytes(held))
        if not self.leg.committed:
            await self._fail(look.EMPTY)
        elif look.unfinished(rest, unfinished):
            await self._fail(Failure(Kind.CUT, "the stream ended without its last event", 502))

    async def _pass_on(self, kind: str, events: Sequence[bytes], wire: bytes) -> None:
        self._head(kind)
        await self.leg.pass_on(Batch(tuple(look.counted(events)), wire=wire))

    async def _event_failed(self, events: Sequence[bytes]) -> bool:
        """Take note of events: a token, or the end when one of them is an error."""
        if events:
            self.leg.token()
        for event in events:
            if (failure := look.error_in(event)) is not None:
                await self._fail(failure)
                return True
        return False

    def _token(self, data: bytes) -> None:
        """Whatever is not blank moves the deadline: some servers send blanks to stay connected."""
        if data.strip(look.BLANK):
            self.leg.token()

    def _head(self, kind: str, *, whole: bool = False) -> None:
        self.of.heads.setdefault(self.leg.attempt.number, Head(kind, whole))

    async def _fail(self, failure: Failure) -> None:
        await end_in(self.leg, self.of.line.clean(failure))


def _translated(translate: Translate, body: bytes) -> bytes | Failure:
    if not body.strip(look.BLANK):
        return look.EMPTY
    try:
        return translate(body)
    except ValueError as error:
        return look.garbage(f"an answer that cannot be read: {error}")


def _is_json(plain: str) -> bool:
    return plain == JSON or plain.endswith("+json")
