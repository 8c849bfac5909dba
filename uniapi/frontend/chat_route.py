"""`POST /v1/chat/completions`."""

from __future__ import annotations

from dataclasses import replace

import trio

from uniapi.errors import ApiError, Failure, Kind
from uniapi.events import Batch, Start, StreamFailed
from uniapi.frontend import moderation
from uniapi.frontend.answer import Answer
from uniapi.frontend.answering import Answering
from uniapi.frontend.asgi import Request
from uniapi.frontend.asking import Asking
from uniapi.frontend.auth import authenticate
from uniapi.frontend.deadline import deadline_of
from uniapi.frontend.exchange import Exchange
from uniapi.frontend.gateway import Gateway
from uniapi.frontend.json_writer import fold
from uniapi.frontend.metering import estimated, metered
from uniapi.frontend.parse import parse_chat
from uniapi.frontend.pulse import Pulse
from uniapi.frontend.sse_writer import DONE, HEAD, Renderer, event, failure_event, write_stream
from uniapi.frontend.trail import comment
from uniapi.routing.ask import Ask
from uniapi.upstream.attempt import Line
from uniapi.upstream.resume import may_be_resumed
from uniapi.upstream.translator import Translator


async def serve_chat(gateway: Gateway, request: Request, answer: Answer) -> None:
    """Answer one chat completion request.

    Raises:
        ApiError: for the caller to send, when nothing was sent yet.
        ClientLeft: when the client hung up before it had asked.
    """
    config = gateway.config
    exchange = Exchange(request, answer, config)
    limit = config.preferences.max_request_body_bytes
    request.refuse_by_headers(limit)
    exchange.key = key = authenticate(config, request.headers)
    exchange.deadline = deadline_of(request.headers, key, exchange.started_at)
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
        asking = Asking(gateway, config, key, ask, nursery, exchange.legs, exchange.deadline)
        every = await asking.plan()
        line = Line(gateway.client, gateway.credentials, config, request.headers)
        translate = Translator(line, gateway.fetcher, chat)
        try:
            if not chat.stream:
                exchange.winner = winner = await asking.first(translate, hedged=True)
                return _whole([batch async for batch in winner.batches])
            return await _streamed(exchange, asking, translate, every)
        finally:
            asking.close()

    await exchange.run(metered(gateway, config, exchange, respond))


async def _streamed(
    exchange: Exchange, asking: Asking, translate: Translator, every: float | None
) -> bytes:
    """Send an answer as it comes, with a sign of life `every` so many seconds until it does."""
    answer, legs, chat = exchange.answer, exchange.legs, translate.chat

    async def head() -> None:
        exchange.show_trail()
        await answer.head(200, HEAD)

    def in_band(error: ApiError) -> bytes:
        return event(error.body()) + comment(legs, trio.current_time())

    exchange.in_band = in_band
    pulse = Pulse(answer, every, head)
    winner = await pulse.during(lambda: asking.first(translate, hedged=True))
    told = Answering(asking, translate, winner, asking.rescues and may_be_resumed(chat))
    if not answer.started:
        await head()
    renderer = Renderer(chat.include_usage, Start(model=winner.attempt.channel.upstream))
    try:
        failure = await write_stream(answer, told, renderer, pulse)
    finally:
        exchange.winner = told.leg
    now = trio.current_time()
    if failure is None:
        return comment(legs, now) + DONE
    if failure.kind is Kind.DEADLINE:
        failure = replace(failure, message=exchange.deadline.told(legs, now))
    return failure_event(failure) + comment(legs, now)


def _whole(batches: list[Batch]) -> bytes:
    for batch in batches:
        if batch.events and isinstance(last := batch.events[-1], StreamFailed):
            raise _error(last.failure)
    return fold(batches)


def _error(failure: Failure) -> ApiError:
    return ApiError(failure.status, failure.message, failure.code, failure.type, failure.param)
