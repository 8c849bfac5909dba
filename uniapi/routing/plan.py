"""The plan of a request: which channels may serve it, in which order, with which keys.

A plan is made once, when the request arrives, and is a value; `walk` goes through it. A cursor
moves only for what leads the plan. Were it moved for everything in it, two cursors in step would
hide a channel for ever: with round robin over A and a nested key of B and C, A would lead every
even request and C every odd one, and B none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import assert_never

from uniapi.config.types import (
    Algorithm,
    AutoRetry,
    Channel,
    ClientKey,
    Config,
    KeySchedule,
    Secret,
)
from uniapi.errors import ApiError
from uniapi.routing import credit, limits, schedule, timeouts
from uniapi.routing.ask import Ask
from uniapi.routing.credit import Balance
from uniapi.routing.limits import Denial
from uniapi.routing.match import Group, Leaf, Node, expand, leaves
from uniapi.routing.sift import ChannelId, Skipped, sift, with_room
from uniapi.routing.timeouts import Timeouts
from uniapi.state import State

__all__ = ["Ask", "Plan", "Skipped", "Slot", "make_plan"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One channel of a plan.

    Attributes:
        channel: who may be asked.
        keys: its keys in the order to use them, without those that rest or are at their rate
            limit; (None,) sends no key.
        timeouts: what limits an attempt on it.
        cooldown_left: seconds it should still rest; more than 0 only when every channel rests.
        via: digests of the nested client keys on the way to it, outermost first.
    """

    channel: Channel
    keys: tuple[Secret | None, ...]
    timeouts: Timeouts
    cooldown_left: float = 0.0
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Who may be asked for one request, in order, every channel once.

    Attributes:
        slots: the channels to try; empty when `known` is False or all were left out.
        auto_retry: how far to go.
        skipped: who was left out and why.
        known: False when this key has no such model.
        model: the requested name.
        algorithm: the client key's own.
    """

    slots: tuple[Slot, ...]
    auto_retry: AutoRetry
    skipped: tuple[Skipped, ...]
    known: bool
    model: str
    algorithm: Algorithm = Algorithm.FIXED_PRIORITY

    def refusal(self) -> ApiError | None:
        """The answer when there is nobody to ask; None when there is."""
        if self.slots:
            return None
        if not self.known:
            return ApiError(
                status=404,
                message=f"The model '{self.model}' does not exist or this key may not use it.",
                code="model_not_found",
                param="model",
            )
        reasons = "; ".join(f"{left.channel_label}: {left.why}" for left in self.skipped)
        message = f"No provider of '{self.model}' takes this request: {reasons}"
        first, passing = self.skipped[0], self._soonest()
        if passing is not None:
            return passing.error(message)
        return ApiError(first.status, message, first.code)

    def _soonest(self) -> Denial | None:
        """The rate limit that has room first, of those that left a channel out."""
        denials = (left.denial for left in self.skipped if left.denial is not None)
        passing = [(denial.wait, denial) for denial in denials if denial.wait is not None]
        return min(passing, key=lambda one: one[0])[1] if passing else None


def make_plan(
    config: Config, state: State, key: ClientKey, ask: Ask, now: float, rng: Random
) -> Plan:
    """Plan one request, and move the cursors it is led by one step."""
    nodes = expand(config, state, key, ask.model)
    open_, shut = _enter(state, nodes, ask, now)
    channels = {_id(channel): channel for channel in leaves(open_)}
    fit, left_out = sift(state, channels, ask, now)
    chosen = open_
    if len(fit) < len(channels):
        chosen = _only(open_, lambda channel: _id(channel) in fit)
    shop = _Arranger(state, ask.model, rng)
    ordered: dict[ChannelId, tuple[Channel, tuple[str, ...]]] = {}
    for channel, via in shop.arrange(chosen, key, (), leads=True):
        ordered.setdefault(_id(channel), (channel, via))
    return Plan(
        slots=tuple(
            Slot(
                channel=channel,
                keys=_keys(state, channel, now, rng, leads=place == 0),
                timeouts=_timeouts(config, state, channel, ask, key.role),
                cooldown_left=fit[_id(channel)],
                via=via,
            )
            for place, (channel, via) in enumerate(ordered.values())
        ),
        auto_retry=key.preferences.auto_retry,
        skipped=(*left_out, *(left for at, left in shut.items() if at not in channels)),
        known=bool(nodes),
        model=ask.model,
        algorithm=key.preferences.algorithm,
    )


def _timeouts(
    config: Config, state: State, channel: Channel, ask: Ask, role: str | None
) -> Timeouts:
    """What limits an attempt; worked out once, unless a policy looks at the request itself."""
    if timeouts.depends(config, channel):
        return timeouts.resolve(config, channel, ask.model, ask, role)
    kept, at = state.worked_out(config), ("timeouts", *_id(channel), ask.model)
    match kept.get(at):
        case Timeouts() as found:
            return found
        case _:
            made = timeouts.resolve(config, channel, ask.model)
            kept[at] = made
            return made


def _id(channel: Channel) -> ChannelId:
    return (channel.provider.name, channel.upstream)


def _enter(
    state: State, nodes: tuple[Node, ...], ask: Ask, now: float
) -> tuple[tuple[Node, ...], Mapping[ChannelId, Skipped]]:
    """The tree without the nested keys whose own limit has no room, and what went with them.

    A budget that is gone is such a limit.
    """
    kept: list[Node] = []
    shut: dict[ChannelId, Skipped] = {}
    for node in nodes:
        match node:
            case Leaf():
                kept.append(node)
            case Group(key, inner, weight):
                balance = credit.balance(state, key)
                if balance is not None and balance.gone:
                    shut |= {_id(one): _unpaid(one, key, balance) for one in leaves(inner)}
                    continue
                claims = limits.of_nested(key, ask.model)
                denial = limits.check(state, claims, ask.tokens, now)
                if denial is not None:
                    shut |= {_id(one): Skipped.by(one, denial) for one in leaves(inner)}
                    continue
                inner, also = _enter(state, inner, ask, now)
                shut |= also
                kept.append(Group(key, inner, weight))
            case _:
                assert_never(node)
    return tuple(kept), shut


def _unpaid(channel: Channel, key: ClientKey, balance: Balance) -> Skipped:
    why = f"the credits of the nested key {key.id} are used up: {balance.told}"
    return Skipped(channel.label, why, status=429, code=credit.CODE)


def _only(nodes: tuple[Node, ...], keep: Callable[[Channel], bool]) -> tuple[Node, ...]:
    """The tree without the channels that are not kept, and without keys left empty."""
    kept: list[Node] = []
    for node in nodes:
        match node:
            case Leaf(channel):
                if keep(channel):
                    kept.append(node)
            case Group(key, inner, weight):
                inner = _only(inner, keep)
                if inner:
                    kept.append(Group(key, inner, weight))
            case _:
                assert_never(node)
    return tuple(kept)


@dataclass(frozen=True, slots=True)
class _Arranger:
    """Puts a tree of units in the order of one request."""

    state: State
    model: str
    rng: Random

    def arrange(
        self, nodes: tuple[Node, ...], key: ClientKey, via: tuple[str, ...], *, leads: bool
    ) -> Iterator[tuple[Channel, tuple[str, ...]]]:
        """The channels below `key`, each with the nested keys on the way to it.

        A nested key goes as far as its own AUTO_RETRY lets it: one channel, or one and so many.
        """
        turn = self.state.turn(key.id, self.model)
        ordered, then = schedule.order(nodes, key.preferences.algorithm, turn, self.rng)
        if leads and then != turn:
            self.state.take_turn(key.id, self.model, then)
        for place, node in enumerate(ordered):
            match node:
                case Leaf(channel):
                    yield channel, via
                case Group(inner, below):
                    path = (*via, inner.id)
                    found = tuple(self.arrange(below, inner, path, leads=leads and place == 0))
                    yield from found[: _reach(inner.preferences.auto_retry)]
                case _:
                    assert_never(node)


def _reach(auto_retry: AutoRetry) -> int | None:
    """How many attempts AUTO_RETRY allows; None for no number."""
    if not auto_retry.enabled:
        return 1
    return None if auto_retry.count is None else 1 + auto_retry.count


def _keys(
    state: State, channel: Channel, now: float, rng: Random, *, leads: bool
) -> tuple[Secret | None, ...]:
    """The keys of a channel for one request; when all rest, the one that wakes first."""
    provider = channel.provider
    pool = tuple(key for key in with_room(state, channel, now) if key is not None)
    if not pool:
        return (None,)
    if len(pool) == 1:
        return pool
    awake = pool
    if state.keys_rested(provider.name):
        rests = {key: state.key_cooldown(provider.name, key.digest, now) for key in pool}
        awake = tuple(key for key in pool if rests[key] == 0)
        if not awake:
            return (min(pool, key=lambda key: rests[key]),)
    match provider.preferences.api_key_schedule_algorithm:
        case KeySchedule.FIXED_PRIORITY:
            return awake
        case KeySchedule.RANDOM:
            return schedule.shuffled(awake, rng)
        case KeySchedule.ROUND_ROBIN:
            cursor = state.pool_cursor(provider.name)
            if leads:
                state.advance_pool(provider.name)
            return schedule.rotated(awake, cursor)
        case never:
            assert_never(never)
