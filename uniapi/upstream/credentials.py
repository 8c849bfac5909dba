"""Short-lived tokens: asked for once, kept until shortly before they expire.

One refresh is in flight for a provider at a time; requests that come meanwhile wait for it. The
token is fetched through the provider's own proxy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

import httpx
import trio

from uniapi.config.types import Config, Provider, Secret
from uniapi.engines.base import Call, Engine
from uniapi.errors import ApiError, Failure, Kind
from uniapi.upstream.client import Client, ProxyError, network_failure

_EARLY: Final = 300.0  # seconds before its end that a token is no longer handed out
_TIMEOUT: Final = 20.0  # seconds to get one


@dataclass(slots=True)
class _Grant:
    """The token of one provider."""

    token: Secret | None = None
    until: float = 0.0  # on trio's clock
    turn: trio.Lock = field(default_factory=trio.Lock)


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
        async with grant.turn:
            if grant.token is not None and trio.current_time() < grant.until:
                return grant.token
            try:
                # A signature takes 24 ms in plain Python: not in the event loop.
                call = await trio.to_thread.run_sync(engine.grant, provider, time.time())
            except ApiError as error:
                return Failure(Kind.KEY, error.message, error.status, error.code)
            if call is None:
                return own
            return await self._refresh(engine, provider, config, call, grant)

    async def _refresh(
        self, engine: Engine, provider: Provider, config: Config, call: Call, grant: _Grant
    ) -> Secret | Failure:
        proxy = provider.preferences.proxy or config.preferences.proxy
        try:
            with trio.fail_after(_TIMEOUT):
                answer = await self._client.send(call, proxy)
                try:
                    body = await answer.error_body()  # a token is smaller than any error
                finally:
                    await answer.aclose()
            if answer.status >= 300:
                failure = engine.failure(answer.status, answer.headers, body)
                said = f"no token: {failure.message}"
                return Failure(Kind.KEY, said, 401 if answer.status < 500 else 502)
            grant.token, seconds = engine.granted(body)
        except trio.TooSlowError:
            return Failure(Kind.CONNECT, f"no token within {_TIMEOUT:g} s", 504)
        except (httpx.TransportError, httpx.InvalidURL, ProxyError) as error:
            failure = network_failure(error)
            return Failure(failure.kind, f"no token: {failure.message}", failure.status)
        except ValueError as error:
            return Failure(Kind.KEY, f"no token: {error}", 401)
        grant.until = trio.current_time() + max(seconds - _EARLY, seconds / 2)
        return grant.token


def _identity(provider: Provider) -> str:
    """Changes with whatever the token depends on."""
    key = provider.private_key.digest if provider.private_key else ""
    return f"{provider.name}\n{provider.client_email}\n{provider.token_uri}\n{key}"
