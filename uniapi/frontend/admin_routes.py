"""What only the operator may see."""

from __future__ import annotations

import secrets
import string
from typing import Final

import trio

from uniapi import codec
from uniapi.config.masked import masked
from uniapi.errors import ApiError
from uniapi.explain import explain
from uniapi.frontend.answer import NO_STORE, Answer
from uniapi.frontend.asgi import Request
from uniapi.frontend.auth import authenticate_admin
from uniapi.frontend.gateway import Gateway
from uniapi.routing.ask import Ask

_LETTERS: Final = string.ascii_letters + string.digits
_LENGTH: Final = 48  # letters: 285 bits


async def explained(gateway: Gateway, request: Request, answer: Answer) -> None:
    """`GET /v1/explain?model=…&key=digest&stream=true`: the plan of this moment, asking nobody.

    Without `key` it is the asking key's own plan.
    """
    config = gateway.config
    admin = authenticate_admin(config, request.headers)
    answer.facts["key"] = admin.id
    given = request.parameters()
    model = given.get("model", "")
    if not model:
        raise ApiError(422, "model: say which, as ?model=gpt-4o", "invalid_request", param="model")
    key = config.keys_by_id.get(given.get("key", admin.id))
    if key is None:
        raise ApiError(404, "key: no key has this digest", "key_not_found", param="key")
    ask = Ask(model, stream=given.get("stream") == "true")
    told = explain(config, key, ask, gateway.rng, gateway.state, trio.current_time())
    await answer.whole(200, codec.dumps({"text": told.text, "served": told.served}))


async def generated_key(gateway: Gateway, request: Request, answer: Answer) -> None:
    """`GET /v1/generate-api-key`: a new key for `api_keys`; it is written down nowhere."""
    answer.facts["key"] = authenticate_admin(gateway.config, request.headers).id
    key = "sk-" + "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
    await answer.whole(200, codec.dumps({"api_key": key}), NO_STORE)


async def effective_config(gateway: Gateway, request: Request, answer: Answer) -> None:
    """`GET /v1/api_config`: the configuration in force, its secrets as digests."""
    config = gateway.config
    answer.facts["key"] = authenticate_admin(config, request.headers).id
    await answer.whole(200, codec.dumps({"api_config": masked(config)}), NO_STORE)
