"""One request while it is served: its nursery and watcher, its race, its last word, its facts.

Chat and every other endpoint go this way; what differs between them is the attempt that is run
and how what the winner says is written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import trio

from uniapi.config.types import ClientKey, Config
from uniapi.errors import ApiError
from uniapi.events import Usage
from uniapi.frontend.answer import Answer, Visit
from uniapi.frontend.answering import total
from uniapi.frontend.asgi import Request
from uniapi.frontend.deadline import Deadline
from uniapi.frontend.trail import outcome, trail
from uniapi.race import Leg
from uniapi.routing.ask import Ask
from uniapi.routing.limits import LimitReached
from uniapi.stats.prices import cost
from uniapi.stats.record import Attempted, Record

Respond: TypeAlias = Callable[[trio.Nursery], Awaitable[bytes]]
"""Answers all but the last word, which it returns."""


@dataclass(slots=True)
class Exchange:
    """One request while it is served: what it asked, and what it got.

    Attributes:
        config: as it was when the request came.
        started_at: on trio's clock.
        deadline: when it has to be over.
        key: who asks; None until known.
        ask: what is asked; None until read.
        legs: the attempts, in order.
        winner: the attempt whose answer the client gets.
        left: the client hung up.
        cut: the answer broke off in a format that has no word for it: it gets no end.
        error: the answer, when it is an error.
        in_band: how the format of the answer tells an error once it has begun; None when it cannot.
        extra: facts of the route's own.
    """

    request: Request
    answer: Answer
    config: Config
    started_at: float = field(default_factory=trio.current_time)
    deadline: Deadline = field(init=False)
    key: ClientKey | None = None
    ask: Ask | None = None
    legs: list[Leg] = field(default_factory=list)
    winner: Leg | None = None
    left: bool = False
    cut: bool = False
    error: ApiError | None = None
    in_band: Callable[[ApiError], bytes] | None = None
    extra: dict[str, object] = field(default_factory=dict)
    _work: trio.CancelScope | None = None  # what has to stop for another answer

    def __post_init__(self) -> None:
        """Without a word about it there is no deadline."""
        self.deadline = Deadline(self.started_at)
        self.answer.account = self

    async def run(self, respond: Respond) -> None:
        """Answer, and stop answering when the client leaves.

        Raises:
            ApiError: for the caller to send, when nothing was sent yet, and to be told of.
        """
        last = await self._in_nursery(respond)
        if self.left or self.cut:
            return
        if self.error is not None:
            if self.answer.started and self.in_band is not None:
                await self.answer.last_word(self.in_band(self.error))
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
        tell = self.request.on_leaving
        async with trio.open_nursery() as nursery:
            self._work = nursery.cancel_scope

            def leave() -> None:
                self.left = True
                nursery.cancel_scope.cancel()

            if tell is not None:
                tell(leave)
            else:
                nursery.start_soon(self._watch, leave)
            try:
                last = await respond(nursery)
            except ApiError as error:  # a value out of the nursery, not a group of one exception
                self.error = error
            finally:
                if tell is not None:
                    tell(None)
            self.left |= self.answer.broken
            nursery.cancel_scope.cancel()
        self._work = None
        return last

    def stop(self, error: ApiError) -> None:
        """End with this error, unless the answer has all but its last word already."""
        if self._work is not None and self.error is None:
            self.error = error
            self._work.cancel()

    async def _watch(self, leave: Callable[[], None]) -> None:
        await self.request.wait_for_disconnect()
        leave()

    def show_trail(self) -> None:
        """Put the trail among the headers to be sent."""
        if self.legs:
            shown = trail(self.legs, trio.current_time()).encode("ascii")
            self.answer.extra.append((b"x-uniapi-attempts", shown))

    def facts(self) -> dict[str, object]:
        """What a person wants to know of it afterwards; None for what does not apply."""
        ask, winner = self.ask, self.winner
        tally = winner.tally if winner else None
        usage = self._usage()
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
            "ttft_ms": _ms(self._first()),
            "via": ", ".join(winner.attempt.via) or None if winner else None,
            "attempts": trail(self.legs, trio.current_time()) or None,
            "hedged": any(leg.why == "hedge" for leg in self.legs) or None,
            "rescued": sum(leg.why == "rescue" and leg.committed for leg in self.legs) or None,
            **self.extra,
        }
        if limit := self._limit():
            facts["limit"] = limit
        if self.left:
            facts["outcome"] = "client_left"
        elif winner is not None and winner.tally.failure is not None:
            facts |= {"outcome": outcome(winner), "error": winner.tally.failure.message}
        return facts

    def record(self, visit: Visit) -> Record:
        """What is remembered of it."""
        request, ask, winner, usage = self.request, self.ask, self.winner, self._usage()
        channel = winner.attempt.channel if winner else None
        costs = self._costs()
        dollars, through = sum(costs.values(), 0.0), _through(costs)
        return Record(
            at=visit.at,
            id=request.id,
            endpoint=visit.endpoint,
            client=request.client,
            key=self.key.id if self.key else "",
            model=ask.model if ask and self.legs else "",
            stream=ask.stream if ask else False,
            status=self.answer.status,
            outcome=visit.outcome,
            limit=self._limit(),
            provider=channel.provider.name if channel else "",
            upstream=channel.upstream if channel else "",
            seconds=visit.seconds,
            first=self._first(),
            prompt=usage.prompt,
            completion=usage.completion,
            total=usage.total,
            cost=dollars,
            via=tuple(through),
            attempts=tuple(_attempted(leg) for leg in self.legs),
            parts={key: part for key, part in through.items() if part != dollars},
        )

    def _first(self) -> float | None:
        """Seconds to the first token of what the client got; None when there was none."""
        at = next((leg.first_at for leg in self.legs if leg.committed), None)
        return None if at is None else at - self.started_at

    def _limit(self) -> str:
        """The limit that refused it; empty when none did."""
        match self.error:
            case LimitReached(limit=met):
                return met
            case _:
                return ""

    def _usage(self) -> Usage:
        """The tokens of what the client got, as the providers counted them."""
        parts = [leg.tally.usage for leg in self.legs if leg.committed and leg.tally.usage]
        return total(parts) if parts else Usage()

    def _costs(self) -> Mapping[Leg, float]:
        """US dollars of each part, at the price of the model that gave it.

        Of a part without usage the request itself is paid for, as with limits.
        """
        prices, tokens = self.config.preferences.model_price, self.ask.tokens if self.ask else 0
        costs: dict[Leg, float] = {}
        for leg in told(self.legs):
            channel, usage = leg.attempt.channel, leg.tally.usage or Usage(prompt=tokens)
            names = (channel.name, channel.upstream)
            costs[leg] = cost(prices, names, usage.prompt, usage.completion)
        return costs


def told(legs: Sequence[Leg]) -> Sequence[Leg]:
    """The attempts a client pays for: what it was told; when that is nothing yet, the last."""
    served = [leg for leg in legs if leg.failure is None]  # they answered, or still might have
    return [leg for leg in served if leg.committed] or served[-1:]


def _through(costs: Mapping[Leg, float]) -> Mapping[str, float]:
    """US dollars by the digest of each nested key that a part came through."""
    through: dict[str, float] = {}
    for leg, dollars in costs.items():
        for nested in leg.attempt.via:
            through[nested] = through.get(nested, 0.0) + dollars
    return through


def _attempted(leg: Leg) -> Attempted:
    attempt, usage = leg.attempt, leg.tally.usage
    channel, key = attempt.channel, attempt.key
    return Attempted(
        provider=channel.provider.name,
        upstream=channel.upstream,
        key=key.digest if key is not None else "",
        outcome=outcome(leg),
        why=leg.why,
        seconds=(leg.ended_at or trio.current_time()) - leg.started_at,
        first=None if leg.first_at is None else leg.first_at - leg.started_at,
        tokens=usage.total if usage is not None else 0,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
