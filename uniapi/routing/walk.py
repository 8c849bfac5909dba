"""Going through a plan: after each failure, who is asked next, when, and who rests.

Four things are asked in turn: the same channel again, when the failure is one that may pass; the
next channel of the plan; channels that still have keys but had to wait their turn; and, for a
numbered AUTO_RETRY, the list from its front once more.

No channel is asked more than twice in `WINDOW` seconds, its keys taken together: a provider sees
one caller, whatever key it shows. A key that would have to wait for that lets the channels not
yet asked go first. Nor is the same channel asked again while that would keep a channel not yet
asked from its only attempt, so a request meets as many channels as it may make attempts.

`next` may be called while an attempt is still in flight: it then gives the next channel, which is
what a hedge needs. It is also where limits are counted (`admission`), and where a channel that has
rested is tried by one request, which the others let go first.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from random import Random
from typing import assert_never

from uniapi.config.types import Algorithm, Channel, Config, Secret
from uniapi.errors import ApiError, Failure, Kind
from uniapi.routing.admission import Admission
from uniapi.routing.failures import MEANING, Cools, SameChannel, for_client, most_telling
from uniapi.routing.place import Place
from uniapi.routing.plan import Plan
from uniapi.routing.rests import channel_rest, key_rest
from uniapi.routing.timeouts import Timeouts
from uniapi.state import State

MAX_ATTEMPTS = 10
JITTER = (0.05, 0.25)  # seconds before the same channel is asked again
PATIENCE = 3.0  # seconds; a longer Retry-After is not waited for


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


@dataclass(frozen=True, slots=True)
class _Begun:
    """An attempt that was handed out."""

    attempt: Attempt
    place: Place
    start: float


class Walk:
    """One request's way through its plan. Not shared between requests."""

    def __init__(
        self,
        plan: Plan,
        config: Config,
        state: State,
        rng: Random,
        *,
        deadline: float = inf,
    ) -> None:
        """`deadline` is the request's own, on the clock of `now`: no wait outlasts it."""
        self._deadline = deadline
        self._plan = plan
        self._config = config
        self._state = state
        self._rng = rng
        retry = plan.auto_retry
        allowed = MAX_ATTEMPTS if retry.count is None else 1 + retry.count
        self._left = min(allowed, MAX_ATTEMPTS) if retry.enabled else 1
        self._places = [Place(slot) for slot in plan.slots]
        # Lists, and read from the front: an empty deque takes 0.6 KB of every open stream.
        self._fresh = list(self._places)
        self._again: list[tuple[Place, float]] = []
        self._later: list[Place] = []
        self._front = 0
        self._admission = Admission(config, state, plan.model)
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

        When nobody was asked, because limits had no room, the one that has room first.

        Raises:
            ValueError: when nothing has failed and no limit was met.
        """
        if not self._trail and (denial := self._admission.soonest) is not None:
            return denial.error()
        failure = most_telling(self.failures)
        attempt = next(tried for tried, how in reversed(self._trail) if how is failure)
        return for_client(failure, attempt.channel.upstream, attempt.channel.provider.name)

    def next(self, now: float) -> Step | None:
        """The next attempt; None when the request has to end with what it has."""
        while not self._stopped and self._left > 0:
            picked = self._pick(now)
            if picked is None:
                break
            step = self._offered(*picked, now)
            if step is not None:
                return step
        return None

    def beside(self, now: float) -> Step | None:
        """An attempt on a channel not yet asked, while another is slow; None: none is left."""
        while self._fresh and not (self._again or self._stopped) and self._left > 0:
            picked = self._pick(now)
            if picked is not None and (step := self._offered(*picked, now)) is not None:
                return step
        return None

    def broke_off(self, attempt: Attempt, failure: Failure, now: float) -> None:
        """Take in that an attempt failed after it had committed: its channel is not asked again."""
        self._trail.append((attempt, failure))
        place = self._begun[attempt.number - 1].place
        meaning = MEANING[failure.kind]
        self._stopped |= not meaning.next_channel
        if meaning.cools_channel is not Cools.NEVER:
            rest = channel_rest(self._config, attempt.channel, failure, keyless=False)
            self._state.cool_channel(*place.at, now, rest)

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
            keyless = attempt.key is None
            rest = channel_rest(self._config, attempt.channel, failure, keyless=keyless)
            self._state.cool_channel(*place.at, now, rest)
        if not again:
            self._end_trial(place)

    def succeeded(self, attempt: Attempt, now: float) -> None:  # noqa: ARG002 - as `failed` has it
        """An attempt answered: its channel and its key are well again."""
        begun = self._begun[attempt.number - 1]
        begun.place.trying = False
        provider = attempt.channel.provider.name
        self._state.wake_channel(provider, attempt.channel.upstream, begun.start)
        if attempt.key is not None:
            self._state.wake_key(provider, attempt.key.digest, begun.start)

    def close(self) -> None:
        """The request is over: a trial that was not finished is left to another."""
        for place in self._places:
            self._end_trial(place)

    def _offered(self, place: Place, not_before: float, now: float) -> Step | None:
        """The attempt on this channel; None when it has to wait its turn or has no room."""
        start = max(now, not_before, place.free_at())
        if self._lets_others_first(place, now):
            self._later.append(place)
        elif self._admission.admits(place, now, start):
            return self._begin(place, now, start)
        else:
            place.last = None  # no later round of this request asks it either
            self._end_trial(place)
        return None

    def _pick(self, now: float) -> tuple[Place, float] | None:
        """Whose turn it is, and not before when."""
        if self._again:
            return self._again.pop(0)
        if self._fresh:
            place = self._fresh.pop(0)
            if place is not self._places[0]:  # for the first, the plan moved the cursor
                self._state.advance_pool(place.slot.channel.provider.name)
            return place, now
        if self._later:
            return self._later.pop(0), now
        return self._next_round(now)

    def _lets_others_first(self, place: Place, now: float) -> bool:
        """Another request is trying this channel after its rest, and there are others to ask."""
        others = bool(self._fresh or self._later)
        if place.trying or place.yielded or not others or not self._state.on_trial(*place.at, now):
            return False
        place.yielded = True
        return True

    def _begin(self, place: Place, now: float, start: float) -> Step:
        place.starts.append(start)
        place.last = None
        slot = place.slot
        if place.trying or not self._state.on_trial(*place.at, now):
            until = start + slot.timeouts.first  # by then an attempt has been answered or given up
            place.trying = self._state.begin_trial(*place.at, now, until)
        number = len(self._begun) + 1
        attempt = Attempt(slot.channel, place.key, slot.timeouts, number, slot.via)
        self._begun.append(_Begun(attempt, place, start))
        self._left -= 1
        return Step(attempt, start - now)

    def _end_trial(self, place: Place) -> None:
        if place.trying:
            place.trying = False
            self._state.end_trial(*place.at)

    def _next_round(self, now: float) -> tuple[Place, float] | None:
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
            return place, max(self._moment(now), place.ready)
        return None

    def _same_channel(self, place: Place, failure: Failure, now: float) -> bool:
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

    def _line_up(self, place: Place, now: float, not_before: float) -> None:
        held_up = place.free_at() > max(now, not_before)
        if self._fresh and (held_up or self._left <= len(self._fresh)):
            self._later.append(place)
        else:
            self._again.append((place, not_before))

    def _wait_for(self, place: Place, failure: Failure, now: float) -> bool:
        """Wait out a short Retry-After on the last key, when the order of channels is fixed.

        Whoever fixes the order wants the first, and a few seconds are cheap for it; in any other
        order the next is as good. Once a channel: a provider that says "in two seconds" twice is
        not at its word.
        """
        until = max(place.ready, self._moment(now))
        if (
            failure.kind is not Kind.RATE_LIMIT
            or failure.retry_after is None
            or failure.retry_after > PATIENCE
            or self._plan.algorithm is not Algorithm.FIXED_PRIORITY
            or place.waited
            or self._left <= len(self._fresh)
            or until >= self._deadline
        ):
            return False
        place.waited = True
        self._again.append((place, until))
        return True

    def _refuse_key(self, place: Place, attempt: Attempt, failure: Failure, now: float) -> None:
        index = place.slot.keys.index(attempt.key)
        place.refused.add(index)
        if not MEANING[failure.kind].passing:
            place.dead.add(index)
        if attempt.key is not None:
            provider = attempt.channel.provider
            rest = key_rest(provider.preferences, failure)
            self._state.cool_key(provider.name, attempt.key.digest, now, rest)

    def _out_of_keys(self, place: Place, now: float) -> bool:
        """Every key was refused, and they do not all rest by themselves: the channel has to."""
        keys, name = place.slot.keys, place.slot.channel.provider.name
        return len(place.refused) == len(keys) and any(
            key is None or self._state.key_cooldown(name, key.digest, now) == 0 for key in keys
        )


def _may_pass(failure: Failure) -> bool:
    return MEANING[failure.kind].passing and (failure.retry_after or 0.0) <= PATIENCE
