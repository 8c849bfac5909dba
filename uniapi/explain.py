"""`uniapi explain`: what the planner would do with a request, and why, without asking anybody.

The plan comes from the planner that serves, on a copy of the state, so that nothing moves. Keys
are shown as digests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Final, assert_never

from uniapi.config.types import Algorithm, AutoRetry, ClientKey, Config, Secret
from uniapi.routing import credit, limits
from uniapi.routing.ask import Ask
from uniapi.routing.limits import Claim
from uniapi.routing.match import Group, Leaf, Node, expand, pending
from uniapi.routing.plan import Plan, Slot, make_plan
from uniapi.routing.sift import pool
from uniapi.routing.timeouts import Timeouts, keepalive
from uniapi.routing.walk import MAX_ATTEMPTS
from uniapi.state import State

_ORDERS: Final[Mapping[Algorithm, str]] = {
    Algorithm.FIXED_PRIORITY: "always the order of the rules",
    Algorithm.ROUND_ROBIN: "every request begins one further on",
    Algorithm.RANDOM: "drawn anew for every request",
    Algorithm.WEIGHTED_ROUND_ROBIN: "in turn, by weight",
    Algorithm.LOTTERY: "drawn anew for every request, by weight",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would happen to a request.

    Attributes:
        text: for a person, with a newline at its end.
        served: whether anybody would be asked.
    """

    text: str
    served: bool


def explain(
    config: Config,
    key: ClientKey,
    ask: Ask,
    rng: Random,
    state: State | None = None,
    now: float = 0,
) -> Explanation:
    """Say who would be asked, in which order, and why not the others.

    Args:
        config: the whole configuration.
        key: who asks.
        ask: what is asked.
        rng: for the orders that are drawn.
        state: of a running gateway; without it, as after a start: nobody rests, nothing is used.
        now: on the clock of `state`.
    """
    state = State() if state is None else deepcopy(state)
    nodes = expand(config, state, key, ask.model)
    unheard = pending(config, state, key, ask.model)
    claims = limits.of_client(config, state, key, ask.model)
    denial = limits.check(state, claims, ask.tokens, now)
    plan = make_plan(config, state, key, ask, now, rng)
    teller = _Teller(config, state, plan, dict(_weights(nodes, ())), now)
    refusal = denial.error() if denial is not None else plan.refusal()
    balance = credit.balance(state, key)
    if balance is not None and balance.gone:
        refusal = balance.error()
    lines = [*_head(key, ask), *teller.credits(key, "  "), *teller.limits(claims, "  ")]
    for place, slot in enumerate(plan.slots):
        lines += ["", *teller.slot(place + 1, slot)]
    if plan.skipped:
        lines += ["", "left out"]
        lines += [f"  {left.channel_label}: {left.why}" for left in plan.skipped]
    if unheard:
        lines += ["", f"not known before they are asked: the models of {', '.join(unheard)}"]
    if refusal is not None:
        said = refusal.message
        if unheard and refusal.code == "model_not_found":
            knows = "a running gateway knows (--server http://127.0.0.1:8000)"
            said = f"{said.rstrip('.')}; unless {' or '.join(unheard)} has it: {knows}"
        lines += ["", f"answer: {refusal.status} {said}"]
    return Explanation("\n".join(lines) + "\n", refusal is None)


def _head(key: ClientKey, ask: Ask) -> Iterator[str]:
    role = "" if key.role is None else f" ({key.role})"
    yield f"{ask.model}{' as a stream' if ask.stream else ''}, asked by key {key.id}{role}"
    algorithm = key.preferences.algorithm
    yield f"  order: {algorithm}, {_ORDERS[algorithm]}"
    yield f"  AUTO_RETRY: {_retries(key.preferences.auto_retry)}"
    if key.preferences.deadline is not None:
        yield f"  deadline: {key.preferences.deadline:g} s for all attempts together"


def _retries(retry: AutoRetry) -> str:
    if not retry.enabled:
        return "false, one attempt"
    if retry.count is None:
        return f"true, through the list, {MAX_ATTEMPTS} attempts at most"
    return f"{retry.count}, {min(1 + retry.count, MAX_ATTEMPTS)} attempts at most"


def _weights(
    nodes: tuple[Node, ...], via: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], int | None]]:
    """The weight of every unit, by the nested keys on the way to it and its own id."""
    for node in nodes:
        yield (*via, *node.id), node.weight
        match node:
            case Leaf():
                pass
            case Group(key, inner):
                yield from _weights(inner, (*via, key.id))
            case _:
                assert_never(node)


@dataclass(frozen=True, slots=True)
class _Teller:
    """Puts a plan into words."""

    config: Config
    state: State
    plan: Plan
    weights: Mapping[tuple[str, ...], int | None]
    now: float

    def slot(self, number: int, slot: Slot) -> Iterator[str]:
        """One channel of the plan."""
        channel = slot.channel
        unit = (*slot.via, channel.provider.name, channel.upstream)
        yield f"{number}. {channel.label}{self._weight(unit)}"
        for depth, digest in enumerate(slot.via):
            inner = self.config.keys_by_id[digest]
            order = inner.preferences.algorithm
            weight = self._weight(slot.via[: depth + 1])
            yield f"   through the key {digest}, {order}{weight}"
            yield from self.credits(inner, "     ")
            yield from self.limits(limits.of_nested(inner, self.plan.model), "     ")
        if slot.cooldown_left > 0:
            yield f"   should rest another {slot.cooldown_left:.1f} s, and so should all others"
        yield f"   {_timeouts(slot.timeouts)}"
        every = keepalive(self.config, channel, self.plan.model)
        if every is not None and number == 1:
            yield f"   keepalive: a waiting stream gets a comment every {every:g} s"
        if slot.keys != (None,):
            several = len(pool(channel)) > 1
            schedule = channel.provider.preferences.api_key_schedule_algorithm
            yield f"   keys: {schedule}" if several else "   key:"
        rest = (key for key in pool(channel) if key not in slot.keys)
        for key in (*slot.keys, *rest):
            yield from self._key(slot, key)

    def credits(self, key: ClientKey, indent: str) -> Iterator[str]:
        """What is left of a key's budget."""
        balance = credit.balance(self.state, key)
        if balance is not None:
            yield f"{indent}credits: {balance.told}"

    def limits(self, claims: tuple[Claim, ...], indent: str) -> Iterator[str]:
        """What is left in each window of these limits."""
        for claim in claims:
            yield from (f"{indent}limit: {said} {claim.whose}" for said in self._left(claim))

    def _left(self, claim: Claim) -> Iterator[str]:
        for window, left in limits.left(self.state, claim, self.now):
            yield f"{left} left of {limits.written(window)}"
        most = claim.limit.tokens_per_request
        if most is not None:
            yield f"{most}/tpr"

    def _weight(self, unit: tuple[str, ...]) -> str:
        weight = self.weights.get(unit)
        return "" if weight is None else f", weight {weight}"

    def _key(self, slot: Slot, key: Secret | None) -> Iterator[str]:
        channel = slot.channel
        said = [one for claim in limits.of_channel(channel, key) for one in self._left(claim)]
        if key is None:
            yield from (f"   limit: {one}" for one in said)
            return
        rest = self.state.key_cooldown(channel.provider.name, key.digest, self.now)
        said += [f"rests for another {rest:.1f} s"] if rest > 0 else []
        yield f"     {key.digest}" + (f": {', '.join(said)}" if said else "")


def _timeouts(timeouts: Timeouts) -> str:
    total = "no limit" if timeouts.total is None else f"{timeouts.total:g} s"
    return (
        f"timeouts: connect {timeouts.connect:g} s, first token {timeouts.first:g} s, "
        f"between tokens {timeouts.idle:g} s, in all {total}"
    )
