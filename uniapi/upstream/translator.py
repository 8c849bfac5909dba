"""One attempt: ask the provider, cut its answer into frames, decode, hand on batches.

    engine.encode -> transport -> framer -> decoder -> gate -> the leg's channel

Everything that can go wrong before the gate opens is the attempt's failure, and somebody else may
be asked. What goes wrong after it is a `StreamFailed` at the end of the batches.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

import httpx
import structlog
import trio

from uniapi.chat import ChatRequest
from uniapi.config.types import Channel, Config, Secret
from uniapi.engines.base import Decoder, Engine, Media, Recipient
from uniapi.engines.registry import engine_for
from uniapi.errors import ApiError, Failure, Kind
from uniapi.events import Batch, Start, StreamFailed
from uniapi.framing import Framer, Framing, FramingError, actual, framer
from uniapi.race import Leg
from uniapi.upstream.client import Answer, Client, ProxyError, network_failure
from uniapi.upstream.credentials import Credentials
from uniapi.upstream.gate import Gate, counts
from uniapi.upstream.media import Fetcher
from uniapi.upstream.scrub import scrub

log = structlog.get_logger()

_NETWORK: Final = (httpx.TransportError, httpx.InvalidURL, ProxyError)
# Every choice has its finish reason: seconds to wait for usage and [DONE], which some never send.
_TAIL: Final = 2.0
# After the terminal frame: seconds to wait for the end of the body, so that the connection can
# serve again. It comes in the same read nearly always.
_DRAIN: Final = 0.01


@dataclass(frozen=True, slots=True)
class Translator:
    """Runs the attempts of one request.

    Attributes:
        client: the connections.
        credentials: the tokens.
        fetcher: for media the provider does not fetch itself.
        config: as it was when the request came.
        chat: the request.
        headers: the client's headers by lower-case name, for those a provider lets through.
        fetched: media by URL, kept from one attempt to the next.
    """

    client: Client
    credentials: Credentials
    fetcher: Fetcher
    config: Config
    chat: ChatRequest
    headers: Mapping[str, str]
    fetched: dict[str, Media] = field(default_factory=dict)

    async def __call__(self, leg: Leg) -> None:
        """Run one attempt to its end."""
        channel = leg.attempt.channel
        engine = engine_for(channel.provider, channel.upstream)
        if engine is None:
            said = "no engine here speaks to this provider: set `engine:`"
            leg.fail(Failure(Kind.REQUEST, said, 501, code="no_engine"))
            return
        reading = _Reading(leg, Gate(self.chat, self.config.preferences.error_triggers))
        try:
            await self._ask(leg, engine, reading)
        except ApiError as error:
            failure = Failure(
                Kind.REQUEST, error.message, error.status, error.code, error.type, error.param
            )
            await reading.fail(failure)
        except _NETWORK as error:
            await reading.fail(self._clean(network_failure(error)))
        except FramingError as error:
            await reading.fail(Failure(Kind.GARBAGE, f"the provider sent {error}", 502))

    async def _ask(self, leg: Leg, engine: Engine, reading: _Reading) -> None:
        channel, key = leg.attempt.channel, leg.attempt.key
        shown = await self.credentials.key(engine, channel.provider, self.config, key)
        if isinstance(shown, Failure):
            await reading.fail(self._clean(shown))
            return
        media = await self._media(engine, channel)
        call = engine.encode(
            self.chat, Recipient(channel, shown, self._passed(leg), time.time(), media)
        )
        if call.notes:
            log.debug("request.fields_dropped", channel=channel.label, fields=call.notes)
        answer = await self.client.send(call, self._proxy(leg))
        try:
            if answer.status >= 300:
                failure = engine.failure(answer.status, answer.headers, await answer.error_body())
                await reading.fail(self._clean(failure))
                return
            default = Start(f"chatcmpl-{secrets.token_hex(12)}", channel.upstream, int(time.time()))
            await self._read(answer, engine, call.framing, default, reading)
        finally:
            await answer.aclose()

    async def _read(
        self,
        answer: Answer,
        engine: Engine,
        asked: Framing,
        default: Start,
        reading: _Reading,
    ) -> None:
        """Read the body to the end of the answer, which may come before the body's."""
        frames: Framer | None = None
        decoder: Decoder | None = None
        while True:
            wait = _TAIL if decoder is not None and decoder.complete() else inf
            data = await _next(answer.body, wait)
            if data is None:
                break
            if frames is None or decoder is None:
                content_type = answer.headers.get("content-type", "")
                framing = actual(asked, content_type, data)
                frames = framer(framing)
                decoder = engine.decoder(self.chat, framing, default)
            ready = frames.feed(data)
            if not ready:
                continue
            batch = self._cleaned(decoder.feed(ready))
            if await reading.take(batch, last=decoder.finished()):
                await _next(answer.body, _DRAIN)
                return
        if frames is None or decoder is None:
            await reading.fail(Failure(Kind.EMPTY, "the provider sent an empty body", 502))
            return
        ready = frames.end()
        batch = decoder.feed(ready) if ready else Batch(())
        await reading.take(self._cleaned(_joined(batch, decoder.end())), last=True)

    async def _media(self, engine: Engine, channel: Channel) -> Mapping[str, Media]:
        """What the engine needs to have at hand, fetched side by side, each URL once."""
        missing = set(engine.needs(self.chat, channel)) - self.fetched.keys()
        errors: list[ApiError] = []

        async def fetch(url: str) -> None:
            try:
                self.fetched[url] = await self.fetcher.fetch(url)
            except ApiError as error:
                errors.append(error)

        if missing:
            async with trio.open_nursery() as nursery:
                for url in missing:
                    nursery.start_soon(fetch, url)
        if errors:
            raise errors[0]
        return self.fetched

    def _proxy(self, leg: Leg) -> Secret | None:
        own = leg.attempt.channel.provider.preferences.proxy
        return own if own is not None else self.config.preferences.proxy

    def _passed(self, leg: Leg) -> Sequence[tuple[str, str]]:
        names = leg.attempt.channel.provider.preferences.passthrough_request_headers
        return [
            (name.lower(), self.headers[name.lower()])
            for name in names
            if name.lower() in self.headers
        ]

    def _clean(self, failure: Failure) -> Failure:
        return replace(failure, message=scrub(failure.message, self.config))

    def _cleaned(self, batch: Batch) -> Batch:
        """The batch with the provider's words in a failure scrubbed."""
        if batch.events and isinstance(last := batch.events[-1], StreamFailed):
            events = (*batch.events[:-1], StreamFailed(self._clean(last.failure)))
            return replace(batch, events=events)
        return batch


@dataclass(slots=True)
class _Reading:
    """What has been handed on of one answer, and through which gate."""

    leg: Leg
    gate: Gate

    async def take(self, batch: Batch, *, last: bool) -> bool:
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

    async def fail(self, failure: Failure) -> None:
        """The attempt's failure before commit, the end of the batches after it."""
        if self.leg.committed:
            await self.leg.pass_on(Batch((StreamFailed(failure),)))
        else:
            self.leg.fail(failure)


async def _next(body: AsyncIterator[bytes], wait: float) -> bytes | None:
    """The next read; None at the end of the body, or when it does not come in time."""
    try:
        if wait == inf:
            return await anext(body)
        with trio.move_on_after(wait):
            return await anext(body)
    except StopAsyncIteration:
        pass
    return None


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
