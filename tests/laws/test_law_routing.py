"""What holds for every plan and every walk, whatever breaks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from uniapi.config.targets import NestedKey, OneProvider, Rule
from uniapi.config.types import (
    Algorithm,
    AutoRetry,
    ClientKey,
    Config,
    KeyPreferences,
    ModelName,
    Provider,
    ProviderPreferences,
    Secret,
)
from uniapi.errors import Failure, Kind
from uniapi.routing import schedule
from uniapi.routing.failures import MEANING
from uniapi.routing.match import expand, leaves
from uniapi.routing.place import WINDOW
from uniapi.routing.plan import Ask, make_plan
from uniapi.routing.walk import MAX_ATTEMPTS, PATIENCE, Walk
from uniapi.state import State, Turn

TICK = 1e-9  # float slack on a clock that starts at some thousand seconds


def dice(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - a test's dice


@dataclass(frozen=True, slots=True)
class Thing:
    name: int
    weight: int | None

    @property
    def id(self) -> tuple[str, ...]:
        return (str(self.name),)


weights = st.lists(st.integers(1, 40), min_size=1, max_size=6)
things = st.lists(st.none() | st.integers(1, 1000), max_size=8).map(
    lambda shares: tuple(Thing(n, share) for n, share in enumerate(shares))
)


@given(weights, st.integers(0, 300))
def test_a_weighted_cycle_is_exact_over_its_sum_from_any_point(
    shares: list[int], skip: int
) -> None:
    units = tuple(Thing(n, share) for n, share in enumerate(shares))
    turn, leads = Turn(), []
    for _ in range(skip % sum(shares) + sum(shares)):
        ordered, turn = schedule.weighted_round_robin(units, turn)
        leads.append(ordered[0].name)
    assert Counter(leads[-sum(shares) :]) == dict(enumerate(shares))


@given(things, st.sampled_from(Algorithm), st.integers(0, 2**32), st.integers(1, 5))
def test_every_algorithm_gives_each_unit_once(
    units: tuple[Thing, ...], algorithm: Algorithm, seed: int, requests: int
) -> None:
    turn, rng = Turn(), dice(seed)
    for _ in range(requests):
        ordered, turn = schedule.order(units, algorithm, turn, rng)
        assert sorted(unit.name for unit in ordered) == sorted(unit.name for unit in units)


@given(things, st.sampled_from([Algorithm.WEIGHTED_ROUND_ROBIN, Algorithm.LOTTERY]), st.integers())
def test_backups_come_after_every_weighted_unit_in_rule_order(
    units: tuple[Thing, ...], algorithm: Algorithm, seed: int
) -> None:
    ordered, _ = schedule.order(units, algorithm, Turn(), dice(seed))
    backups = [unit for unit in units if unit.weight is None]
    assert list(ordered[len(units) - len(backups) :]) == backups


retries = st.one_of(
    st.just(AutoRetry()),
    st.just(AutoRetry(enabled=False)),
    st.integers(0, 15).map(lambda count: AutoRetry(count=count)),
)
ends = st.tuples(
    st.builds(
        Failure,
        kind=st.sampled_from(Kind),
        message=st.just("no"),
        status=st.just(500),
        retry_after=st.none() | st.floats(0, 10),
    ),
    st.floats(0, 2),  # seconds the attempt took
)
pools = st.lists(st.integers(0, 5), min_size=1, max_size=14)


@dataclass(frozen=True, slots=True)
class Asked:
    """One attempt of a finished walk."""

    channel: str
    key: str | None
    start: float
    delay: float
    failure: Failure


def walked(
    pool: list[int], retry: AutoRetry, algorithm: Algorithm, script: list[tuple[Failure, float]]
) -> list[Asked]:
    """Walk through as many channels as `pool` has numbers, each with so many keys; all fail."""
    providers = tuple(
        Provider(
            f"p{n}",
            keys=tuple(Secret(f"p{n}-key{k}") for k in range(keys)),
            models=(ModelName("m", "m"),),
            preferences=ProviderPreferences(api_key_cooldown_period=60.0 * (n % 2)),
        )
        for n, keys in enumerate(pool)
    )
    key = ClientKey(Secret("client"), preferences=KeyPreferences(algorithm, retry))
    config, state, rng, now = Config(providers, (key,)), State(), dice(11), 1000.0
    walk = Walk(make_plan(config, state, key, Ask("m"), now, rng), config, state, rng)
    asked: list[Asked] = []
    while (step := walk.next(now)) is not None:
        failure, took = script[len(asked) % len(script)]
        now += step.delay
        tried = step.attempt
        digest = None if tried.key is None else tried.key.digest
        asked.append(Asked(tried.channel.provider.name, digest, now, step.delay, failure))
        now += took
        walk.failed(tried, failure, now)
    assert walk.failures == tuple(one.failure for one in asked)
    return asked


walks = st.builds(
    walked,
    pools,
    retries,
    st.sampled_from(Algorithm),
    st.lists(ends, min_size=1, max_size=12),
)


@given(pools, retries, st.sampled_from(Algorithm), st.lists(ends, min_size=1, max_size=12))
def test_a_walk_keeps_its_bound_and_meets_as_many_channels_as_it_can(
    pool: list[int],
    retry: AutoRetry,
    algorithm: Algorithm,
    script: list[tuple[Failure, float]],
) -> None:
    asked = walked(pool, retry, algorithm, script)
    bound = 1 if not retry.enabled else MAX_ATTEMPTS
    if retry.enabled and retry.count is not None:
        bound = min(1 + retry.count, MAX_ATTEMPTS)
    assert 1 <= len(asked) <= bound
    if all(one.failure.kind not in {Kind.POLICY, Kind.DEADLINE} for one in asked):
        assert len({one.channel for one in asked}) == min(len(pool), bound)


@given(walks)
def test_no_channel_is_asked_three_times_within_the_window(asked: list[Asked]) -> None:
    for channel in {one.channel for one in asked}:
        starts = [one.start for one in asked if one.channel == channel]
        for first, third in zip(starts, starts[2:], strict=False):
            assert third - first >= WINDOW - TICK


@given(walks)
def test_nobody_is_asked_after_a_content_filter(asked: list[Asked]) -> None:
    assert all(one.failure.kind not in {Kind.POLICY, Kind.DEADLINE} for one in asked[:-1])


@given(walks)
def test_what_will_not_pass_is_not_asked_again(asked: list[Asked]) -> None:
    for n, one in enumerate(asked):
        later = [other for other in asked[n + 1 :] if other.channel == one.channel]
        if one.failure.kind in {Kind.CONTEXT, Kind.REQUEST}:
            assert not later
        if one.failure.kind in {Kind.KEY, Kind.QUOTA}:
            assert all(other.key != one.key for other in later)


@given(walks)
def test_the_same_channel_is_asked_again_at_once_only_with_another_key(
    asked: list[Asked],
) -> None:
    for one, other in pairwise(asked):
        if one.channel == other.channel and other.delay == 0:
            assert MEANING[one.failure.kind].cools_key
            assert one.key != other.key


@given(walks)
def test_no_wait_is_longer_than_patience(asked: list[Asked]) -> None:
    assert asked[0].delay == 0
    assert all(0 <= one.delay <= max(PATIENCE, WINDOW) + TICK for one in asked)


rests = st.lists(st.floats(0.5, 500), min_size=1, max_size=6)


@given(rests, st.sampled_from(Algorithm), st.booleans(), st.integers())
def test_when_all_rest_the_plan_is_the_one_that_wakes_first(
    seconds: list[float], algorithm: Algorithm, by_key: bool, seed: int
) -> None:
    providers = tuple(
        Provider(f"p{n}", keys=(Secret(f"key{n}"),), models=(ModelName("m", "m"),))
        for n in range(len(seconds))
    )
    key = ClientKey(Secret("client"), preferences=KeyPreferences(algorithm))
    config, state, now = Config(providers, (key,)), State(), 1000.0
    for one, rest in zip(providers, seconds, strict=True):
        if by_key:
            state.cool_key(one.name, one.keys[0].digest, now, rest)
        else:
            state.cool_channel(one.name, "m", now, rest)
    plan = make_plan(config, state, key, Ask("m"), now, dice(seed))
    (slot,) = plan.slots
    assert abs(slot.cooldown_left - min(seconds)) < 1e-6
    assert len(plan.skipped) == len(seconds) - 1


@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=10),
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6),
    st.tuples(st.sampled_from(Algorithm), st.sampled_from(Algorithm)),
    st.sets(st.sampled_from("abcdefgh"), max_size=7),
    st.integers(),
)
def test_every_channel_is_in_the_plan_once_or_left_out_with_a_reason(
    outer_names: list[str],
    inner_names: list[str],
    algorithms: tuple[Algorithm, Algorithm],
    resting: set[str],
    seed: int,
) -> None:
    providers = tuple(Provider(name, models=(ModelName("m", "m"),)) for name in "abcdefgh")
    inner = ClientKey(
        Secret("inner"),
        tuple(Rule(OneProvider(name)) for name in inner_names),
        preferences=KeyPreferences(algorithms[1]),
    )
    outer = ClientKey(
        Secret("outer"),
        (
            *(Rule(OneProvider(name), weight=ord(name) - 96) for name in outer_names),
            Rule(NestedKey(inner.id), weight=4),
        ),
        preferences=KeyPreferences(algorithms[0]),
    )
    config, state, rng = Config(providers, (outer, inner)), State(), dice(seed)
    for name in resting:
        state.cool_channel(name, "m", 0.0, 60.0)
    tree = expand(config, state, outer, "m")
    for _ in range(3):
        plan = make_plan(config, state, outer, Ask("m"), 0.0, rng)
        told = [slot.channel.label for slot in plan.slots]
        told += [left.channel_label for left in plan.skipped]
        assert sorted(told) == sorted({channel.label for channel in leaves(tree)})
        assert plan.slots
