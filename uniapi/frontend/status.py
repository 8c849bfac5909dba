"""`GET /v1/status`: what the gateway is doing and how its channels are, for views to come.

```
{
  "version", "uptime_seconds", "draining",
  "config":      {"digest", "providers", "keys"},
  "process":     {"memory_bytes", "cpu_seconds", "open_files", "tasks"},
  "connections": {"clients", "upstream_in_use", "upstream_idle"},
  "live":        [{"id", "endpoint", "client", "stage", "seconds", "bytes_sent", "key", "model",
                   "stream", "channel", "attempts": [{"provider", "model", "key", "outcome", "why",
                   "seconds", "first_token_seconds"}]}],
  "channels":    [{"provider", "model", "names", "state", "seconds_left", "keys", "keys_resting",
                   "attempts", "ok", "first_token_p50", "first_token_p90"}],
  "keys_resting": [{"provider", "key", "seconds_left"}],
  "discovery":   [{"provider", "status", "models", "reason"}],
  "quotas":      [{"scope", "owner", "key", "model",
                   "windows": [{"unit", "seconds", "limit", "used"}]}],
  "counters":    {name: count},
  "left_out":    {list: entries beyond the most that are shown}
}
```

`state` is `ok`, `cooling` (with the seconds left), `rested` (the next request tries it) or `trial`
(one is trying it). `attempts` and `ok` of a channel are of its last hundred. `quotas` has every
limit of a key or of the server that is one for all models, and of all others those in use: what is
not there has all of it left. Keys are digests. What is not known is null.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final

import trio

from uniapi import __version__, codec
from uniapi.buckets import Bucket, Scope
from uniapi.codec import Json, JsonObject
from uniapi.config.bounds import RateLimit, RateLimits
from uniapi.config.masked import digest, masked
from uniapi.config.types import Config, Provider
from uniapi.frontend import live
from uniapi.frontend.answer import NO_STORE, Answer
from uniapi.frontend.asgi import Request
from uniapi.frontend.auth import authenticate_admin
from uniapi.frontend.gateway import Gateway
from uniapi.routing import limits
from uniapi.routing.limits import Claim
from uniapi.state import State
from uniapi.stats import process

MOST: Final = 1_000  # entries of a list; a larger answer would hold up everybody else


async def status(gateway: Gateway, request: Request, answer: Answer) -> None:
    """`GET /v1/status`: see above.

    Raises:
        ApiError: 401 or 403, as `authenticate_admin`.
    """
    answer.facts["key"] = authenticate_admin(gateway.config, request.headers).id
    shown = snapshot(gateway, trio.current_time(), but=answer)
    await answer.whole(200, codec.dumps(shown), NO_STORE)


def snapshot(gateway: Gateway, now: float, but: Answer | None = None) -> JsonObject:
    """Everything of this moment; the request `but` is the one that asks, and not shown."""
    config, state = gateway.config, gateway.state
    found: JsonObject = {
        "version": __version__,
        "uptime_seconds": round(process.uptime(), 1),
        "draining": gateway.draining,
        "config": {
            "digest": digest(masked(config)),
            "providers": len(config.providers),
            "keys": len(config.keys),
        },
        "process": _process(),
        "connections": _connections(gateway),
    }
    left_out: JsonObject = {}
    lists: dict[str, Iterable[Json]] = {
        "live": _live(gateway, now, but),
        "channels": _channels(gateway, now),
        "keys_resting": _keys(state, now),
        "discovery": _discovery(config, state),
        "quotas": _quotas(config, state, now),
    }
    for name, entries in lists.items():
        rest = iter(entries)
        found[name] = list(islice(rest, MOST))
        if more := sum(1 for _ in rest):
            left_out[name] = more
    counters: JsonObject = {**state.counters}
    return {**found, "counters": counters, "left_out": left_out}


def _process() -> JsonObject:
    memory = process.memory()
    return {
        "memory_bytes": None if memory is None else memory[1],
        "cpu_seconds": round(time.process_time(), 2),
        "open_files": process.open_files(),
        "tasks": trio.lowlevel.current_statistics().tasks_living,
    }


def _connections(gateway: Gateway) -> JsonObject:
    idle = gateway.client.idle_connections
    match gateway.metrics.value("uniapi_client_connections"):
        case float() | int() as clients:
            known: float | None = clients
        case _:
            known = None
    return {
        "clients": known,
        "upstream_in_use": gateway.client.open_connections - idle,
        "upstream_idle": idle,
    }


def _live(gateway: Gateway, now: float, but: Answer | None) -> Iterator[Json]:
    """The longest first."""
    for answer, begun in gateway.live.values():
        if answer is not but:
            yield live.shown(answer, now - begun, now)


def _channels(gateway: Gateway, now: float) -> Iterator[Json]:
    for provider in gateway.config.providers:
        names: dict[str, list[Json]] = {}
        for model in gateway.state.models(provider):
            names.setdefault(model.upstream, []).append(model.name)
        resting = sum(
            gateway.state.key_cooldown(provider.name, key.digest, now) > 0 for key in provider.keys
        )
        for upstream, exposed in names.items():
            lately = gateway.recent.of(provider.name, upstream)
            standing, seconds = _standing(gateway.state, provider, upstream, now)
            yield {
                "provider": provider.name,
                "model": upstream,
                "names": exposed,
                "state": standing,
                "seconds_left": seconds,
                "keys": len(provider.keys),
                "keys_resting": resting,
                "attempts": lately.attempts,
                "ok": lately.ok,
                "first_token_p50": _rounded(lately.p50),
                "first_token_p90": _rounded(lately.p90),
            }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _standing(state: State, provider: Provider, upstream: str, now: float) -> tuple[str, float]:
    rest = state.channel_rests.get((provider.name, upstream))
    if rest is None:
        return "ok", 0.0
    if rest.until > now:
        return "cooling", round(rest.until - now, 1)
    return ("trial" if state.on_trial(provider.name, upstream, now) else "rested"), 0.0


def _keys(state: State, now: float) -> Iterator[Json]:
    for (provider, key), rest in state.key_rests.items():
        if rest.until > now:
            yield {
                "provider": provider,
                "key": key,
                "seconds_left": round(rest.until - now, 1),
            }


def _discovery(config: Config, state: State) -> Iterator[Json]:
    for provider in config.providers:
        if provider.models is None:
            found = state.discovery(provider.name)
            yield {
                "provider": provider.name,
                "status": found.status.value,
                "models": len(found.models),
                "reason": found.reason or None,
            }


def _quotas(config: Config, state: State, now: float) -> Iterator[Json]:
    for bucket in dict.fromkeys(chain(_always(config), state.buckets)):
        limit = _limit(config, state, bucket)
        if limit is None or not limit.windows:
            continue
        windows: list[Json] = [
            {
                "unit": window.unit.value,
                "seconds": window.seconds,
                "limit": window.limit,
                "used": window.limit - left,
            }
            for window, left in limits.left(state, Claim(bucket, limit, ""), now)
        ]
        yield {
            "scope": bucket.scope.value,
            "owner": bucket.owner or None,
            "key": bucket.key or None,
            "model": bucket.model or None,
            "windows": windows,
        }


def _always(config: Config) -> Iterator[Bucket]:
    """The limits that are one for all models."""
    if _for_all(config.preferences.rate_limit):
        yield Bucket(Scope.SERVER)
    for key in config.keys:
        if _for_all(key.preferences.rate_limit):
            yield Bucket(Scope.CLIENT, key.id)


def _for_all(rates: RateLimits | None) -> bool:
    return rates is not None and not rates.per_model


def _limit(config: Config, state: State, bucket: Bucket) -> RateLimit | None:
    """The limit that a bucket counts for now; a reload may have taken it away."""
    rates: RateLimits | None = None
    names: tuple[str, ...] = (bucket.model,)
    match bucket.scope:
        case Scope.SERVER:
            rates = config.preferences.rate_limit
        case Scope.CLIENT if bucket.owner in config.keys_by_id:
            rates = config.keys_by_id[bucket.owner].preferences.rate_limit
        case Scope.PROVIDER if bucket.owner in config.providers_by_name:
            provider = config.providers_by_name[bucket.owner]
            names = (bucket.model, *_exposed(state, provider, bucket.model))
            rates = provider.preferences.api_key_rate_limit
        case _:
            pass
    if rates is None:
        return None
    if bucket.scope is not Scope.PROVIDER and bucket.model and not rates.per_model:
        return None  # it was counted by model before the reload
    return rates.rules.get(*names)


def _exposed(state: State, provider: Provider, upstream: str) -> tuple[str, ...]:
    return tuple(model.name for model in state.models(provider) if model.upstream == upstream)
