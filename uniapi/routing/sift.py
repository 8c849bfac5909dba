"""Who of the channels that serve a model may be asked now, and why the others may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from uniapi.config.types import Channel, Secret
from uniapi.routing import limits
from uniapi.routing.ask import Ask, facts, fits
from uniapi.routing.limits import Denial
from uniapi.state import State

ChannelId: TypeAlias = tuple[str, str]
"""Provider and upstream model."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A channel that serves the model and was left out.

    Attributes:
        channel_label: `provider/model`.
        why: for a person.
        status: what the client gets when every channel is left out; the reason of the first.
        denial: the rate limit that left it out, when one did.
        code: as `status`, the error's code.
    """

    channel_label: str
    why: str
    status: int = 503
    denial: Denial | None = None
    code: str = "no_channel"

    @classmethod
    def by(cls, channel: Channel, denial: Denial) -> Skipped:
        """Left out by a rate limit."""
        return cls(channel.label, denial.why, denial.status, denial)


@dataclass(frozen=True, slots=True)
class Rest:
    """A channel that takes the request, and how long it should rest first.

    Attributes:
        seconds: until it may be tried; 0 when it is awake or just being tried.
        tried: another request is trying it after its rest.
    """

    seconds: float = 0.0
    tried: bool = False

    @property
    def awake(self) -> bool:
        """Whether nothing speaks against asking it."""
        return self.seconds == 0 and not self.tried

    @property
    def why(self) -> str:
        """Why it was left out."""
        if self.seconds == 0:
            return "rested; another request is trying it first"
        return f"cools for another {self.seconds:.1f} s"


_AWAKE = Rest()


def sift(
    state: State, channels: Mapping[ChannelId, Channel], ask: Ask, now: float
) -> tuple[Mapping[ChannelId, float], tuple[Skipped, ...]]:
    """Who may be asked (with the seconds it should still rest), and who not.

    When everybody rests, the one that wakes first may be asked all the same. A rate limit has no
    such exception.
    """
    skipped: list[Skipped] = []
    resting: dict[ChannelId, Rest] = {}
    for at, channel in channels.items():
        standing = _standing(state, channel, ask, now)
        match standing:
            case Rest():
                resting[at] = standing
            case Skipped():
                skipped.append(standing)
    awake = {at: 0.0 for at, rest in resting.items() if rest.awake}
    if not awake and resting:
        first = min(resting, key=lambda at: resting[at].seconds)
        awake = {first: resting[first].seconds}
    skipped.extend(
        Skipped(channels[at].label, rest.why) for at, rest in resting.items() if at not in awake
    )
    return awake, tuple(skipped)


def _standing(state: State, channel: Channel, ask: Ask, now: float) -> Rest | Skipped:
    refused = _refused(channel, ask)
    if refused is not None:
        return refused
    provider, upstream = channel.provider.name, channel.upstream
    keys: Sequence[Secret | None] = pool(channel)
    if channel.provider.preferences.api_key_rate_limit is not None:
        denials = {key: _denial(state, channel, key, ask, now) for key in keys}
        keys = [key for key, denial in denials.items() if denial is None]
        if not keys:
            soonest = min(
                (denial for denial in denials.values() if denial is not None),
                key=lambda denial: denial.wait or 0.0,
            )
            return Skipped.by(channel, soonest)
    seconds = state.channel_cooldown(provider, upstream, now)
    if state.keys_rested(provider):  # seldom; a provider may have hundreds of keys
        rests = (0.0 if k is None else state.key_cooldown(provider, k.digest, now) for k in keys)
        seconds = max(seconds, min(rests))
    tried = state.on_trial(provider, upstream, now)
    return Rest(seconds, tried=tried) if seconds or tried else _AWAKE


def pool(channel: Channel) -> tuple[Secret | None, ...]:
    """A provider's keys; (None,) sends no key."""
    return channel.provider.keys or (None,)


def with_room(state: State, channel: Channel, now: float) -> tuple[Secret | None, ...]:
    """Those of a channel's keys that are not at their rate limit."""
    keys = pool(channel)
    if channel.provider.preferences.api_key_rate_limit is None:
        return keys
    ask = Ask(channel.name)
    return tuple(key for key in keys if _denial(state, channel, key, ask, now) is None)


def _denial(
    state: State, channel: Channel, key: Secret | None, ask: Ask, now: float
) -> Denial | None:
    claims = limits.of_channel(channel, key)
    return limits.check(state, claims, ask.tokens, now) if claims else None


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
