"""Short-lived tokens: asked for once, kept until shortly before they expire.

One refresh is in flight for a provider at a time; requests that come meanwhile wait for it, and
share its outcome. The token is fetched through the provider's own proxy. One that has not expired
serves on when no other can be had.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

import httpx
import trio

from uniapi.config.types import Config, Provider, Secret
from uniapi.engines.base import Call, Engine
from uniapi.errors import ApiError, Failure, Kind
from uniapi.upstream.client import Client, network_failure
from uniapi.upstream.proxied import ProxyError

_EARLY: Final = 300.0  # seconds before its end that a token is no longer handed out
_AGAIN: Final = 30.0  # seconds an old token serves on before another is asked for again
_TIMEOUT: Final = 20.0  # seconds to get one


@dataclass(slots=True)
class _Grant:
    """The token of one provider; times are on trio's clock.

    Attributes:
        token: the last one that was granted.
        fresh_until: when another is asked for.
        good_until: when it expires.
        asked: how many refreshes have ended.
        failure: how the last of them ended, when it did not bring a token.
        turn: held by who refreshes.
    """

    token: Secret | None = None
    fresh_until: float = 0.0
    good_until: float = 0.0
    asked: int = 0
    failure: Failure | None = None
    turn: trio.Lock = field(default_factory=trio.Lock)

    def fresh(self) -> Secret | None:
        """The token, unless it is time for another."""
        return self.token if trio.current_time() < self.fresh_until else None

    def settle(self, outcome: Secret | Failure, seconds: float = 0.0) -> Secret | Failure:
        """Take in how a refresh ended; what there is to use now."""
        now = trio.current_time()
        self.asked += 1
        match outcome:
            case Secret():
                self.token, self.failure = outcome, None
                self.good_until = now + seconds
                self.fresh_until = now + max(seconds - _EARLY, seconds / 2)
                return outcome
            case Failure():
                self.failure = outcome
                self.fresh_until = min(now + _AGAIN, self.good_until)
                return self.rest()

    def rest(self) -> Secret | Failure:
        """What a refresh that failed leaves: the old token while it is good, else the failure."""
        assert self.failure is not None  # noqa: S101 - asked only after one
        if self.token is not None and trio.current_time() < self.good_until:
            return self.token
        return self.failure


class Credentials:
    """The tokens of all providers, by the digest of what they were granted for."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._grants: dict[str, _Grant] = {}

    async def key(
        self, engine: Engine, provider: Provider, config: Config, own: Secret | None
    ) -> Secret | Failure | None:
        """What to show the provider: its own key, or a token; a failure when there is none."""
        if provider.private_key is None:
            return own
        grant = self._grants.setdefault(_identity(provider), _Grant())
        if (token := grant.fresh()) is not None:
            return token
        asked = grant.asked
        async with grant.turn:
            if (token := grant.fresh()) is not None:
                return token
            if grant.asked > asked and grant.failure is not None:
                return grant.rest()  # somebody asked while this one waited
            try:
                # A signature takes 24 ms in plain Python: not in the event loop.
                call = await trio.to_thread.run_sync(engine.grant, provider, time.time())
            except ApiError as error:
                return Failure(Kind.KEY, error.message, error.status, error.code)
            if call is None:
                return own
            return grant.settle(*await self._refresh(engine, provider, config, call))

    def forget(self, provider: Provider, token: Secret) -> None:
        """Never use a token again, now that the provider has refused it."""
        grant = self._grants.get(_identity(provider))
        if grant is not None and grant.token == token:
            grant.token = None
            grant.fresh_until = 0.0

    def keep(self, providers: Iterable[Provider]) -> None:
        """Forget the tokens of everybody else: each is another after every change of its key."""
        known = {_identity(provider) for provider in providers}
        self._grants = {at: grant for at, grant in self._grants.items() if at in known}

    async def _refresh(
        self, engine: Engine, provider: Provider, config: Config, call: Call
    ) -> tuple[Secret | Failure, float]:
        """The outcome, and how many seconds a token is good for."""
        proxy = config.proxy_for(provider)
        try:
            with trio.fail_after(_TIMEOUT):
                answer = await self._client.send(call, proxy)
                try:
                    body = await answer.error_body()  # a token is smaller than any error
                finally:
                    await answer.aclose()
            if answer.status >= 300:
                return _refused(engine.failure(answer.status, answer.headers, body)), 0.0
            return engine.granted(body)
        except trio.TooSlowError:
            return Failure(Kind.CONNECT, f"no token within {_TIMEOUT:g} s", 504), 0.0
        except (httpx.TransportError, httpx.InvalidURL, ProxyError) as error:
            failure = network_failure(error)
            return replace(failure, message=f"no token: {failure.message}"), 0.0
        except ValueError as error:
            return Failure(Kind.KEY, f"no token: {error}", 401), 0.0


def _refused(failure: Failure) -> Failure:
    """What the token endpoint's refusal means: the account is at fault, unless the server is."""
    passing = failure.kind in {Kind.SERVER, Kind.RATE_LIMIT}
    said = failure.message
    return replace(
        failure,
        kind=failure.kind if passing else Kind.KEY,
        message=said if said.startswith("no token") else f"no token: {said}",
    )


def _identity(provider: Provider) -> str:
    """Changes with whatever the token depends on."""
    key = provider.private_key.digest if provider.private_key else ""
    return f"{provider.name}\n{provider.client_email}\n{provider.token_uri}\n{key}"
