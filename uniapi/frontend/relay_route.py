"""The endpoints other than chat: embeddings, moderations, images, speech and transcripts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import trio

from uniapi import relay
from uniapi.config.types import ClientKey, Config
from uniapi.events import StreamFailed
from uniapi.frontend import moderation
from uniapi.frontend.answer import Answer
from uniapi.frontend.asgi import FORM, Request
from uniapi.frontend.asking import Asking, first_answer
from uniapi.frontend.auth import authenticate
from uniapi.frontend.deadline import deadline_of
from uniapi.frontend.exchange import Exchange
from uniapi.frontend.gateway import Gateway
from uniapi.frontend.metering import estimated, metered
from uniapi.frontend.parse_relay import media_types, parse_form, parse_json
from uniapi.frontend.sse_writer import failure_event
from uniapi.race import Leg
from uniapi.relay import RelayRequest
from uniapi.routing.ask import Ask
from uniapi.upstream.attempt import Line
from uniapi.upstream.relayer import SSE, Head, Relayer

# Two of these at once do no harm; a picture or a speech is dear, and a form is large.
_CHEAP: Final = {relay.EMBEDDINGS, relay.MODERATIONS}

Handler: TypeAlias = Callable[[Gateway, Request, Answer], Awaitable[None]]


def serve(endpoint: str) -> Handler:
    """The handler of one endpoint, named by its canonical path."""

    async def handler(gateway: Gateway, request: Request, answer: Answer) -> None:
        await _serve(endpoint, gateway, request, answer)

    return handler


async def _serve(endpoint: str, gateway: Gateway, request: Request, answer: Answer) -> None:
    """Answer one request.

    Raises:
        ApiError: for the caller to send, when nothing was sent yet.
        ClientLeft: when the client hung up before it had asked.
    """
    config = gateway.config
    exchange = Exchange(request, answer, config)
    request.refuse_by_headers(config.preferences.max_request_body_bytes, media_types(endpoint))
    exchange.key = key = authenticate(config, request.headers)
    exchange.deadline = deadline_of(request.headers, key, exchange.started_at)
    asked = await _parsed(endpoint, gateway, config, key, request)
    exchange.ask = Ask(
        asked.model, endpoint, asked.size, estimated(asked.fields), stream=asked.stream
    )

    async def respond(nursery: trio.Nursery) -> bytes:
        await moderation.check_relay(gateway, config, exchange, asked)
        return await _answered(gateway, config, exchange, asked, nursery)

    await exchange.run(metered(gateway, config, exchange, respond))


async def _parsed(
    endpoint: str, gateway: Gateway, config: Config, key: ClientKey, request: Request
) -> RelayRequest:
    body = await request.body(config.preferences.max_request_body_bytes)
    if request.media_type == FORM:
        return parse_form(endpoint, request.headers["content-type"], body)
    default = None
    if endpoint == relay.MODERATIONS:  # the one endpoint whose SDKs need no model
        default = await moderation.model_for(gateway, config, key) or moderation.MODELS[0]
    return parse_json(endpoint, body, default)


async def _answered(
    gateway: Gateway,
    config: Config,
    exchange: Exchange,
    asked: RelayRequest,
    nursery: trio.Nursery,
) -> bytes:
    """Race, and write what the winner says; the last word is returned."""
    assert exchange.key is not None  # noqa: S101 - nobody comes here unknown
    assert exchange.ask is not None  # noqa: S101 - nor without a question
    line = Line(gateway.client, gateway.credentials, config, exchange.request.headers)
    relayer = Relayer(line, asked)
    asking = Asking(
        gateway,
        config,
        exchange.key,
        exchange.ask,
        nursery,
        exchange.legs,
        exchange.deadline,
    )
    winner = await first_answer(asking, relayer, hedged=asked.endpoint in _CHEAP)
    exchange.winner = winner
    head = relayer.head(winner)
    if head.whole:
        return await _whole(exchange, winner, head)
    return await _stream(exchange, winner, head)


async def _whole(exchange: Exchange, winner: Leg, head: Head) -> bytes:
    body = b"".join([batch.wire or b"" async for batch in winner.batches])
    exchange.show_trail()
    length = (b"content-length", str(len(body)).encode())
    await exchange.answer.head(200, [_type(head), length])
    return body


async def _stream(exchange: Exchange, winner: Leg, head: Head) -> bytes:
    exchange.show_trail()
    answer = exchange.answer
    headers = [_type(head)]
    events = head.content_type.lower().startswith(SSE)
    if events:
        headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
    await answer.head(200, headers)
    async for batch in winner.batches:
        match batch.events:
            case [*_, StreamFailed(failure)] if events:
                return failure_event(failure)
            case [*_, StreamFailed()]:
                exchange.cut = True  # sound has no word for an error: it gets no end
                return b""
            case _:
                await answer.body(batch.wire or b"")
                if answer.broken:
                    return b""
    return b""


def _type(head: Head) -> tuple[bytes, bytes]:
    return (b"content-type", head.content_type.encode("latin-1", "replace"))
