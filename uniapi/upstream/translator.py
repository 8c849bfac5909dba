"""One attempt: ask the provider, cut its answer into frames, decode, hand on batches.

    engine.encode -> transport -> framer -> decoder -> gate -> the leg's channel

Everything that can go wrong before the gate opens is the attempt's failure, and somebody else may
be asked. What goes wrong after it is a `StreamFailed` at the end of the batches.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

import httpx
import trio

from uniapi.chat import ChatRequest
from uniapi.config.types import Channel
from uniapi.engines.base import Call, Decoder, Engine, Media, Recipient
from uniapi.errors import ApiError, Failure, Kind
from uniapi.events import Batch, Start, StreamFailed
from uniapi.framing import Framer, actual, framer
from uniapi.ids import fresh
from uniapi.race import Leg
from uniapi.upstream.attempt import Line, end_in
from uniapi.upstream.client import Answer
from uniapi.upstream.gate import Gate, counts
from uniapi.upstream.media import Fetcher, place
from uniapi.upstream.resume import resumed

# Every choice has its finish reason: seconds to wait for usage and [DONE], which some never send.
_TAIL: Final = 2.0
# After the terminal frame: seconds to wait for the end of the body, so that the connection can
# serve again. It comes in the same read nearly always.
_DRAIN: Final = 0.01


@dataclass(frozen=True, slots=True)
class Translator:
    """Runs the attempts of one request.

    Attributes:
        line: the way to the providers.
        fetcher: for media the provider does not fetch itself.
        chat: the request.
        fetched: media by URL, kept from one attempt to the next.
        said: the text of an answer that broke off, to go on with; empty to answer from the start.
    """

    line: Line
    fetcher: Fetcher
    chat: ChatRequest
    fetched: dict[str, Media] = field(default_factory=dict)
    said: str = ""

    async def __call__(self, leg: Leg) -> None:
        """Run one attempt to its end."""
        await self.line.run(leg, _Conversation(self, leg))

    def chat_for(self, engine: Engine, channel: Channel) -> ChatRequest:
        """What is asked of this channel."""
        if not self.said:
            return self.chat
        return resumed(self.chat, self.said, continues=engine.continues(channel.upstream))

    async def media(self, engine: Engine, channel: Channel) -> Mapping[str, Media]:
        """What the engine needs to have at hand, fetched side by side, each URL once.

        Raises:
            ApiError: 400, for what cannot be fetched.
        """
        missing = set(engine.needs(self.chat, channel)) - self.fetched.keys()
        messages = self.chat.fields.get("messages")
        errors: list[ApiError] = []

        async def fetch(url: str) -> None:
            try:
                self.fetched[url] = await self.fetcher.fetch(url, place(messages, url))
            except ApiError as error:
                errors.append(error)

        if missing:
            async with trio.open_nursery() as nursery:
                for url in missing:
                    nursery.start_soon(fetch, url)
        if errors:
            raise errors[0]
        return self.fetched


@dataclass(slots=True)
class _Conversation:
    """One attempt: what was asked of whom, and what has been handed on through which gate."""

    of: Translator
    leg: Leg
    gate: Gate = field(init=False)

    async def call(self, engine: Engine, to: Recipient) -> Call:
        """The engine's call, with the media it needs at hand."""
        chat = self.of.chat_for(engine, to.channel)
        self.gate = Gate(chat, self.of.line.config.preferences.error_triggers)
        media = await self.of.media(engine, to.channel)
        return engine.encode(chat, replace(to, media=media))

    async def read(self, engine: Engine, call: Call, answer: Answer) -> None:
        """Read the body to the end of the answer, which may come before the body's."""
        upstream = self.leg.attempt.channel.upstream
        default = Start(fresh("chatcmpl-"), upstream, int(time.time()))
        frames: Framer | None = None
        decoder: Decoder | None = None
        while True:
            if decoder is not None and decoder.complete():
                data = await _last_words(answer.body)
            else:
                data = await anext(answer.body, None)
            if data is None:
                break
            if frames is None or decoder is None:
                content_type = answer.headers.get("content-type", "")
                framing = actual(call.framing, content_type, data)
                frames = framer(framing)
                decoder = engine.decoder(self.of.chat, framing, default)
            ready = frames.feed(data)
            if not ready:
                continue
            batch = self._cleaned(decoder.feed(ready))
            if await self._take(batch, last=decoder.finished()):
                if not answer.over():
                    await _drained(answer.body)
                return
        if frames is None or decoder is None:
            await end_in(self.leg, Failure(Kind.EMPTY, "the provider sent an empty body", 502))
            return
        ready = frames.end()
        batch = decoder.feed(ready) if ready else Batch(())
        await self._take(self._cleaned(_joined(batch, decoder.end())), last=True)

    async def _take(self, batch: Batch, *, last: bool) -> bool:
        """Pass a batch through the gate; True when nothing more is to be read."""
        leg = self.leg
        if counts(batch):
            leg.token()
        if leg.committed:
            if batch.events or batch.wire:
                await leg.pass_on(batch)
            return last
        ready = self.gate.look(batch, last=last)
        if self.gate.failure is not None:
            leg.fail(self.gate.failure)
            return True
        for held in ready or ():
            await leg.pass_on(held)
        return last

    def _cleaned(self, batch: Batch) -> Batch:
        """The batch with the provider's words in a failure scrubbed."""
        if batch.events and isinstance(last := batch.events[-1], StreamFailed):
            events = (*batch.events[:-1], StreamFailed(self.of.line.clean(last.failure)))
            return replace(batch, events=events)
        return batch


async def _last_words(body: AsyncIterator[bytes]) -> bytes | None:
    """What follows an answer that is complete; None at the end of the body.

    It is not waited for long, and a connection that breaks then has broken nothing.
    """
    with trio.move_on_after(_TAIL), suppress(StopAsyncIteration, httpx.TransportError):
        return await anext(body)
    return None


async def _drained(body: AsyncIterator[bytes]) -> None:
    """Read the end of the body, when it is there."""
    with trio.move_on_after(_DRAIN), suppress(StopAsyncIteration, httpx.TransportError):
        await anext(body)


def _joined(first: Batch, second: Batch) -> Batch:
    """Two batches as one; bytes only when both have them."""
    wire = None
    if first.wire is not None and second.wire is not None:
        wire = first.wire + second.wire
    elif not first.events:
        wire = second.wire
    elif not second.events:
        wire = first.wire
    return Batch((*first.events, *second.events), wire)
