"""The failure table, carried out: who is asked next, when, and who rests."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from random import Random

import pytest

from uniapi.config.types import (
    Algorithm,
    AutoRetry,
    ClientKey,
    Config,
    KeyPreferences,
    ModelName,
    Preferences,
    Provider,
    ProviderPreferences,
    Secret,
)
from uniapi.errors import Failure, Kind
from uniapi.routing.place import WINDOW
from uniapi.routing.plan import Ask, make_plan
from uniapi.routing.walk import JITTER, Attempt, Step, Walk
from uniapi.state import State

M = (ModelName("m", "m"),)


def provider(name: str, keys: str = "", **preferences: float) -> Provider:
    """A provider with one key per word, and periods in seconds."""
    return Provider(
        name,
        keys=tuple(Secret(key) for key in keys.split()),
        models=M,
        preferences=ProviderPreferences(**preferences),  # type: ignore[arg-type]  # periods only
    )


class Trip:
    """A walk, its clock, and what was asked so far."""

    def __init__(
        self,
        *providers: Provider,
        retry: AutoRetry | None = None,
        algorithm: Algorithm = Algorithm.FIXED_PRIORITY,
        cooldown: float = 300.0,
        state: State | None = None,
        deadline: float = inf,
    ) -> None:
        key = ClientKey(
            Secret("client"), preferences=KeyPreferences(algorithm, retry or AutoRetry())
        )
        config = Config(providers, (key,), Preferences(cooldown_period=cooldown))
        self.state = state or State()
        self.now = 1000.0
        rng = Random(5)  # noqa: S311 - a test's dice
        plan = make_plan(config, self.state, key, Ask("m"), self.now, rng)
        self.walk = Walk(plan, config, self.state, rng, deadline=self.now + deadline)
        self.asked: list[str] = []
        self.delays: list[float] = []

    def step(self) -> Attempt | None:
        """Go to the next attempt, its delay included."""
        step: Step | None = self.walk.next(self.now)
        if step is None:
            return None
        attempt = step.attempt
        self.now += step.delay
        self.delays.append(step.delay)
        name = attempt.channel.provider.name
        self.asked.append(name if attempt.key is None else f"{name}:{attempt.key.reveal()}")
        assert attempt.number == len(self.asked)
        return attempt

    def fail(self, *kinds: Kind | Failure) -> str:
        """Fail the next attempts like this, the last of them for ever; who was asked."""
        script = list(kinds)
        while (attempt := self.step()) is not None:
            kind = script.pop(0) if len(script) > 1 else script[0]
            how = kind if isinstance(kind, Failure) else Failure(kind, "no", 500)
            self.walk.failed(attempt, how, self.now)
        return " ".join(self.asked)

    def rests(self, name: str) -> float:
        return self.state.channel_cooldown(name, "m", self.now)

    def key_rests(self, name: str, key: str) -> float:
        return self.state.key_cooldown(name, Secret(key).digest, self.now)


def limited(retry_after: float | None = None) -> Failure:
    return Failure(Kind.RATE_LIMIT, "slow down", 429, retry_after=retry_after)


SHAKY = [Kind.CONNECT, Kind.RESET, Kind.SERVER]
UNWELL = [Kind.FIRST_TOKEN, Kind.IDLE, Kind.GARBAGE, Kind.EMPTY, Kind.TRIGGER, Kind.CUT]
KEYED = [Kind.RATE_LIMIT, Kind.KEY, Kind.QUOTA]


@pytest.mark.parametrize("kind", SHAKY)
def test_what_may_pass_is_tried_once_more_after_a_moment(kind: Kind) -> None:
    trip = Trip(provider("a"), provider("b"))
    assert trip.fail(kind) == "a a b b"
    assert trip.delays[0] == trip.delays[2] == 0
    assert JITTER[0] <= trip.delays[1] <= JITTER[1]
    assert trip.rests("a") > 0
    assert trip.rests("b") == 300


def test_the_second_try_takes_the_next_key() -> None:
    assert Trip(provider("a", "k1 k2 k3")).fail(Kind.SERVER) == "a:k1 a:k2"


def test_a_channel_whose_second_try_answers_does_not_rest() -> None:
    trip = Trip(provider("a"))
    first = trip.step()
    assert first is not None
    trip.walk.failed(first, Failure(Kind.RESET, "no", 502), trip.now)
    assert trip.rests("a") == 0
    second = trip.step()
    assert second is not None
    trip.walk.succeeded(second, trip.now)
    assert trip.rests("a") == 0
    assert trip.walk.failures == (Failure(Kind.RESET, "no", 502),)


def test_a_provider_that_asks_for_more_time_is_not_asked_again_at_once() -> None:
    trip = Trip(provider("a"), provider("b"))
    assert trip.fail(Failure(Kind.SERVER, "busy", 503, retry_after=30), Kind.REQUEST) == "a b"
    assert trip.rests("a") == 300


@pytest.mark.parametrize("kind", UNWELL)
def test_silence_and_nonsense_go_to_the_next_channel_and_cool(kind: Kind) -> None:
    trip = Trip(provider("a", "k1 k2"), provider("b"))
    assert trip.fail(kind) == "a:k1 b"
    assert trip.delays == [0, 0]
    assert (trip.rests("a"), trip.rests("b")) == (300, 300)


@pytest.mark.parametrize("kind", [Kind.CONTEXT, Kind.REQUEST, Kind.TOTAL])
def test_what_is_not_the_channels_fault_goes_on_without_penalty(kind: Kind) -> None:
    trip = Trip(provider("a", "k1 k2"), provider("b"))
    assert trip.fail(kind) == "a:k1 b"
    assert (trip.rests("a"), trip.rests("b")) == (0, 0)


@pytest.mark.parametrize("retry", [AutoRetry(), AutoRetry(count=9)])
def test_a_content_filter_ends_it(retry: AutoRetry) -> None:
    trip = Trip(provider("a", "k1 k2"), provider("b"), retry=retry)
    assert trip.fail(Kind.POLICY) == "a:k1"
    assert trip.rests("a") == 0


@pytest.mark.parametrize("kind", KEYED)
def test_a_refused_key_gives_way_to_the_next_at_once(kind: Kind) -> None:
    trip = Trip(provider("a", "k1 k2", api_key_cooldown_period=60), provider("b"))
    assert trip.fail(kind, kind, Kind.REQUEST) == "a:k1 a:k2 b"
    assert trip.delays == [0, 0, 0]
    rest = 60 if kind is Kind.RATE_LIMIT else 600
    assert (trip.key_rests("a", "k1"), trip.key_rests("a", "k2")) == (rest, rest)
    assert trip.rests("a") == 0  # its keys rest, which is enough


@pytest.mark.parametrize("kind", KEYED)
def test_a_channel_out_of_keys_rests_when_they_do_not(kind: Kind) -> None:
    trip = Trip(provider("a", "k1 k2"), provider("b"))
    trip.fail(kind, kind, Kind.REQUEST)
    assert (trip.key_rests("a", "k1"), trip.rests("a")) == (0, 300)


def test_one_refused_key_of_two_cools_no_channel() -> None:
    trip = Trip(provider("a", "k1 k2"))
    assert trip.fail(limited(), Kind.REQUEST) == "a:k1 a:k2"
    assert trip.rests("a") == 0


def test_a_key_rests_as_long_as_its_provider_says() -> None:
    trip = Trip(provider("a", "k1 k2", api_key_cooldown_period=60))
    trip.fail(limited(7), Kind.REQUEST)
    assert trip.key_rests("a", "k1") == 7


def test_a_retry_after_of_weeks_is_not_believed() -> None:
    trip = Trip(provider("a", "k1 k2"))
    trip.fail(limited(1e9), Kind.REQUEST)
    assert trip.key_rests("a", "k1") == 86_400


@pytest.mark.parametrize(("kind", "rest"), [(Kind.RATE_LIMIT, 5), (Kind.QUOTA, 6), (Kind.KEY, 6)])
def test_a_rate_limit_and_an_empty_account_may_rest_differently(kind: Kind, rest: float) -> None:
    tuned = provider(
        "a",
        "k1 k2",
        api_key_cooldown_period=60,
        api_key_rate_limit_cooldown_period=5,
        api_key_quota_cooldown_period=6,
    )
    trip = Trip(tuned)
    trip.fail(kind, Kind.REQUEST)
    assert trip.key_rests("a", "k1") == rest


def test_a_provider_without_keys_rests_in_their_place() -> None:
    trip = Trip(provider("a"), provider("b"))
    assert trip.fail(limited(9), Kind.REQUEST) == "a b"
    assert trip.rests("a") == 9


def test_a_provider_may_rest_for_a_time_of_its_own_or_not_at_all() -> None:
    trip = Trip(provider("a", cooldown_period=20), provider("b", cooldown_period=0))
    trip.fail(Kind.EMPTY)
    assert (trip.rests("a"), trip.rests("b")) == (20, 0)
    trip = Trip(provider("a"), provider("b", cooldown_period=20), cooldown=0)
    trip.fail(limited(9), Kind.EMPTY)
    assert (trip.rests("a"), trip.rests("b")) == (0, 20)


def test_success_ends_the_rest_of_channel_and_key() -> None:
    state = State()
    state.cool_channel("a", "m", 900.0, 300)
    state.cool_key("a", Secret("k1").digest, 900.0, 300)
    trip = Trip(provider("a", "k1"), state=state)
    attempt = trip.step()
    assert attempt is not None
    trip.walk.succeeded(attempt, trip.now)
    assert (trip.rests("a"), trip.key_rests("a", "k1")) == (0, 0)


def test_an_old_success_does_not_end_a_newer_rest() -> None:
    trip = Trip(provider("a"))
    attempt = trip.step()
    assert attempt is not None
    trip.now += 10
    trip.state.cool_channel("a", "m", trip.now, 300)
    trip.walk.succeeded(attempt, trip.now + 1)
    assert trip.rests("a") == 300


def test_a_success_counts_from_its_own_start() -> None:
    trip = Trip(provider("a"), provider("b"))
    trip.step()
    trip.state.cool_channel("b", "m", trip.now + 5, 300)
    trip.now += 10
    second = trip.step()
    assert second is not None
    trip.walk.succeeded(second, trip.now)
    assert trip.rests("b") == 0


def test_no_retry_is_one_attempt_and_a_failure_cools_all_the_same() -> None:
    trip = Trip(provider("a", "k1 k2"), provider("b"), retry=AutoRetry(enabled=False))
    assert trip.fail(Kind.SERVER) == "a:k1"
    assert trip.rests("a") == 300
    trip = Trip(provider("a"), retry=AutoRetry(enabled=False))
    assert trip.fail(limited(2)) == "a"
    assert trip.rests("a") == 2


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "a"), (1, "a b"), (2, "a a b"), (3, "a a b b")]
)
def test_a_number_is_so_many_retries_and_new_channels_come_first(count: int, expected: str) -> None:
    trip = Trip(provider("a"), provider("b"), retry=AutoRetry(count=count))
    assert trip.fail(Kind.SERVER) == expected


def test_a_number_left_over_starts_the_list_again_with_a_pause() -> None:
    trip = Trip(provider("a"), provider("b"), retry=AutoRetry(count=5))
    assert trip.fail(Kind.EMPTY) == "a b a b a b"
    assert trip.delays[:2] == [0, 0]
    assert all(delay >= JITTER[0] for delay in trip.delays[2:])
    assert trip.delays[2] <= JITTER[1]
    assert trip.now >= 1000 + WINDOW


def test_the_second_time_round_only_what_may_have_passed_is_asked() -> None:
    trip = Trip(
        provider("a"), provider("b"), provider("c"), provider("d", "k"), retry=AutoRetry(count=9)
    )
    asked = trip.fail(Kind.REQUEST, limited(60), Kind.EMPTY, Kind.KEY, Kind.FIRST_TOKEN)
    assert asked == "a b c d:k c c c c c c"


def test_the_second_time_round_a_bad_key_stays_refused_and_a_limited_one_does_not() -> None:
    trip = Trip(provider("a", "k1 k2"), retry=AutoRetry(count=3), algorithm=Algorithm.ROUND_ROBIN)
    assert trip.fail(Kind.KEY, limited()) == "a:k1 a:k2 a:k2 a:k2"


def test_the_second_time_round_keys_go_on_taking_turns() -> None:
    trip = Trip(provider("a", "k1 k2"), retry=AutoRetry(count=3), algorithm=Algorithm.ROUND_ROBIN)
    assert trip.fail(limited()) == "a:k1 a:k2 a:k1 a:k2"


def test_a_second_key_does_not_cost_a_channel_its_only_attempt() -> None:
    trip = Trip(provider("a", "k1 k2"), provider("b"), retry=AutoRetry(count=1))
    assert trip.fail(limited()) == "a:k1 b"


def test_the_second_time_round_waits_for_a_short_retry_after() -> None:
    trip = Trip(
        provider("a"),
        provider("b"),
        retry=AutoRetry(count=2),
        algorithm=Algorithm.ROUND_ROBIN,
    )
    assert trip.fail(limited(3), Kind.REQUEST) == "a b a"
    assert trip.now == 1003


def test_never_more_than_ten_attempts() -> None:
    many = [provider(f"p{n}") for n in range(30)]
    assert len(Trip(*many).fail(Kind.EMPTY).split()) == 10
    assert len(Trip(*many, retry=AutoRetry(count=50)).fail(Kind.EMPTY).split()) == 10
    assert len(Trip(many[0], retry=AutoRetry(count=50)).fail(Kind.SERVER).split()) == 10


def test_second_tries_do_not_cost_a_channel_its_only_one() -> None:
    trip = Trip(*(provider(f"p{n}") for n in range(8)))
    assert trip.fail(Kind.SERVER) == "p0 p0 p1 p1 p2 p3 p4 p5 p6 p7"


def test_many_keys_are_asked_two_in_a_window_and_channels_not_yet_asked_come_between() -> None:
    trip = Trip(provider("a", "k1 k2 k3 k4"), provider("b"))
    assert trip.fail(limited()) == "a:k1 a:k2 b a:k3 a:k4"
    assert trip.delays == [0, 0, 0, 1.5, 0]
    assert trip.rests("a") == 300


def test_a_short_retry_after_is_waited_for_even_when_others_are_there() -> None:
    trip = Trip(provider("a", "k"), provider("b"))
    assert trip.fail(limited(2), Kind.REQUEST) == "a:k a:k b"
    assert trip.delays == [0, 2, 0]


def test_keys_still_to_be_asked_come_before_a_wait() -> None:
    trip = Trip(provider("a", "k1 k2"), provider("b"))
    assert trip.fail(limited(3), limited(3), Kind.REQUEST) == "a:k1 a:k2 a:k2 b"
    assert trip.delays == [0, 0, 3, 0]


def test_a_channel_whose_turn_had_to_wait_lets_others_wait_too() -> None:
    trip = Trip(provider("a", "k1 k2 k3"), provider("b"))
    assert trip.fail(limited(), limited(), limited(2)) == "a:k1 a:k2 b b a:k3 a:k3"


def test_a_wait_does_not_cost_a_channel_its_only_attempt() -> None:
    trip = Trip(provider("a", "k"), provider("b"), retry=AutoRetry(count=1))
    assert trip.fail(limited(2), Kind.REQUEST) == "a:k b"


def test_a_wait_that_would_outlast_the_request_is_not_begun() -> None:
    trip = Trip(provider("a", "k"), provider("b"), deadline=2.0)
    assert trip.fail(limited(2), Kind.REQUEST) == "a:k b"
    trip = Trip(provider("a", "k"), provider("b"), deadline=2.5)
    assert trip.fail(limited(2), Kind.REQUEST) == "a:k a:k b"


def test_a_channel_waited_for_does_not_rest() -> None:
    trip = Trip(provider("a"))
    attempt = trip.step()
    assert attempt is not None
    trip.walk.failed(attempt, limited(2), trip.now)
    assert trip.rests("a") == 0


def test_a_retry_after_of_nothing_is_still_a_moment() -> None:
    trip = Trip(provider("a", "k"))
    assert trip.fail(limited(0)) == "a:k a:k"
    assert trip.delays[1] >= JITTER[0]


@pytest.mark.parametrize(
    ("said", "algorithm"),
    [
        (limited(3.5), Algorithm.FIXED_PRIORITY),
        (limited(), Algorithm.FIXED_PRIORITY),
        (limited(2), Algorithm.ROUND_ROBIN),
        (Failure(Kind.QUOTA, "empty", 429, retry_after=2), Algorithm.FIXED_PRIORITY),
    ],
)
def test_a_retry_after_is_not_waited_for_otherwise(said: Failure, algorithm: Algorithm) -> None:
    assert Trip(provider("a", "k"), algorithm=algorithm).fail(said) == "a:k"


def test_the_pool_of_a_channel_moves_when_it_is_reached() -> None:
    state = State()
    a, b = provider("a"), provider("b", "k1 k2")
    firsts = [Trip(a, b, state=state, cooldown=0).fail(Kind.EMPTY) for _ in range(3)]
    assert firsts == ["a b:k1", "a b:k2", "a b:k1"]


def test_another_channel_is_given_while_one_is_still_under_way() -> None:
    trip = Trip(provider("a"), provider("b"), retry=AutoRetry(count=5))
    first, second = trip.step(), trip.step()
    assert first is not None
    assert second is not None
    assert trip.asked == ["a", "b"]
    assert trip.step() is None
    trip.walk.failed(second, Failure(Kind.EMPTY, "no", 502), trip.now)
    trip.step()
    assert trip.asked == ["a", "b", "b"]
    trip.walk.failed(first, Failure(Kind.EMPTY, "no", 502), trip.now)
    trip.step()
    assert trip.asked == ["a", "b", "b", "a"]


def test_the_verdict_is_the_most_telling_failure_and_names_its_provider() -> None:
    trip = Trip(provider("a"), provider("b"))
    trip.fail(Failure(Kind.CONTEXT, "too long", 400), Kind.EMPTY)
    verdict = trip.walk.verdict()
    assert (verdict.status, verdict.message) == (400, "provider a, model m: too long")
    assert [(how.kind, tried.number) for tried, how in trip.walk.trail] == [
        (Kind.CONTEXT, 1),
        (Kind.EMPTY, 2),
    ]


def test_of_equal_failures_the_verdict_names_the_latest() -> None:
    trip = Trip(provider("a"), provider("b"))
    same = Failure(Kind.EMPTY, "nothing", 502)
    trip.fail(same)
    assert "provider b" in trip.walk.verdict().message


def test_an_empty_plan_has_no_steps() -> None:
    assert Trip(replace(provider("a"), models=())).step() is None
