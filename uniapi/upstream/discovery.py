"""Asking providers without a `model:` list what they serve: in the background, and again later.

The port is up before anybody is asked. What is learnt lives in `State`; the config is never
written. A provider that fails keeps its last listing and is asked again sooner.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Iterable
from dataclasses import replace
from typing import Final

import httpx
import structlog
import trio

from uniapi.config.types import Channel, Config, ModelName, Provider, Secret
from uniapi.engines.base import Call, Engine, Recipient
from uniapi.engines.registry import engines_for
from uniapi.errors import ApiError, Failure, Kind
from uniapi.state import DiscoveryStatus, State
from uniapi.upstream.client import Client, network_failure
from uniapi.upstream.credentials import Credentials
from uniapi.upstream.proxied import ProxyError
from uniapi.upstream.scrub import scrub

TIMEOUT: Final = 20.0  # seconds for one listing
REFRESH: Final = 1800.0  # seconds between listings of a provider that answered
RETRY: Final = 60.0  # seconds until one that did not is asked again
_MAX_LISTING: Final = 8_000_000  # bytes
_MAX_KEYS: Final = 3  # keys tried for one listing
_OF_THE_KEY: Final = frozenset({Kind.KEY, Kind.QUOTA, Kind.RATE_LIMIT})

log = structlog.get_logger()


class Discovery:
    """The background task, and the way to wait for what it learns."""

    def __init__(
        self,
        client: Client,
        credentials: Credentials,
        state: State,
        config: Callable[[], Config],
    ) -> None:
        """`config` gives the configuration of the moment: it changes on reload."""
        self._client = client
        self._credentials = credentials
        self._state = state
        self._config = config
        self._news = trio.Event()
        self._due: dict[str, float] = {}
        self._asking: dict[str, trio.CancelScope] = {}

    def unsettled(self) -> tuple[str, ...]:
        """Providers that have not answered or failed yet."""
        return tuple(
            provider.name
            for provider in self._asked()
            if self._state.discovery(provider.name).status is DiscoveryStatus.PENDING
        )

    async def wait(self, providers: Iterable[str], seconds: float) -> None:
        """Return when all of these have answered or failed, or after `seconds`."""
        wanted = set(providers)
        with trio.move_on_after(seconds):
            while wanted & set(self.unsettled()):
                await self._news.wait()

    async def run(self) -> None:
        """Ask whoever is due, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                now, news = trio.current_time(), self._news
                idle = [p for p in self._asked() if p.name not in self._asking]
                for provider in idle:
                    if self._due.get(provider.name, 0.0) <= now:
                        scope = self._asking[provider.name] = trio.CancelScope()
                        nursery.start_soon(self._learn, provider, scope)
                times = [self._due[p.name] for p in idle if p.name not in self._asking]
                with trio.move_on_at(min(times, default=math.inf)):
                    await news.wait()

    def reloaded(self, others: Container[str]) -> None:
        """Another configuration is in place: ask now who is new in it, or another.

        Args:
            others: names of providers that are no longer who they were. What they are being asked
                is given up, as for those that are gone.
        """
        stay = {provider.name for provider in self._asked() if provider.name not in others}
        self._due = {name: due for name, due in self._due.items() if name in stay}
        for name in [name for name in self._asking if name not in stay]:
            self._asking.pop(name).cancel()
        self._tell()

    def _tell(self) -> None:
        """Wake who waits for a listing, and the task that asks for them."""
        self._news.set()
        self._news = trio.Event()

    def _asked(self) -> list[Provider]:
        return [provider for provider in self._config().providers if provider.models is None]

    async def _learn(self, provider: Provider, scope: trio.CancelScope) -> None:
        """Ask one provider and remember the outcome, unless it is given up."""
        before = self._state.discovery(provider.name)
        outcome: tuple[ModelName, ...] | str = ""
        with scope:
            try:
                outcome = await self._ask(provider)
            except Exception:  # a bug in here is no reason to end the gateway
                log.exception("discovery.crashed", provider=provider.name)
                outcome = "the listing could not be read: see the log"
        if scope.cancel_called:
            return  # the answer of somebody who is no longer there
        match outcome:
            case str(reason):
                reason = scrub(reason, self._config())
                self._state.discovery_failed(provider.name, reason)
                log.warning("discovery.failed", provider=provider.name, reason=reason)
            case models:
                self._state.discovered(provider.name, models)
                if models != before.models:
                    log.info("discovery.done", provider=provider.name, models=len(models))
        wait = RETRY if isinstance(outcome, str) else REFRESH
        self._due[provider.name] = trio.current_time() + wait
        del self._asking[provider.name]
        self._tell()

    async def _ask(self, provider: Provider) -> tuple[ModelName, ...] | str:
        """The models, or why they are not known.

        A provider of several dialects has a listing for each; what one of them brings counts,
        whether the others can be had or not.
        """
        outcomes = [await self._listed(provider, engine) for engine in engines_for(provider)]
        heard = [models for models in outcomes if not isinstance(models, str)]
        if heard:
            return tuple(dict.fromkeys(model for models in heard for model in models))
        reasons = [reason for reason in outcomes if isinstance(reason, str)]
        said = "no engine here speaks to this provider: set `engine:`, and `model:`"
        return reasons[0] if reasons else said

    async def _listed(self, provider: Provider, engine: Engine) -> tuple[ModelName, ...] | str:
        """One listing, with the first key that may have it."""
        keys = provider.keys[:_MAX_KEYS] or (None,)
        refusal = ""
        try:
            with trio.fail_after(TIMEOUT):
                for own in keys:
                    match await self._asked_with(own, provider, engine):
                        case Failure() as failure:
                            refusal = failure.message
                            if failure.kind not in _OF_THE_KEY:
                                break
                        case known:
                            return known
                return refusal
        except trio.TooSlowError:
            return f"no listing within {TIMEOUT:g} s"
        except (httpx.TransportError, httpx.InvalidURL, ProxyError) as error:
            return network_failure(error).message
        except ApiError as error:
            return error.message
        except ValueError as error:
            return f"the listing cannot be read: {error}"

    async def _asked_with(
        self, own: Secret | None, provider: Provider, engine: Engine
    ) -> tuple[ModelName, ...] | Failure | str:
        key = await self._credentials.key(engine, provider, self._config(), own)
        if isinstance(key, Failure):
            return key
        call = engine.catalogue(Recipient(Channel(provider, "", ""), key, now=time.time()))
        if call is None:
            return "this provider has no listing: write its models under `model:`"
        return await self._fetch(provider, engine, call)

    async def _fetch(
        self, provider: Provider, engine: Engine, call: Call
    ) -> tuple[ModelName, ...] | Failure | str:
        proxy = self._config().proxy_for(provider)
        answer = await self._client.send(call, proxy)
        try:
            if answer.status >= 300:
                failure = engine.failure(answer.status, answer.headers, await answer.error_body())
                return replace(failure, message=f"HTTP {answer.status}: {failure.message}")
            body = bytearray()
            async for part in answer.body:
                body += part
                if len(body) > _MAX_LISTING:
                    return f"a listing of over {_MAX_LISTING} bytes"
        finally:
            await answer.aclose()
        return tuple(ModelName(name, name) for name in engine.models(bytes(body)))
