"""Going through a plan: after each failure, who is asked next, when, and who rests.

Four things are asked in turn: the same channel again, when the failure is one that may pass; the
next channel of the plan; channels that still have keys but had to wait their turn; and, for a
numbered AUTO_RETRY, the list from its front once more.

No channel is asked more than twice in `WINDOW` seconds, its keys taken together: a provider sees
one caller, whatever key it shows. A key that would have to wait for that lets the channels not
yet asked go first. Nor is the same channel asked again while that would keep a channel not yet
asked from its only attempt, so a request meets as many channels as it may make attempts.

`next` may be called while an attempt is still in flight: it then gives the next channel, which is
what a hedge needs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import assert_never

from uniapi.config.types import Algorithm, Channel, Config, ProviderPreferences, Secret
from uniapi.errors import ApiError, Failure, Kind
from uniapi.routing.failures import MEANING, Cools, SameChannel, for_client, most_telling
from uniapi.routing.plan import Plan, Slot
from uniapi.routing.timeouts import Timeouts
from uniapi.state import State

MAX_ATTEMPTS = 10
WINDOW = 1.5  # seconds in which a channel gets at most two attempts
JITTER = (0.05, 0.25)  # seconds before the same channel is asked again
PATIENCE = 3.0  # seconds; a longer Retry-After is not waited for
LONGEST_REST = 86_400.0  # seconds; a Retry-After beyond a day is not believed


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call to one channel with one key.

    Attributes:
        channel: who is asked.
        key: with which key; None sends none.
        timeouts: what limits it.
        number: counts the attempts of the request from 1.
        via: digests of the nested client keys on the way to the channel.
    """

    channel: Channel
    key: Secret | None
    timeouts: Timeouts
    number: int
    via: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """An attempt, to begin `delay` seconds from now."""

    attempt: Attempt
    delay: float = 0.0


@dataclass(slots=True)
class _Place:
    """What this request has been through with one channel.

    Attributes:
        slot: the channel and its keys.
        starts: when its attempts began.
        turn: the index of the key whose turn it is.
        refused: the keys that were refused, by index.
        dead: those of them that will not do a moment later either.
        retried: it had its second chance after a failure that may pass.
        waited: it had its wait for a Retry-After.
        ready: when a Retry-After lets it be asked again.
        last: how its latest attempt failed; None while one is under way.
    """

    slot: Slot
    starts: list[float] = field(default_factory=list)
    turn: int = 0
    refused: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    retried: bool = False
    waited: bool = False
    ready: float = 0.0
    last: Failure | None = None

    @property
    def key(self) -> Secret | None:
        """The key whose turn it is."""
        return self.slot.keys[self.turn]

    def pass_key(self) -> bool:
        """Give the turn to the next key not refused; False when there is none."""
        count = len(self.slot.keys)
        for step in range(1, count + 1):
            turn = (self.turn + step) % count
            if turn not in self.refused:
                self.turn = turn
                return True
        return False

    def free_at(self) -> float:
        """When another attempt would not be a third within the window."""
        return self.starts[-2] + WINDOW if len(self.starts) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class _Begun:
    """An attempt that was handed out."""

    attempt: Attempt
    place: _Place
    start: float


class Walk:
    """One request's way through its plan. Not shared between requests."""

    def __init__(self, plan: Plan, config: Config, state: State, rng: Random) -> None:
        self._plan = plan
        self._config = config
        self._state = state
        self._rng = rng
        retry = plan.auto_retry
        allowed = MAX_ATTEMPTS if retry.count is None else 1 + retry.count
        self._left = min(allowed, MAX_ATTEMPTS) if retry.enabled else 1
        self._places = [_Place(slot) for slot in plan.slots]
        self._fresh = deque(self._places)
        self._again: deque[tuple[_Place, float]] = deque()
        self._later: deque[_Place] = deque()
        self._front = 0
        self._begun: list[_Begun] = []
        self._trail: list[tuple[Attempt, Failure]] = []
        self._stopped = False

    @property
    def failures(self) -> tuple[Failure, ...]:
        """How the attempts failed, in the order they did."""
        return tuple(failure for _, failure in self._trail)

    @property
    def trail(self) -> tuple[tuple[Attempt, Failure], ...]:
        """The failed attempts, each with its failure, in the order they failed."""
        return tuple(self._trail)

    def verdict(self) -> ApiError:
        """The answer to the client when nobody answered: the most telling failure.

        Raises:
            ValueError: when nothing has failed.
        """
        failure = most_telling(self.failures)
        attempt = next(tried for tried, how in reversed(self._trail) if how is failure)
        return for_client(failure, attempt.channel.upstream, attempt.channel.provider.name)

    def next(self, now: float) -> Step | None:
        """The next attempt; None when the request has to end with what it has."""
        if self._stopped or self._left == 0:
            return None
        if self._again:
            place, not_before = self._again.popleft()
            return self._begin(place, now, not_before)
        if self._fresh:
            place = self._fresh.popleft()
            if place is not self._places[0]:  # for the first, the plan moved the cursor
                self._state.advance_pool(place.slot.channel.provider.name)
            return self._begin(place, now, now)
        if self._later:
            return self._begin(self._later.popleft(), now, now)
        return self._next_round(now)

    def failed(self, attempt: Attempt, failure: Failure, now: float) -> None:
        """Take in how an attempt ended: who rests, and what it means for those to come."""
        self._trail.append((attempt, failure))
        place = self._begun[attempt.number - 1].place
        place.last = failure
        place.ready = now + (failure.retry_after or 0.0)
        meaning = MEANING[failure.kind]
        if meaning.cools_key:
            self._refuse_key(place, attempt, failure, now)
        self._stopped |= not meaning.next_channel
        again = self._same_channel(place, failure, now)
        match meaning.cools_channel:
            case Cools.NEVER:
                rests = False
            case Cools.AT_ONCE:
                rests = True
            case Cools.WHEN_RETRY_FAILS:
                rests = not again
            case Cools.WHEN_KEYS_COOL:
                rests = not again and self._out_of_keys(place, now)
            case never:
                assert_never(never)
        if rests:
            self._cool_channel(attempt, failure, now)

    def succeeded(self, attempt: Attempt, now: float) -> None:  # noqa: ARG002 - half-open needs it
        """An attempt answered: its channel and its key are well again."""
        begun = self._begun[attempt.number - 1]
        provider = attempt.channel.provider.name
        self._state.wake_channel(provider, attempt.channel.upstream, begun.start)
        if attempt.key is not None:
            self._state.wake_key(provider, attempt.key.digest, begun.start)

    def _begin(self, place: _Place, now: float, not_before: float) -> Step:
        start = max(now, not_before, place.free_at())
        place.starts.append(start)
        place.last = None
        slot = place.slot
        number = len(self._begun) + 1
        attempt = Attempt(slot.channel, place.key, slot.timeouts, number, slot.via)
        self._begun.append(_Begun(attempt, place, start))
        self._left -= 1
        return Step(attempt, start - now)

    def _next_round(self, now: float) -> Step | None:
        """The list from its front again, with those whose failure may have passed."""
        if self._plan.auto_retry.count is None:
            return None
        count = len(self._places)
        for index in (*range(self._front, count), *range(self._front)):
            place = self._places[index]
            if place.last is None or not _may_pass(place.last):
                continue
            place.refused = set(place.dead)
            place.pass_key()
            self._front = index + 1
            return self._begin(place, now, max(self._moment(now), place.ready))
        return None

    def _same_channel(self, place: _Place, failure: Failure, now: float) -> bool:
        """Line up another attempt on the channel that failed, when the table has one for it."""
        if self._left == 0:
            return False
        match MEANING[failure.kind].same_channel:
            case SameChannel.NEVER:
                return False
            case SameChannel.ONCE_AFTER_JITTER:
                asked_for_more = (failure.retry_after or 0.0) > JITTER[1]
                if place.retried or asked_for_more or self._left <= len(self._fresh):
                    return False
                place.retried = True
                place.pass_key()
                self._line_up(place, now, self._moment(now))
                return True
            case SameChannel.NEXT_KEY:
                if place.pass_key():
                    self._line_up(place, now, now)
                    return True
                return self._wait_for(place, failure, now)
            case never:
                assert_never(never)

    def _moment(self, now: float) -> float:
        return now + self._rng.uniform(*JITTER)

    def _line_up(self, place: _Place, now: float, not_before: float) -> None:
        held_up = place.free_at() > max(now, not_before)
        if self._fresh and (held_up or self._left <= len(self._fresh)):
            self._later.append(place)
        else:
            self._again.append((place, not_before))

    def _wait_for(self, place: _Place, failure: Failure, now: float) -> bool:
        """Wait out a short Retry-After on the same key, when the order is fixed and it is the last.

        Once a channel: a provider that says "in two seconds" twice is not at its word.
        """
        if (
            failure.kind is not Kind.RATE_LIMIT
            or failure.retry_after is None
            or failure.retry_after > PATIENCE
            or self._plan.algorithm is not Algorithm.FIXED_PRIORITY
            or place.waited
            or self._fresh
            or self._later
        ):
            return False
        place.waited = True
        self._again.append((place, max(place.ready, self._moment(now))))
        return True

    def _refuse_key(self, place: _Place, attempt: Attempt, failure: Failure, now: float) -> None:
        index = place.slot.keys.index(attempt.key)
        place.refused.add(index)
        if not MEANING[failure.kind].passing:
            place.dead.add(index)
        if attempt.key is not None:
            provider = attempt.channel.provider
            rest = _rest(failure, _key_period(provider.preferences, failure.kind))
            self._state.cool_key(provider.name, attempt.key.digest, now, rest)

    def _out_of_keys(self, place: _Place, now: float) -> bool:
        """Every key was refused, and they do not all rest by themselves: the channel has to."""
        keys, name = place.slot.keys, place.slot.channel.provider.name
        return len(place.refused) == len(keys) and any(
            key is None or self._state.key_cooldown(name, key.digest, now) == 0 for key in keys
        )

    def _cool_channel(self, attempt: Attempt, failure: Failure, now: float) -> None:
        channel = attempt.channel
        own = channel.provider.preferences.cooldown_period
        period = self._config.preferences.cooldown_period if own is None else own
        if attempt.key is None and MEANING[failure.kind].cools_key and period > 0:
            period = _rest(failure, period)  # no key to rest in its place
        self._state.cool_channel(channel.provider.name, channel.upstream, now, period)


def _may_pass(failure: Failure) -> bool:
    return MEANING[failure.kind].passing and (failure.retry_after or 0.0) <= PATIENCE


def _rest(failure: Failure, period: float) -> float:
    return min(failure.retry_after or period, LONGEST_REST)


def _key_period(preferences: ProviderPreferences, kind: Kind) -> float:
    """How long a key rests that was told no time: seconds, 0 for not at all."""
    special = (
        preferences.api_key_rate_limit_cooldown_period
        if kind is Kind.RATE_LIMIT
        else preferences.api_key_quota_cooldown_period
    )
    return preferences.api_key_cooldown_period if special is None else special
