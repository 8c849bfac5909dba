"""The small answers: which models there are, and whether the gateway is well."""

from __future__ import annotations

from typing import Final

from uniapi import __version__, codec
from uniapi.codec import JsonObject
from uniapi.errors import ApiError
from uniapi.frontend.answer import Answer
from uniapi.frontend.asgi import Request
from uniapi.frontend.auth import authenticate
from uniapi.frontend.gateway import Gateway
from uniapi.routing.match import visible_models

_CREATED: Final = 1_720_524_448  # a constant, as in the seeds' program; nobody depends on it
_LISTING_WAIT: Final = 5.0  # seconds for providers that were never heard of


async def models(gateway: Gateway, request: Request, answer: Answer) -> None:
    """`GET /v1/models`: what this key may ask for, in the order of its rules."""
    config = gateway.config
    key = authenticate(config, request.headers)
    answer.facts["key"] = key.id
    await gateway.discovery.wait(gateway.discovery.unsettled(), _LISTING_WAIT)
    entries: list[JsonObject] = [
        {"id": name, "object": "model", "created": _CREATED, "owned_by": "uniapi"}
        for name in visible_models(config, gateway.state, key)
    ]
    await answer.whole(200, codec.dumps({"object": "list", "data": list(entries)}))


async def model(gateway: Gateway, request: Request, answer: Answer, name: str) -> None:
    """`GET /v1/models/{name}`."""
    config = gateway.config
    key = authenticate(config, request.headers)
    answer.facts["key"] = key.id
    if name not in visible_models(config, gateway.state, key):
        raise ApiError(
            404, f"The model '{name}' does not exist or this key may not use it.", "model_not_found"
        )
    entry: JsonObject = {
        "id": name,
        "object": "model",
        "created": _CREATED,
        "owned_by": "uniapi",
    }
    await answer.whole(200, codec.dumps(entry))


async def health(gateway: Gateway, request: Request, answer: Answer) -> None:  # noqa: ARG001 - a route
    """`GET /healthz`: the process is alive and its event loop turns."""
    await answer.whole(200, codec.dumps({"status": "ok", "version": __version__}))


async def ready(gateway: Gateway, request: Request, answer: Answer) -> None:  # noqa: ARG001 - a route
    """`GET /readyz`: it can serve; 503 while it starts or drains."""
    waiting = gateway.discovery.unsettled()
    if gateway.draining:
        body: JsonObject = {"status": "draining"}
    elif waiting:
        body = {"status": "starting", "waiting_for": list(waiting)}
    else:
        body = {"status": "ready", "version": __version__}
    await answer.whole(200 if body["status"] == "ready" else 503, codec.dumps(body))
