"""What every attempt shares, whatever it asks: credentials, the call, refusals, broken lines."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import httpx
import structlog

from uniapi.config.types import Config
from uniapi.engines.base import Call, Engine, Recipient
from uniapi.engines.registry import engine_for
from uniapi.errors import ApiError, Failure, Kind
from uniapi.events import Batch, StreamFailed
from uniapi.framing import FramingError
from uniapi.race import Leg
from uniapi.upstream.client import Answer, Client, network_failure
from uniapi.upstream.credentials import Credentials
from uniapi.upstream.proxied import ProxyError
from uniapi.upstream.scrub import scrub

log = structlog.get_logger()

_NETWORK: Final = (httpx.TransportError, httpx.InvalidURL, ProxyError)


class Talk(Protocol):
    """What one attempt says, and how it takes the answer."""

    async def call(self, engine: Engine, to: Recipient) -> Call | Failure:
        """The call, or why this provider cannot be asked.

        Raises:
            ApiError: 400 naming the parameter that cannot be honoured.
        """
        ...

    async def read(self, engine: Engine, call: Call, answer: Answer) -> None:
        """Read an answer of status 2xx to its end, handing on or failing.

        Raises:
            httpx.TransportError: the connection broke.
            FramingError: the provider's bytes cannot be an answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Line:
    """The way to the providers for one request.

    Attributes:
        client: the connections.
        credentials: the tokens.
        config: as it was when the request came.
        headers: the client's headers by lower-case name, for those a provider lets through.
    """

    client: Client
    credentials: Credentials
    config: Config
    headers: Mapping[str, str]

    async def run(self, leg: Leg, talk: Talk) -> None:
        """Run one attempt to its end; everything that goes wrong is the attempt's failure."""
        channel = leg.attempt.channel
        engine = engine_for(channel.provider, channel.upstream)
        if engine is None:
            said = "no engine here speaks to this provider: set `engine:`"
            leg.fail(Failure(Kind.REQUEST, said, 501, code="no_engine"))
            return
        try:
            await self._ask(leg, engine, talk)
        except ApiError as error:
            failure = Failure(
                Kind.REQUEST, error.message, error.status, error.code, error.type, error.param
            )
            await end_in(leg, failure)
        except _NETWORK as error:
            failure = self.clean(network_failure(error))
            if leg.committed:  # an answer that had begun was cut, whatever cut it
                failure = replace(failure, kind=Kind.CUT)
            await end_in(leg, failure)
        except FramingError as error:
            await end_in(leg, Failure(Kind.GARBAGE, f"the provider sent {error}", 502))

    async def _ask(self, leg: Leg, engine: Engine, talk: Talk) -> None:
        channel, key = leg.attempt.channel, leg.attempt.key
        shown = await self.credentials.key(engine, channel.provider, self.config, key)
        if isinstance(shown, Failure):
            await end_in(leg, self.clean(shown))
            return
        call = await talk.call(engine, Recipient(channel, shown, self._passed(leg), time.time()))
        if isinstance(call, Failure):
            await end_in(leg, call)
            return
        if call.notes:
            log.debug("request.fields_dropped", channel=channel.label, fields=call.notes)
        answer = await self.client.send(call, self.config.proxy_for(channel.provider))
        try:
            if answer.status >= 300:
                failure = engine.failure(answer.status, answer.headers, await answer.error_body())
                if answer.status == 401 and shown is not None and shown is not key:
                    self.credentials.forget(channel.provider, shown)
                await end_in(leg, self.clean(failure))
            else:
                await talk.read(engine, call, answer)
        finally:
            await answer.aclose()

    def _passed(self, leg: Leg) -> Sequence[tuple[str, str]]:
        names = leg.attempt.channel.provider.preferences.passthrough_request_headers
        return [
            (name.lower(), self.headers[name.lower()])
            for name in names
            if name.lower() in self.headers
        ]

    def clean(self, failure: Failure) -> Failure:
        """The failure with all of the provider's words scrubbed of secrets."""
        return replace(
            failure,
            message=scrub(failure.message, self.config),
            code=self._word(failure.code),
            type=self._word(failure.type),
            param=self._word(failure.param),
        )

    def _word(self, word: str | None) -> str | None:
        return None if word is None else scrub(word, self.config)


async def end_in(leg: Leg, failure: Failure) -> None:
    """The attempt's failure before commit, the end of the batches after it."""
    if leg.committed:
        await leg.pass_on(Batch((StreamFailed(failure),)))
    else:
        leg.fail(failure)
