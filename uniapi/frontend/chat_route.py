"""`POST /v1/chat/completions`."""

from __future__ import annotations

import trio

from uniapi.errors import ApiError, Failure
from uniapi.events import Batch, Start, StreamFailed
from uniapi.frontend import moderation
from uniapi.frontend.asgi import Answer, Request
from uniapi.frontend.auth import authenticate
from uniapi.frontend.exchange import Exchange, first_answer
from uniapi.frontend.gateway import Gateway
from uniapi.frontend.json_writer import fold
from uniapi.frontend.metering import estimated, metered
from uniapi.frontend.parse import parse_chat
from uniapi.frontend.sse_writer import HEAD, Renderer, write_stream
from uniapi.routing.ask import Ask
from uniapi.upstream.attempt import Line
from uniapi.upstream.translator import Translator


async def serve_chat(gateway: Gateway, request: Request, answer: Answer) -> None:
    """Answer one chat completion request; what it was goes into the answer's facts.

    Raises:
        ApiError: for the caller to send, when nothing was sent yet.
        ClientLeft: when the client hung up before it had asked.
    """
    exchange = Exchange(request, answer)
    try:
        config = gateway.config
        limit = config.preferences.max_request_body_bytes
        request.refuse_by_headers(limit)
        exchange.key = key = authenticate(config, request.headers)
        chat = parse_chat(await request.body(limit))
        effort = chat.fields.get("reasoning_effort")
        exchange.ask = ask = Ask(
            model=chat.model,
            size=chat.size,
            tokens=estimated(chat.fields),
            stream=chat.stream,
            reasoning_effort=effort if isinstance(effort, str) else None,
        )

        async def respond(nursery: trio.Nursery) -> bytes:
            await moderation.check_chat(gateway, config, exchange, chat)
            line = Line(gateway.client, gateway.credentials, config, request.headers)
            translate = Translator(line, gateway.fetcher, chat)
            winner = await first_answer(
                gateway, config, key, ask, translate, nursery, exchange.legs
            )
            exchange.winner = winner
            if not chat.stream:
                return _whole([batch async for batch in winner.batches])
            exchange.show_trail()
            await answer.head(200, HEAD)
            renderer = Renderer(chat.include_usage, Start(model=winner.attempt.channel.upstream))
            return await write_stream(answer, winner.batches, renderer)

        await exchange.run(metered(gateway, config, exchange, respond))
    finally:
        answer.facts |= exchange.facts()


def _whole(batches: list[Batch]) -> bytes:
    for batch in batches:
        if batch.events and isinstance(last := batch.events[-1], StreamFailed):
            raise _error(last.failure)
    return fold(batches)


def _error(failure: Failure) -> ApiError:
    return ApiError(failure.status, failure.message, failure.code, failure.type, failure.param)
