"""One attempt at an endpoint other than chat: the provider's bytes go through as they come.

Two kinds of answer. One JSON body is read to its end before anything is handed on, so that a
provider which breaks off, or says 200 and means an error, can be followed by another. Everything
else (audio, subtitles, server-sent events) commits with its first bytes, once they have shown
that they are not an error in disguise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from uniapi import codec
from uniapi.codec import Json
from uniapi.engines import failures
from uniapi.engines.base import Call, Engine, Recipient, Relay, Translate
from uniapi.errors import Failure, Kind
from uniapi.events import Batch, Event, Start, Usage
from uniapi.framing import MAX_BODY, MAX_EVENT, FramingError, SseFramer
from uniapi.race import Leg
from uniapi.relay import SPEECH, RelayRequest
from uniapi.upstream.attempt import Line, end_in
from uniapi.upstream.client import Answer

JSON: Final = "application/json"
SSE: Final = "text/event-stream"

# Bytes of a JSON body that is parsed to see whether it is an error: takes 5 ms at most. Larger
# ones (pictures, thousands of embeddings) would stop every other request for their own check.
_PARSED: Final = 262_144
_TAIL: Final = 2048  # bytes at the end of a larger one in which its usage is looked for
_USAGE: Final = re.compile(rb'"usage"\s*:\s*(\{(?:[^{}]|\{[^{}]*\})*\})')
_TYPED: Final = re.compile(
    rb'"type"\s*:\s*"(?:image_generation|image_edit|transcript\.text|speech\.audio)\.(\w+)"'
)
_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")
_BLANK: Final = b" \t\r\n"
_BINARY: Final = "application/octet-stream"
_EMPTY: Final = Failure(Kind.EMPTY, "the provider sent an empty body", 502, code="empty_response")


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
            await self._fail(_garbage("a web page"))
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
        found = look(body, self.of.request.endpoint)
        if isinstance(found, Failure):
            await self._fail(found)
            return
        self._head(kind, whole=True)
        await self.leg.pass_on(Batch(found, wire=body))

    async def _stream(self, answer: Answer, kind: str) -> None:
        """Bytes as they come."""
        async for data in answer.body:
            self.leg.token()
            if data:
                self._head(kind)
                await self.leg.pass_on(Batch((), wire=data))
        if not self.leg.committed:
            await self._fail(_EMPTY)

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
            unfinished = _unfinished(events, unfinished)
            if (events or self.leg.committed) and (end := _events_end(held)):
                await self._pass_on(kind, events, bytes(held[:end]))
                del held[:end]
        if await self._event_failed(rest := frames.end()):
            return
        if rest:
            await self._pass_on(kind, rest, bytes(held))
        if not self.leg.committed:
            await self._fail(_EMPTY)
        elif _unfinished(rest, unfinished):
            await self._fail(Failure(Kind.CUT, "the stream ended without its last event", 502))

    async def _pass_on(self, kind: str, events: Sequence[bytes], wire: bytes) -> None:
        self._head(kind)
        await self.leg.pass_on(Batch(tuple(_counted(events)), wire=wire))

    async def _event_failed(self, events: Sequence[bytes]) -> bool:
        """Take note of events: a token, or the end when one of them is an error."""
        if events:
            self.leg.token()
        for event in events:
            if (failure := _error_in(event)) is not None:
                await self._fail(failure)
                return True
        return False

    def _token(self, data: bytes) -> None:
        """Whatever is not blank moves the deadline: some servers send blanks to stay connected."""
        if data.strip(_BLANK):
            self.leg.token()

    def _head(self, kind: str, *, whole: bool = False) -> None:
        self.of.heads.setdefault(self.leg.attempt.number, Head(kind, whole))

    async def _fail(self, failure: Failure) -> None:
        await end_in(self.leg, self.of.line.clean(failure))


def look(body: bytes, endpoint: str) -> tuple[Event, ...] | Failure:
    """What one JSON body tells: model and usage, or that it is no answer at all."""
    start, end = body[:_TAIL].lstrip(_BLANK)[:1], body[-_TAIL:]
    if len(body) > _PARSED and endpoint != SPEECH:
        whole = start in {b"{", b"["} and end.rstrip(_BLANK)[-1:] in {b"}", b"]"}
        return tuple(_usage_in(end)) if whole else _garbage("half a body")
    if not body.strip(_BLANK):
        return _EMPTY
    try:
        value = codec.loads(body)
    except ValueError:
        return _garbage("a body that is not JSON")
    if _is_error(value):
        return failures.in_band(value)
    if endpoint == SPEECH:
        return _garbage("JSON where audio was asked for")
    return tuple(_facts(value))


def _translated(translate: Translate, body: bytes) -> bytes | Failure:
    if not body.strip(_BLANK):
        return _EMPTY
    try:
        return translate(body)
    except ValueError as error:
        return _garbage(f"an answer that cannot be read: {error}")


def _is_json(plain: str) -> bool:
    return plain == JSON or plain.endswith("+json")


def _is_error(value: Json) -> bool:
    match value:
        case {"error": dict() | str() as error} if error:
            return True
        case {"errors": [_, *_], "success": False} | {"object": "error"}:
            return True
        case _:
            return False


def _error_in(event: bytes) -> Failure | None:
    """The failure an event is, when it is one; only events that may be are parsed."""
    if b'"error"' not in event[:200]:
        return None
    try:
        value = codec.loads(event)
    except ValueError:
        return None
    return failures.in_band(value) if _is_error(value) else None


def _events_end(data: bytearray) -> int:
    """Where the last complete event ends; 0 when none does."""
    return max(data.rfind(end) + len(end) if end in data else 0 for end in _ENDS)


def _unfinished(events: Sequence[bytes], before: bool) -> bool:
    """Whether a stream of OpenAI's own typed events still owes its last, after these."""
    for event in events:
        if (typed := _TYPED.search(event)) is not None:
            before = typed[1] not in {b"completed", b"done"}
    return before


def _counted(events: Sequence[bytes]) -> Iterator[Event]:
    """Usage, from the event that ends a stream of partial images or of a transcript."""
    for event in events:
        if b'"usage"' in event[-_TAIL:]:
            yield from _usage_in(event[-_TAIL:])


def _facts(value: Json) -> Iterator[Event]:
    if not isinstance(value, dict):
        return
    if isinstance(model := value.get("model"), str):
        yield Start(model=model)
    yield from _usage(value.get("usage"))


def _usage_in(tail: bytes) -> Iterator[Event]:
    """Usage from the end of a body nobody parses."""
    for found in [*_USAGE.finditer(tail)][-1:]:
        try:
            yield from _usage(codec.loads(found[1]))
        except ValueError:
            return


def _usage(value: Json) -> Iterator[Usage]:
    """Tokens, under chat's names (embeddings) or those of images and audio."""
    if not isinstance(value, dict):
        return
    prompt = _number(value.get("prompt_tokens") or value.get("input_tokens"))
    completion = _number(value.get("completion_tokens") or value.get("output_tokens"))
    total = _number(value.get("total_tokens")) or prompt + completion
    if total:
        yield Usage(prompt, completion, total)


def _number(value: Json) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _garbage(said: str) -> Failure:
    return Failure(Kind.GARBAGE, f"the provider sent {said}", 502, code="bad_response")
