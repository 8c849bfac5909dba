"""`ENABLE_MODERATION`: what a key asks is checked first, by a moderation model the key may use.

It fails closed: without a verdict there is no answer, and the error says what to configure. The
check goes the way of any request to `/v1/moderations`, with the same plan and the same race, but
it is ours: it counts for none of the client's limits. A flagged prompt is a good answer of the
moderation model, so nothing cools because of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from uniapi import codec, relay
from uniapi.chat import ChatRequest
from uniapi.codec import Json
from uniapi.config.types import ClientKey, Config
from uniapi.errors import ApiError
from uniapi.frontend.asking import Asking, first_answer, heard_of
from uniapi.frontend.exchange import Exchange
from uniapi.frontend.gateway import Gateway
from uniapi.frontend.trail import trail
from uniapi.race import Leg
from uniapi.relay import RelayRequest
from uniapi.routing.ask import Ask
from uniapi.routing.match import expand
from uniapi.upstream.attempt import Line
from uniapi.upstream.relayer import Relayer

MODELS: Final = ("omni-moderation-latest", "text-moderation-latest")
TIMEOUT: Final = 10.0  # seconds for a verdict, every attempt included
_CHECKED: Final = {  # endpoint to the field that is looked at
    relay.EMBEDDINGS: "input",
    relay.IMAGES: "prompt",
    relay.IMAGE_EDITS: "prompt",
    relay.SPEECH: "input",
}


async def check_chat(
    gateway: Gateway, config: Config, exchange: Exchange, chat: ChatRequest
) -> None:
    """Let a chat request pass, or refuse it for its last user text.

    Raises:
        ApiError: 400 when it is flagged, else as `_verdict`.
    """
    if (text := chat.last_user_text()).strip():
        await _check(gateway, config, exchange, "messages", (text,))


async def check_relay(
    gateway: Gateway, config: Config, exchange: Exchange, asked: RelayRequest
) -> None:
    """Let a request to another endpoint pass, or refuse it for what it would have made or read.

    Raises:
        ApiError: 400 when it is flagged or is no text, else as `_verdict`.
    """
    param = _CHECKED.get(asked.endpoint)
    if param is not None:
        await _check(gateway, config, exchange, param, relay.texts(asked.fields.get(param)))


async def model_for(gateway: Gateway, config: Config, key: ClientKey) -> str | None:
    """The moderation model this key may use; None when it may use none."""
    for model in MODELS:
        await heard_of(gateway, config, key, model)
        if expand(config, gateway.state, key, model):
            return model
    return None


async def _check(
    gateway: Gateway,
    config: Config,
    exchange: Exchange,
    param: str,
    said: Sequence[str] | None,
) -> None:
    key = exchange.key
    if key is None or not key.preferences.moderation:
        return
    if said is None:
        raise ApiError(
            400,
            f"{param}: this key's requests are moderated, and tokens cannot be: send text",
            code="cannot_be_moderated",
            param=param,
        )
    exchange.extra["moderation"] = "failed"
    flagged = await _verdict(gateway, config, exchange, key, said)
    exchange.extra["moderation"] = "flagged" if flagged is not None else "passed"
    if flagged is not None:
        why = f" ({flagged})" if flagged else ""
        raise ApiError(
            400,
            f"{param}: the moderation of this gateway does not let this pass{why}",
            code="content_policy_violation",
            param=param,
        )


async def _verdict(
    gateway: Gateway, config: Config, exchange: Exchange, key: ClientKey, said: Sequence[str]
) -> str | None:
    """The categories that were flagged, None when nothing was.

    Raises:
        ApiError: 403 without a moderation model, 503 when the check fails.
    """
    model = await model_for(gateway, config, key)
    if model is None:
        raise ApiError(
            403,
            f"ENABLE_MODERATION is on for this key, and it may use neither {MODELS[0]} nor "
            f"{MODELS[1]}: add one of them to a provider and to the key's models, or switch "
            "ENABLE_MODERATION off",
            code="moderation_not_configured",
        )
    legs: list[Leg] = []
    body: bytes | None = None
    why = f"no verdict within {TIMEOUT:g} s"
    try:
        with trio.move_on_after(TIMEOUT):
            body = await _asked(gateway, config, exchange, key, model, said, legs)
    except ApiError as error:
        why = error.message
    finally:
        exchange.extra["moderation_attempts"] = trail(legs, trio.current_time()) or None
    if body is not None:
        try:
            return flagged_in(codec.loads(body))
        except ValueError as error:
            why = str(error)
    raise ApiError(
        503,
        f"ENABLE_MODERATION is on for this key, and the check by {model} failed: {why}; see to "
        "the providers of that model, or switch ENABLE_MODERATION off",
        code="moderation_failed",
    )


async def _asked(
    gateway: Gateway,
    config: Config,
    exchange: Exchange,
    key: ClientKey,
    model: str,
    said: Sequence[str],
    legs: list[Leg],
) -> bytes:
    """The answer of the moderation model; its attempts end with this."""
    texts: Json = said[0] if len(said) == 1 else list(said)
    fields: dict[str, Json] = {"model": model, "input": texts}
    request = RelayRequest(relay.MODERATIONS, model, fields, size=len(codec.dumps(fields)))
    line = Line(gateway.client, gateway.credentials, config, exchange.request.headers)
    ask = Ask(model=model, endpoint=relay.MODERATIONS, size=request.size)
    refused: ApiError | None = None
    body = b""
    async with trio.open_nursery() as nursery:
        try:
            asking = Asking(gateway, config, key, ask, nursery, legs, exchange.deadline)
            winner = await first_answer(asking, Relayer(line, request))
            body = b"".join([batch.wire or b"" async for batch in winner.batches])
        except ApiError as error:  # a value out of the nursery, not a group of one exception
            refused = error
    if refused is not None:
        raise refused
    return body


def flagged_in(value: Json) -> str | None:
    """The flagged categories of a moderation answer, as text; None when nothing is flagged.

    Raises:
        ValueError: when it is no verdict.
    """
    match value:
        case {"results": [_, *_] as results}:
            verdicts = [_result(result) for result in results]
        case _:
            raise ValueError("it gave no verdict")
    found = [verdict for verdict in verdicts if verdict is not None]
    if not found:
        return None
    return ", ".join(dict.fromkeys(name for names in found for name in names))


def _result(result: Json) -> list[str] | None:
    match result:
        case {"flagged": False}:
            return None
        case {"flagged": True, "categories": dict(categories)}:
            return [name for name, hit in categories.items() if hit is True]
        case {"flagged": True}:
            return []
        case _:
            raise ValueError("it gave no verdict")
