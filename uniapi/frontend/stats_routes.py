"""What was asked, of whom, with which success and at what cost: read from the statistics file.

Paths and shapes are those of the seeds' program, but for keys: there is never one in an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from time import time
from typing import Final, TypeVar

from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.config.types import ClientKey, Config, Secret
from uniapi.errors import ApiError
from uniapi.frontend.answer import Answer
from uniapi.frontend.asgi import Request
from uniapi.frontend.auth import authenticate, authenticate_admin
from uniapi.frontend.gateway import Gateway
from uniapi.frontend.spans import iso, span_of
from uniapi.routing.credit import Balance, dollars
from uniapi.stats.queries import MOST, Count, Span, Success, Summary, Top, labels, rankings, summary
from uniapi.stats.reader import Query, Unreadable
from uniapi.stats.usage import Used, usage

_HOURS: Final = 720  # the longest span of /v1/stats
_USAGE_DAYS: Final = 30
_RANKING_DAYS: Final = 1
_DIGEST: Final = re.compile(r"[0-9a-f]{12}")
_LONG: Final = 24  # letters of a key that may show eleven of them
_CUT: Final = f"a list is longer than {MOST}: left_out says by how many entries"

T = TypeVar("T")


async def stats(gateway: Gateway, request: Request, answer: Answer) -> None:
    """`GET /v1/stats?hours=24`, for an admin: success of channels, and counts of requests."""
    answer.facts["key"] = authenticate_admin(gateway.config, request.headers).id
    written = request.parameters().get("hours", "24")
    hours = int(written) if written.isascii() and written.isdigit() and len(written) <= 3 else 0
    if not 0 < hours <= _HOURS:
        why = f"hours: not a whole number from 1 to {_HOURS}"
        raise ApiError(422, why, "invalid_request", param="hours")
    if gateway.reader is None:
        await answer.whole(200, codec.dumps({"stats": {}}))
        return
    now = time()
    found = await _read(gateway, partial(summary, span=Span(now - hours * 3600, now)))
    await answer.whole(200, codec.dumps(_summary(found, hours)))


def _summary(found: Summary, hours: int) -> JsonObject:
    lists: JsonObject = {
        "channel_model_success_rates": [
            {"provider": one.names[0], "model": one.names[1], **_rate(one)}
            for one in found.channel_models.entries
        ],
        "channel_success_rates": [
            {"provider": one.names[0], **_rate(one)} for one in found.channels.entries
        ],
        "model_request_counts": _counts("model", found.models.entries),
        "endpoint_request_counts": _counts("endpoint", found.endpoints.entries),
        "ip_request_counts": _counts("ip", found.clients.entries),
    }
    tops: tuple[Top[Success] | Top[Count], ...] = (
        found.channel_models, found.channels, found.models, found.endpoints, found.clients,
    )  # fmt: skip
    told: JsonObject = {"time_range": f"Last {hours} hours", **lists}
    left_out: JsonObject = {
        name: top.left_out for name, top in zip(lists, tops, strict=True) if top.left_out
    }
    return {**told, "note": _CUT, "left_out": left_out} if left_out else told


def _rate(one: Success) -> JsonObject:
    return {"success_rate": one.rate, "total_requests": one.total}


def _counts(name: str, counts: Sequence[Count]) -> list[Json]:
    return [{name: one.name, "count": one.requests} for one in counts]


async def token_usage(gateway: Gateway, request: Request, answer: Answer) -> None:
    """`GET /v1/token_usage`: what the asking key used; for an admin, what all or one did."""
    config = gateway.config
    asking = authenticate(config, request.headers)
    answer.facts["key"] = asking.id
    given = request.parameters()
    span = span_of(given, time(), _USAGE_DAYS)
    key, whose = _whose(asking, given.get("api_key_param", ""))
    model = given.get("model", "")
    used = await _read(gateway, partial(usage, span=span, key=key, model=model))
    shown: list[Json] = [_used(config, one) for one in used.entries]
    details = {
        **_details(span, whose, model or "all"),
        **_balance(gateway, config, key),
        **_cut(used.left_out),
    }
    await answer.whole(200, codec.dumps({"usage": shown, "query_details": details}))


def _whose(asking: ClientKey, named: str) -> tuple[str, str]:
    """The digest asked about, empty for all keys; and how that is told."""
    if not named:
        return ("", "all") if asking.admin else (asking.id, "self")
    digest = named if _DIGEST.fullmatch(named) else Secret(named).digest
    if not asking.admin and digest != asking.id:
        why = "api_key_param: only an admin may see another key's usage"
        raise ApiError(403, why, "not_admin", param="api_key_param")
    return digest, digest


def _used(config: Config, one: Used) -> JsonObject:
    return {
        "api_key_prefix": _shown(config, one.key),
        "model": one.model,
        "total_prompt_tokens": one.prompt,
        "total_completion_tokens": one.completion,
        "total_tokens": one.total,
        "request_count": one.requests,
        "cost": one.cost,
    }


def _shown(config: Config, digest: str) -> str:
    """A key so that its owner knows it and nobody can use it."""
    key = config.keys_by_id.get(digest)
    if key is None:
        return digest
    written = key.secret.reveal()
    return f"{written[:7]}...{written[-4:]}" if len(written) >= _LONG else f"sk-...{digest}"


def _balance(gateway: Gateway, config: Config, digest: str) -> JsonObject:
    """What one key has spent since its `created_at`, whatever the span of the query."""
    key, spent = config.keys_by_id.get(digest), gateway.state.spent.get(digest)
    if key is None or spent is None:
        return {}
    credits_ = key.preferences.credits
    told: JsonObject = {"total_cost": dollars(spent)}
    if credits_ is not None:
        told |= {"credits": dollars(credits_), "balance": dollars(Balance(credits_, spent).left)}
    return told


def _details(span: Span, whose: str, model: str | None) -> JsonObject:
    return {
        "start_datetime": iso(span.start),
        "end_datetime": iso(span.end),
        "api_key_filter": whose,
        "model_filter": model,
        "credits": None,
        "total_cost": None,
        "balance": None,
    }


async def key_rankings(gateway: Gateway, request: Request, answer: Answer) -> None:
    """`GET /v1/channel_key_rankings?provider_name=…`, for an admin: how a provider's keys did."""
    config = gateway.config
    answer.facts["key"] = authenticate_admin(config, request.headers).id
    given = request.parameters()
    provider = given.get("provider_name", "")
    if not provider:
        why = "provider_name: say which, as ?provider_name=openai"
        raise ApiError(422, why, "invalid_request", param="provider_name")
    span = span_of(given, time(), _RANKING_DAYS)
    found, known = await _read(gateway, lambda c: (rankings(c, span, provider), labels(c)))
    if not found.entries and provider not in config.providers_by_name:
        why = "provider_name: no provider has this name, and none had in this time"
        raise ApiError(404, why, "provider_not_found", param="provider_name")
    ranked: list[Json] = [
        {
            "api_key": one.names[0],
            "label": known.get(one.names[0]),
            "success_count": one.succeeded,
            "total_requests": one.total,
            "success_rate": one.rate,
        }
        for one in found.entries
    ]
    details = {**_details(span, provider, None), **_cut(found.left_out)}
    await answer.whole(200, codec.dumps({"rankings": ranked, "query_details": details}))


def _cut(left_out: int) -> JsonObject:
    """What is said of a list that is not all of it; nothing of one that is."""
    return {"note": _CUT, "left_out": left_out} if left_out else {}


async def _read(gateway: Gateway, query: Query[T]) -> T:
    if gateway.reader is None:
        why = "statistics are switched off: unset DISABLE_DATABASE and start again to keep them"
        raise ApiError(503, why, "database_disabled")
    try:
        return await gateway.reader.read(query)
    except Unreadable as error:
        why = f"the statistics cannot be read: {error}"
        raise ApiError(503, why, "database_unreadable") from error
