"""What outlives a reload: whose turn it is, who rests until when, how much was used, what exists.

Everything is keyed by names and digests from the configuration or by names a provider listed,
never by what a client sends, so it cannot grow with traffic. Nothing here reads a clock: the
caller passes `now`, seconds on any clock that only goes forward.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from uniapi.buckets import Buckets, Scope
from uniapi.config.types import Config, ModelName, Provider
from uniapi.waits import Budget, Waits

MAX_TURNS = 10_000  # (client key, model) pairs; a hostile listing may rename its models for ever


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a client key's scheduling of one model stands.

    Attributes:
        cursor: requests led so far: what round robin rotates by.
        standing: unit to its credit in the smooth weighted cycle.
    """

    cursor: int = 0
    standing: Mapping[tuple[str, ...], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cooldown:
    """A rest from `since` to `until`, and what comes after it.

    When a channel has rested, one request tries it while the others still go elsewhere: the rest
    is only over once that one was answered.

    Attributes:
        since: when it began.
        until: when the channel may be tried.
        trial: until when a request is trying it, at the latest; 0 when none is.
    """

    since: float
    until: float
    trial: float = 0.0


class DiscoveryStatus(StrEnum):
    """How far asking a provider for its models has come."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a provider said its models are.

    Attributes:
        status: how far it has come.
        models: the latest listing; a failed refresh keeps the one before.
        reason: why it failed, for a person; holds no secret.
    """

    status: DiscoveryStatus = DiscoveryStatus.PENDING
    models: tuple[ModelName, ...] = ()
    reason: str = ""


_UNHEARD = Discovery()


class State:
    """The memory of the gateway: one object per process, for the event loop's thread only."""

    def __init__(self) -> None:
        self._turns: dict[tuple[str, str], Turn] = {}
        self._pools: dict[str, int] = {}
        self._channels: dict[tuple[str, str], Cooldown] = {}
        self._keys: dict[tuple[str, str], Cooldown] = {}
        self._tired: Counter[str] = Counter()  # providers by how many of their keys are in _keys
        self._worked_out: tuple[Config | None, dict[tuple[str, ...], object]] = (None, {})
        self._discoveries: dict[str, Discovery] = {}
        self.counters: Counter[str] = Counter()
        """Event name to how often it happened; names are constants of the code."""
        self.spent: dict[str, float] = {}
        """Digest of a client key to the US dollars it has cost; kept up by who counts them."""
        self.buckets = Buckets()
        self.waits = Waits()
        self.budget = Budget()

    # Scheduling

    def turn(self, key: str, model: str) -> Turn:
        """Where the client key with this digest stands for this model."""
        return self._turns.get((key, model), Turn())

    def take_turn(self, key: str, model: str, turn: Turn) -> None:
        """Remember where it stands now; the longest unused is forgotten beyond `MAX_TURNS`."""
        self._turns.pop((key, model), None)
        self._turns[key, model] = turn
        if len(self._turns) > MAX_TURNS:
            del self._turns[next(iter(self._turns))]

    def pool_cursor(self, provider: str) -> int:
        """How many requests this provider's pool of keys has served."""
        return self._pools.get(provider, 0)

    def advance_pool(self, provider: str) -> None:
        """One more request for this provider's pool of keys."""
        self._pools[provider] = self.pool_cursor(provider) + 1

    # Cooldowns

    def cool_channel(self, provider: str, upstream: str, now: float, seconds: float) -> None:
        """Let a channel rest; a longer rest under way stands, and 0 seconds is no rest."""
        _cool(self._channels, (provider, upstream), now, seconds)

    def channel_cooldown(self, provider: str, upstream: str, now: float) -> float:
        """Seconds a channel has still to rest; 0 when it is awake."""
        return _left(self._channels, (provider, upstream), now)

    def wake_channel(self, provider: str, upstream: str, started: float) -> None:
        """An attempt begun at `started` went well: end the rest, unless it began after that."""
        _wake(self._channels, (provider, upstream), started)

    def on_trial(self, provider: str, upstream: str, now: float) -> bool:
        """Whether a request is trying this channel after its rest."""
        cooldown = self._channels.get((provider, upstream))
        return cooldown is not None and now < cooldown.trial

    def begin_trial(self, provider: str, upstream: str, now: float, until: float) -> bool:
        """Be the one that tries a channel after its rest; or go on being it.

        Args:
            provider: the channel's.
            upstream: the channel's.
            now: the time.
            until: when another may try, should nothing be heard of this trial.

        Returns:
            False when there is nothing to try: the channel is well, or has not rested enough.
        """
        cooldown = self._channels.get((provider, upstream))
        if cooldown is None or cooldown.until > now:
            return False
        self._channels[provider, upstream] = replace(cooldown, trial=until)
        return True

    def end_trial(self, provider: str, upstream: str) -> None:
        """The trial told nothing: the next request may try."""
        cooldown = self._channels.get((provider, upstream))
        if cooldown is not None:
            self._channels[provider, upstream] = replace(cooldown, trial=0.0)

    @property
    def channel_rests(self) -> Mapping[tuple[str, str], Cooldown]:
        """Rests of channels that no good answer has ended yet, by provider and its model."""
        return self._channels

    @property
    def key_rests(self) -> Mapping[tuple[str, str], Cooldown]:
        """As `channel_rests`, by provider and the digest of its key."""
        return self._keys

    def cool_key(self, provider: str, digest: str, now: float, seconds: float) -> None:
        """Let one key of a provider rest, for all its models; as `cool_channel`."""
        before = len(self._keys)
        _cool(self._keys, (provider, digest), now, seconds)
        self._tired[provider] += len(self._keys) - before

    def keys_rested(self, provider: str) -> bool:
        """Whether any key of this provider has rested and was not heard of since."""
        return self._tired[provider] > 0

    def key_cooldown(self, provider: str, digest: str, now: float) -> float:
        """Seconds a provider's key has still to rest; 0 when it is awake."""
        return _left(self._keys, (provider, digest), now)

    def wake_key(self, provider: str, digest: str, started: float) -> None:
        """As `wake_channel`, for a provider's key."""
        before = len(self._keys)
        _wake(self._keys, (provider, digest), started)
        self._tired[provider] += len(self._keys) - before

    # Models

    def worked_out(self, config: Config) -> dict[tuple[str, ...], object]:
        """A place for what follows from this configuration and the listings of the moment.

        It is another, empty one as soon as either changes.
        """
        if self._worked_out[0] is not config:
            self._worked_out = (config, {})
        return self._worked_out[1]

    def discovery(self, provider: str) -> Discovery:
        """What is known of this provider's listing; pending until somebody says otherwise."""
        return self._discoveries.get(provider, _UNHEARD)

    def discovery_pending(self, provider: str) -> None:
        """Forget this provider's listing: it is being asked for the first time, or is another."""
        self._heard(provider, Discovery())

    def discovered(self, provider: str, models: tuple[ModelName, ...]) -> None:
        """The provider answered with its models."""
        self._heard(provider, Discovery(DiscoveryStatus.READY, models))

    def discovery_failed(self, provider: str, reason: str) -> None:
        """The provider could not be asked; what it said before is kept."""
        before = self.discovery(provider)
        self._heard(provider, replace(before, status=DiscoveryStatus.FAILED, reason=reason))

    def _heard(self, provider: str, discovery: Discovery) -> None:
        self._discoveries[provider] = discovery
        self._worked_out = (None, {})

    def models(self, provider: Provider) -> tuple[ModelName, ...]:
        """A provider's models: the configured ones, else the discovered ones, else none."""
        if provider.models is not None:
            return provider.models
        return self.discovery(provider.name).models

    # Reload

    def prune(self, config: Config) -> None:
        """Forget what a new configuration no longer names."""
        providers, keys = config.providers_by_name, config.keys_by_id
        pools = {(p.name, key.digest) for p in config.providers for key in p.keys}
        self._turns = {
            at: replace(
                turn,
                standing={
                    unit: credit
                    for unit, credit in turn.standing.items()
                    if unit[0] in providers or unit[0] in keys
                },
            )
            for at, turn in self._turns.items()
            if at[0] in keys
        }
        self._pools = {name: n for name, n in self._pools.items() if name in providers}
        self._channels = {at: c for at, c in self._channels.items() if at[0] in providers}
        self._keys = {at: c for at, c in self._keys.items() if at in pools}
        self._tired = Counter(provider for provider, _ in self._keys)
        owners = {
            (Scope.SERVER, "", ""),
            *((Scope.CLIENT, digest, "") for digest in keys),
            *((Scope.PROVIDER, name, "") for name in providers),
            *((Scope.PROVIDER, name, digest) for name, digest in pools),
        }
        self.buckets.keep(owners)
        self.waits.keep(providers)
        self.budget.keep(keys)
        self._discoveries = {
            name: found
            for name, found in self._discoveries.items()
            if name in providers and providers[name].models is None
        }


_Cooldowns = dict[tuple[str, str], Cooldown]


def _cool(table: _Cooldowns, at: tuple[str, str], now: float, seconds: float) -> None:
    if seconds > _left(table, at, now):
        table[at] = Cooldown(now, now + seconds)


def _left(table: _Cooldowns, at: tuple[str, str], now: float) -> float:
    cooldown = table.get(at)
    return 0.0 if cooldown is None else max(0.0, cooldown.until - now)


def _wake(table: _Cooldowns, at: tuple[str, str], started: float) -> None:
    cooldown = table.get(at)
    if cooldown is not None and cooldown.since <= started:
        del table[at]
