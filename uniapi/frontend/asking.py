"""One question to the providers: its plan, and the attempts that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Final

import trio

from uniapi.config.types import ClientKey, Config
from uniapi.errors import Failure
from uniapi.frontend.deadline import Deadline
from uniapi.frontend.gateway import Gateway
from uniapi.race import Leg, Translate, run_race
from uniapi.routing.ask import Ask
from uniapi.routing.hedging import hedging_for
from uniapi.routing.match import pending
from uniapi.routing.plan import make_plan
from uniapi.routing.timeouts import keepalive
from uniapi.routing.walk import Walk

# Seconds a request waits for a provider's first listing when nobody else has the model: longer
# than a listing takes, shorter than a person's patience.
_DISCOVERY_WAIT: Final = 5.0


@dataclass(slots=True)
class Asking:
    """Asks until somebody answers, and again when an answer breaks off.

    Attributes:
        gateway: state, discovery and randomness.
        config: as it was when the request came.
        key: who asks.
        ask: what decides where it goes.
        nursery: attempts run in it, the winner's to its end.
        legs: gets every attempt.
        deadline: of the request; without a word about it, none.
    """

    gateway: Gateway
    config: Config
    key: ClientKey
    ask: Ask
    nursery: trio.Nursery
    legs: list[Leg]
    deadline: Deadline = field(default_factory=lambda: Deadline(trio.current_time()))
    _walk: Walk = field(init=False)

    async def plan(self) -> float | None:
        """Decide whom to ask; the seconds between keep-alive comments, None for none.

        Raises:
            ApiError: nobody is there to ask.
        """
        gateway, config, ask = self.gateway, self.config, self.ask
        await heard_of(gateway, config, self.key, ask.model, self.deadline.at)
        now = trio.current_time()
        if now >= self.deadline.at:
            raise self.deadline.missed((), now)
        plan = make_plan(config, gateway.state, self.key, ask, now, gateway.rng)
        if refusal := plan.refusal():
            raise refusal
        at = self.deadline.at
        self._walk = Walk(plan, config, gateway.state, gateway.rng, deadline=at)
        return keepalive(config, plan.slots[0].channel, ask.model)

    async def first(self, translate: Translate, *, hedged: bool) -> Leg:
        """The attempt that commits; `hedged` where asking two at once does no harm.

        Raises:
            ApiError: nobody answered, or not in time.
        """
        state = self.gateway.state
        hedging = (
            hedging_for(self.config, state, self.key, stream=self.ask.stream) if hedged else None
        )
        at = self.deadline.at
        winner = await run_race(
            self.nursery, self._walk, translate, self.legs, deadline=at, hedging=hedging
        )
        if winner is not None:
            return winner
        now = trio.current_time()
        raise self.deadline.missed(self.legs, now) if now >= at else self._walk.verdict()

    async def another(self, translate: Translate) -> Leg | None:
        """Somebody to go on with an answer that broke off; None when nobody is left."""
        self.gateway.state.counters["rescues"] += 1
        at = self.deadline.at
        return await run_race(
            self.nursery, self._walk, translate, self.legs, deadline=at, why="rescue"
        )

    def broke_off(self, leg: Leg, failure: Failure) -> None:
        """The attempt that had committed did not keep what it promised."""
        self._walk.broke_off(leg.attempt, failure, trio.current_time())

    @property
    def rescues(self) -> bool:
        """Whether an answer that breaks off may be carried on by another."""
        own = self.key.preferences.rescue
        return self.config.preferences.rescue if own is None else own

    def close(self) -> None:
        """The request is over."""
        self._walk.close()


async def heard_of(
    gateway: Gateway, config: Config, key: ClientKey, model: str, until: float = inf
) -> None:
    """Wait a little for the listings of providers that may turn out to serve this model.

    `until` is the end of all waiting, on trio's clock.
    """
    if unheard := pending(config, gateway.state, key, model):
        with trio.move_on_at(until):
            await gateway.discovery.wait(unheard, _DISCOVERY_WAIT)


async def first_answer(asking: Asking, translate: Translate, *, hedged: bool = False) -> Leg:
    """Plan, race, and return the attempt that committed: for answers that nobody goes on with.

    Raises:
        ApiError: nobody is there to ask, or nobody answered.
    """
    await asking.plan()
    try:
        return await asking.first(translate, hedged=hedged)
    finally:
        asking.close()
