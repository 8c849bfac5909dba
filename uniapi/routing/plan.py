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
    Provider,
    Secret,
)
from uniapi.errors import ApiError
from uniapi.routing import schedule, timeouts
from uniapi.routing.ask import Ask, facts, fits
from uniapi.routing.match import Group, Leaf, Node, expand, leaves
from uniapi.routing.timeouts import Timeouts
from uniapi.state import State

__all__ = ["Ask", "Plan", "Skipped", "Slot", "make_plan"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One channel of a plan.

    Attributes:
        channel: who may be asked.
        keys: its keys in the order to use them, those that rest left out; (None,) sends no key.
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
class Skipped:
    """A channel that serves the model and was left out.

    Attributes:
        channel_label: `provider/model`.
        why: for a person.
        status: what the client gets when every channel is left out; the reason of the first.
    """

    channel_label: str
    why: str
    status: int = 503


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
        return ApiError(
            status=self.skipped[0].status,
            message=f"No provider of '{self.model}' takes this request: {reasons}",
            code="no_channel",
        )


def make_plan(
    config: Config, state: State, key: ClientKey, ask: Ask, now: float, rng: Random
) -> Plan:
    """Plan one request, and move the cursors it is led by one step."""
    nodes = expand(config, state, key, ask.model)
    channels = {_id(channel): channel for channel in leaves(nodes)}
    fit, skipped = _sift(state, tuple(channels.values()), ask, now)
    chosen = _only(nodes, lambda channel: _id(channel) in fit)
    shop = _Arranger(state, ask.model, rng)
    ordered: dict[tuple[str, str], tuple[Channel, tuple[str, ...]]] = {}
    for channel, via in shop.arrange(chosen, key, (), leads=True):
        ordered.setdefault(_id(channel), (channel, via))
    return Plan(
        slots=tuple(
            Slot(
                channel=channel,
                keys=_keys(state, channel.provider, now, rng, leads=place == 0),
                timeouts=timeouts.resolve(config, channel, ask.model, ask, key.role),
                cooldown_left=fit[_id(channel)],
                via=via,
            )
            for place, (channel, via) in enumerate(ordered.values())
        ),
        auto_retry=key.preferences.auto_retry,
        skipped=skipped,
        known=bool(nodes),
        model=ask.model,
        algorithm=key.preferences.algorithm,
    )


def _id(channel: Channel) -> tuple[str, str]:
    return (channel.provider.name, channel.upstream)


def _sift(
    state: State, channels: tuple[Channel, ...], ask: Ask, now: float
) -> tuple[Mapping[tuple[str, str], float], tuple[Skipped, ...]]:
    """Who may be asked (with the seconds it should still rest), and who not."""
    skipped: list[Skipped] = []
    resting: dict[tuple[str, str], float] = {}
    for channel in channels:
        refused = _refused(channel, ask)
        if refused is None:
            resting[_id(channel)] = _cooldown(state, channel, now)
        else:
            skipped.append(refused)
    awake = {at: left for at, left in resting.items() if left == 0}
    if not awake and resting:
        first = min(resting, key=lambda at: resting[at])
        awake = {first: resting[first]}
    skipped.extend(
        Skipped(channel.label, f"cools for another {resting[_id(channel)]:.1f} s")
        for channel in channels
        if _id(channel) in resting and _id(channel) not in awake
    )
    return awake, tuple(skipped)


def _refused(channel: Channel, ask: Ask) -> Skipped | None:
    """Why the provider does not take this request, when it does not."""
    refusals = channel.provider.refusals
    most = refusals.max_request_body_bytes
    if most is not None and ask.size > most:
        why = f"the body has {ask.size} bytes, max_request_body_bytes is {most}"
        return Skipped(channel.label, why, status=413)
    if ask.endpoint in refusals.exclude_endpoints:
        return Skipped(channel.label, f"exclude_endpoints has {ask.endpoint}", status=400)
    kind = ask.request_type
    if kind is not None and kind in refusals.exclude_request_types:
        return Skipped(channel.label, f"exclude_request_types has {kind}", status=400)
    if refusals.only_request_types and kind not in refusals.only_request_types:
        only = ", ".join(sorted(refusals.only_request_types))
        return Skipped(channel.label, f"only_request_types is {only}", status=400)
    if refusals.rules:
        known = facts(ask, channel)
        for rule in refusals.rules:
            if rule.match and fits(rule.match, known):
                why = rule.reason or "one of exclude_request_rules fits"
                return Skipped(channel.label, why, status=400)
    return None


def _cooldown(state: State, channel: Channel, now: float) -> float:
    """Seconds until the channel is awake and one of its keys too."""
    provider = channel.provider
    own = state.channel_cooldown(provider.name, channel.upstream, now)
    keys = [state.key_cooldown(provider.name, key.digest, now) for key in provider.keys]
    return max(own, min(keys, default=0.0))


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
    state: State, provider: Provider, now: float, rng: Random, *, leads: bool
) -> tuple[Secret | None, ...]:
    """The keys of a provider's pool for one request; when all rest, the one that wakes first."""
    if not provider.keys:
        return (None,)
    if len(provider.keys) == 1:
        return provider.keys
    pool = tuple(dict.fromkeys(provider.keys))
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
