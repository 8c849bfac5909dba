"""`POST /v1/chat/completions`: the request's nursery, from its parsed body to its last word."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from uniapi.chat import ChatRequest
from uniapi.config.types import ClientKey, Config
from uniapi.errors import ApiError, Failure
from uniapi.events import Batch, Start, StreamFailed, Usage
from uniapi.frontend.asgi import Answer, Request
from uniapi.frontend.auth import authenticate
from uniapi.frontend.gateway import Gateway
from uniapi.frontend.json_writer import fold
from uniapi.frontend.parse import parse_chat
from uniapi.frontend.sse_writer import HEAD, Renderer, write_stream
from uniapi.frontend.trail import outcome, trail
from uniapi.race import Leg, run_race
from uniapi.routing.match import pending
from uniapi.routing.plan import Ask, make_plan
from uniapi.routing.walk import Walk
from uniapi.upstream.translator import Translator

# Seconds a request waits for a provider's first listing when nobody else has the model: longer
# than a listing takes, shorter than a person's patience.
_DISCOVERY_WAIT = 5.0


@dataclass(slots=True)
class Exchange:
    """One request while it is served: what it asked, and what it got.

    Attributes:
        key: who asks; None until known.
        chat: what is asked; None until read.
        legs: the attempts, in order.
        left: the client hung up.
        error: the answer, when it is an error.
    """

    request: Request
    answer: Answer
    started_at: float
    key: ClientKey | None = None
    chat: ChatRequest | None = None
    legs: list[Leg] = field(default_factory=list)
    winner: Leg | None = None
    left: bool = False
    error: ApiError | None = None

    def show_trail(self) -> None:
        """Put the trail among the headers to be sent."""
        if self.legs:
            shown = trail(self.legs, trio.current_time()).encode("ascii")
            self.answer.extra.append((b"x-uniapi-attempts", shown))


async def serve_chat(gateway: Gateway, request: Request, answer: Answer) -> None:
    """Answer one chat completion request; what it was goes into the answer's facts.

    Raises:
        ApiError: for the caller to send, when nothing was sent yet.
        ClientLeft: when the client hung up before it had asked.
    """
    exchange = Exchange(request, answer, trio.current_time())
    try:
        config = gateway.config
        limit = config.preferences.max_request_body_bytes
        request.refuse_by_headers(limit)
        exchange.key = authenticate(config, request.headers)
        exchange.chat = parse_chat(await request.body(limit))
        last = await _in_nursery(gateway, config, exchange, exchange.key, exchange.chat)
        if exchange.left:
            return
        if exchange.error is not None:
            exchange.show_trail()
            raise exchange.error
        if answer.started:
            await answer.last_word(last)
        else:
            exchange.show_trail()
            await answer.whole(200, last)
    finally:
        answer.facts |= _facts(exchange)


async def _in_nursery(
    gateway: Gateway, config: Config, exchange: Exchange, key: ClientKey, chat: ChatRequest
) -> bytes:
    """Everything that the client's leaving must stop.

    Returns:
        The last word, to be sent outside: by then the watcher is dismissed, because the server
        says "disconnect" while it is still finishing the answer.
    """
    last = b""

    async def watch() -> None:
        await exchange.request.wait_for_disconnect()
        exchange.left = True
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        try:
            last = await _answer(gateway, config, exchange, key, chat, nursery)
        except ApiError as error:  # a value out of the nursery, not a group of one exception
            exchange.error = error
        exchange.left |= exchange.answer.broken
        nursery.cancel_scope.cancel()
    return last


async def _answer(
    gateway: Gateway,
    config: Config,
    exchange: Exchange,
    key: ClientKey,
    chat: ChatRequest,
    nursery: trio.Nursery,
) -> bytes:
    """Plan, race, and write what the winner says; the last word is returned."""
    unheard = pending(config, gateway.state, key, chat.model)
    if unheard:
        await gateway.discovery.wait(unheard, _DISCOVERY_WAIT)
    effort = chat.fields.get("reasoning_effort")
    ask = Ask(
        model=chat.model,
        size=chat.size,
        stream=chat.stream,
        reasoning_effort=effort if isinstance(effort, str) else None,
    )
    plan = make_plan(config, gateway.state, key, ask, trio.current_time(), gateway.rng)
    if refusal := plan.refusal():
        raise refusal
    walk = Walk(plan, config, gateway.state, gateway.rng)
    translate = Translator(
        gateway.client,
        gateway.credentials,
        gateway.fetcher,
        config,
        chat,
        exchange.request.headers,
    )
    winner = await run_race(nursery, walk, translate, exchange.legs)
    if winner is None:
        raise walk.verdict()
    exchange.winner = winner
    if chat.stream:
        exchange.show_trail()
        await exchange.answer.head(200, HEAD)
        renderer = Renderer(chat.include_usage, Start(model=winner.attempt.channel.upstream))
        return await write_stream(exchange.answer, winner.batches, renderer)
    return _whole([batch async for batch in winner.batches])


def _whole(batches: list[Batch]) -> bytes:
    for batch in batches:
        if batch.events and isinstance(last := batch.events[-1], StreamFailed):
            raise _error(last.failure)
    return fold(batches)


def _error(failure: Failure) -> ApiError:
    return ApiError(failure.status, failure.message, failure.code, failure.type, failure.param)


def _facts(exchange: Exchange) -> dict[str, object]:
    """What a person wants to know of it afterwards; None for what does not apply."""
    chat, winner = exchange.chat, exchange.winner
    tally = winner.tally if winner else None
    usage = tally.usage if tally and tally.usage else Usage()
    facts: dict[str, object] = {
        "key": exchange.key.id if exchange.key else None,
        "role": exchange.key.role if exchange.key else None,
        "model": chat.model if chat else None,
        "stream": chat.stream if chat else None,
        "channel": winner.attempt.channel.label if winner else None,
        "upstream_model": tally.model if tally else None,
        "finish": tally.finish if tally else None,
        "prompt_tokens": usage.prompt if usage.total else None,
        "completion_tokens": usage.completion if usage.total else None,
        "ttft_ms": _ms(exchange.started_at, winner.first_at) if winner else None,
        "attempts": trail(exchange.legs, trio.current_time()) or None,
    }
    if exchange.left:
        facts["outcome"] = "client_left"
    elif winner is not None and winner.tally.failure is not None:
        facts |= {"outcome": outcome(winner), "error": winner.tally.failure.message}
    return facts


def _ms(start: float, end: float | None) -> float | None:
    return None if end is None else round((end - start) * 1000, 1)
