"""One request while it is served: its nursery and watcher, its race, its last word, its facts.

Chat and every other endpoint go this way; what differs between them is the attempt that is run
and how what the winner says is written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import trio

from uniapi.config.types import ClientKey, Config
from uniapi.errors import ApiError
from uniapi.events import Usage
from uniapi.frontend.asgi import Answer, Request
from uniapi.frontend.gateway import Gateway
from uniapi.frontend.trail import outcome, trail
from uniapi.race import Leg, Translate, run_race
from uniapi.routing.limits import LimitReached
from uniapi.routing.match import pending
from uniapi.routing.plan import Ask, make_plan
from uniapi.routing.walk import Walk

# Seconds a request waits for a provider's first listing when nobody else has the model: longer
# than a listing takes, shorter than a person's patience.
_DISCOVERY_WAIT: Final = 5.0

Respond: TypeAlias = Callable[[trio.Nursery], Awaitable[bytes]]
"""Answers all but the last word, which it returns."""


@dataclass(slots=True)
class Exchange:
    """One request while it is served: what it asked, and what it got.

    Attributes:
        started_at: on trio's clock.
        key: who asks; None until known.
        ask: what is asked; None until read.
        legs: the attempts, in order.
        winner: the attempt whose answer the client gets.
        left: the client hung up.
        cut: the answer broke off in a format that has no word for it: it gets no end.
        error: the answer, when it is an error.
        extra: facts of the route's own.
    """

    request: Request
    answer: Answer
    started_at: float = field(default_factory=trio.current_time)
    key: ClientKey | None = None
    ask: Ask | None = None
    legs: list[Leg] = field(default_factory=list)
    winner: Leg | None = None
    left: bool = False
    cut: bool = False
    error: ApiError | None = None
    extra: dict[str, object] = field(default_factory=dict)

    async def run(self, respond: Respond) -> None:
        """Answer, and stop answering when the client leaves.

        Raises:
            ApiError: for the caller to send, when nothing was sent yet.
        """
        last = await self._in_nursery(respond)
        if self.left or self.cut:
            return
        if self.error is not None:
            self.show_trail()
            raise self.error
        if self.answer.started:
            await self.answer.last_word(last)
        else:
            self.show_trail()
            await self.answer.whole(200, last)

    async def _in_nursery(self, respond: Respond) -> bytes:
        """Everything that the client's leaving must stop.

        Returns:
            The last word, to be sent outside: by then the watcher is dismissed, because the server
            says "disconnect" while it is still finishing the answer.
        """
        last = b""

        async def watch() -> None:
            await self.request.wait_for_disconnect()
            self.left = True
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            try:
                last = await respond(nursery)
            except ApiError as error:  # a value out of the nursery, not a group of one exception
                self.error = error
            self.left |= self.answer.broken
            nursery.cancel_scope.cancel()
        return last

    def show_trail(self) -> None:
        """Put the trail among the headers to be sent."""
        if self.legs:
            shown = trail(self.legs, trio.current_time()).encode("ascii")
            self.answer.extra.append((b"x-uniapi-attempts", shown))

    def facts(self) -> dict[str, object]:
        """What a person wants to know of it afterwards; None for what does not apply."""
        ask, winner = self.ask, self.winner
        tally = winner.tally if winner else None
        usage = tally.usage if tally and tally.usage else Usage()
        facts: dict[str, object] = {
            "key": self.key.id if self.key else None,
            "role": self.key.role if self.key else None,
            "model": ask.model if ask else None,
            "stream": ask.stream if ask else None,
            "channel": winner.attempt.channel.label if winner else None,
            "upstream_model": (tally.model or None) if tally else None,
            "finish": tally.finish if tally else None,
            "prompt_tokens": usage.prompt if usage.total else None,
            "completion_tokens": usage.completion if usage.total else None,
            "ttft_ms": _ms(self.started_at, winner.first_at) if winner else None,
            "via": ", ".join(winner.attempt.via) or None if winner else None,
            "attempts": trail(self.legs, trio.current_time()) or None,
            **self.extra,
        }
        match self.error:
            case LimitReached(limit=limit):
                facts["limit"] = limit
            case _:
                pass
        if self.left:
            facts["outcome"] = "client_left"
        elif winner is not None and winner.tally.failure is not None:
            facts |= {"outcome": outcome(winner), "error": winner.tally.failure.message}
        return facts


async def heard_of(gateway: Gateway, config: Config, key: ClientKey, model: str) -> None:
    """Wait a little for the listings of providers that may turn out to serve this model."""
    unheard = pending(config, gateway.state, key, model)
    if unheard:
        await gateway.discovery.wait(unheard, _DISCOVERY_WAIT)


async def first_answer(
    gateway: Gateway,
    config: Config,
    key: ClientKey,
    ask: Ask,
    translate: Translate,
    nursery: trio.Nursery,
    legs: list[Leg],
) -> Leg:
    """Plan, race, and return the attempt that committed.

    Args:
        gateway: state, discovery and randomness.
        config: as it was when the request came.
        key: who asks.
        ask: what decides where it goes.
        translate: runs one attempt.
        nursery: the winner goes on in it.
        legs: gets every attempt.

    Raises:
        ApiError: nobody is there to ask, or nobody answered.
    """
    await heard_of(gateway, config, key, ask.model)
    plan = make_plan(config, gateway.state, key, ask, trio.current_time(), gateway.rng)
    if refusal := plan.refusal():
        raise refusal
    walk = Walk(plan, config, gateway.state, gateway.rng)
    try:
        winner = await run_race(nursery, walk, translate, legs)
    finally:
        walk.close()
    if winner is None:
        raise walk.verdict()
    return winner


def _ms(start: float, end: float | None) -> float | None:
    return None if end is None else round((end - start) * 1000, 1)
