"""A window never admits more than its number: proved against a model that remembers everything."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from uniapi.config.bounds import ByModel, RateLimit, RateLimits, Unit, Window
from uniapi.config.targets import NestedKey, OneProvider, Rule
from uniapi.config.types import (
    Algorithm,
    AutoRetry,
    Channel,
    ClientKey,
    Config,
    KeyPreferences,
    KeySchedule,
    ModelName,
    Preferences,
    Provider,
    ProviderPreferences,
    Secret,
)
from uniapi.errors import Failure, Kind
from uniapi.meter import SLOTS, Meter
from uniapi.routing import limits
from uniapi.routing.ask import Ask
from uniapi.routing.plan import make_plan
from uniapi.routing.walk import Walk
from uniapi.state import State

LONGEST_DELAY = 3.0  # seconds an attempt may be handed out before it begins


@dataclass
class Brute:
    """Every start there ever was."""

    window: Window
    starts: list[float] = field(default_factory=list)

    def used(self, now: float) -> int:
        return sum(start + self.window.seconds > now for start in self.starts)

    def most_in_a_window(self) -> int:
        ordered = sorted(self.starts)
        most = front = 0
        for back, start in enumerate(ordered):
            while ordered[front] + self.window.seconds <= start:
                front += 1
            most = max(most, back - front + 1)
        return most


# Quarters of a second are exact in binary: nothing here is decided by rounding.
step = st.tuples(st.integers(0, 40), st.integers(0, int(LONGEST_DELAY * 4)))
# Drawn lists are short; repeated, they fill windows whose marks are shared by many.
steps = st.builds(
    lambda drawn, times: drawn * times, st.lists(step, min_size=1, max_size=40), st.integers(1, 40)
)
spans = st.sampled_from([1.0, 4.0, 16.0, 64.0, 1024.0])


def run(window: Window, drawn: list[tuple[int, int]], scale: float) -> tuple[Brute, Meter]:
    """Ask at every step; what is admitted begins after its delay."""
    meter, brute, now = Meter(), Brute(window), 0.0
    for gap, delay in drawn:
        now += gap / 4 * scale
        wait = meter.wait(window, now)
        if wait > 0:
            grain = window.seconds / SLOTS
            late = brute.used(now - grain - LONGEST_DELAY)
            assert late >= window.limit, "refused, though there was room all the time"
            continue
        start = now + delay / 4
        meter.add((window,), window.unit, 1, now, start)
        brute.starts.append(start)
    return brute, meter


@given(st.integers(1, 200), spans, steps, st.sampled_from([0.0, 0.25, 1.0, 8.0]))
@example(100, 1.0, [(0, 0)] * 99 + [(3, 0), (1, 0), (0, 0)], 1.0)
def test_a_window_never_admits_more_than_its_number(
    limit: int, seconds: float, drawn: list[tuple[int, int]], scale: float
) -> None:
    brute, _ = run(Window(limit, seconds), drawn, scale)
    assert brute.most_in_a_window() <= limit


@given(st.integers(1, SLOTS), spans, st.lists(st.integers(0, 40), min_size=1, max_size=300))
def test_a_small_window_admits_all_that_its_number_allows_and_says_when(
    limit: int, seconds: float, gaps: list[int]
) -> None:
    window, meter, brute, now = Window(limit, seconds), Meter(), Brute(Window(limit, seconds)), 0.0
    for gap in gaps:
        now += gap / 4
        wait = meter.wait(window, now)
        assert meter.left(window, now) == limit - brute.used(now)
        assert (wait == 0) == (brute.used(now) < limit)
        if wait > 0:
            assert brute.used(now + wait) < limit
            assert brute.used(now + wait - 0.125) == limit
            continue
        meter.add((window,), Unit.REQUESTS, 1, now, now)
        brute.starts.append(now)


@given(st.integers(1, 10**9), spans, steps, st.sampled_from([0.0, 0.015625, 0.25]))
def test_memory_is_bounded_whatever_the_limit(
    limit: int, seconds: float, drawn: list[tuple[int, int]], scale: float
) -> None:
    _, meter = run(Window(limit, seconds), drawn, scale)
    slots_of_delay = LONGEST_DELAY / (seconds / SLOTS)
    for span in meter._spans.values():
        assert len(span.marks) <= 2 * SLOTS + slots_of_delay + 2


@given(st.integers(1, 1000), st.lists(st.tuples(st.integers(0, 40), st.integers(1, 400))))
def test_tokens_let_in_the_request_that_crosses_and_no_other(
    limit: int, answers: list[tuple[int, int]]
) -> None:
    window, meter, now = Window(limit, 16.0, Unit.TOKENS), Meter(), 0.0
    spent: list[tuple[float, int]] = []
    for gap, tokens in answers:
        now += gap / 4
        used = sum(amount for at, amount in spent if at + 16.0 > now)
        let_in = meter.wait(window, now) == 0
        if len(spent) < SLOTS:
            assert let_in == (used < limit)
        if let_in:
            assert used < limit
            meter.add((window,), Unit.TOKENS, tokens, now, now)
            spent.append((now, tokens))


rules = st.lists(
    st.builds(Window, st.integers(1, 12), st.sampled_from([1.0, 4.0, 16.0])), min_size=1, max_size=3
).map(lambda windows: RateLimit(tuple(windows)))


@given(rules, rules, st.lists(st.integers(0, 12), min_size=1, max_size=150))
def test_all_windows_of_all_limits_hold_at_once_and_a_refusal_counts_nowhere(
    own: RateLimit, shared: RateLimit, gaps: list[int]
) -> None:
    key = ClientKey(
        Secret("client"),
        preferences=KeyPreferences(rate_limit=RateLimits(per_model=False, rules=ByModel((), own))),
    )
    everyone = Preferences(rate_limit=RateLimits(per_model=False, rules=ByModel((), shared)))
    config = Config(keys=(key,), preferences=everyone)
    state, now, starts = State(), 0.0, list[float]()
    claims = limits.of_client(config, state, key, "m")
    windows = (*own.windows, *shared.windows)
    for gap in gaps:
        now += gap / 4
        fits = all(Brute(window, starts).used(now) < window.limit for window in windows)
        denial = limits.take(state, claims, 0, now)
        assert (denial is None) == fits
        if denial is None:
            starts.append(now)
            continue
        assert denial.wait is not None
        later = now + denial.wait
        assert all(Brute(window, starts).used(later) < window.limit for window in windows)
    for window in windows:
        assert Brute(window, starts).most_in_a_window() <= window.limit


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.booleans())
def test_keys_of_a_provider_have_a_bucket_each(asked: list[str], by_name: bool) -> None:
    rule = RateLimits(by_name, ByModel((), RateLimit((Window(5, 60.0),))))
    keys = {name: Secret(name) for name in "abc"}
    provider = Provider(
        "p",
        keys=tuple(keys.values()),
        models=(ModelName("m", "m"),),
        preferences=ProviderPreferences(api_key_rate_limit=rule),
    )
    state, let_in = State(), list[str]()
    for name in asked:
        claims = limits.of_channel(Channel(provider, "m", "m"), keys[name])
        if limits.take(state, claims, 0, 1.0) is None:
            let_in.append(name)
    for name in "abc":
        assert let_in.count(name) == min(5, asked.count(name))


outcomes = st.sampled_from(
    [None, None, Kind.SERVER, Kind.RATE_LIMIT, Kind.EMPTY, Kind.KEY, Kind.REQUEST, Kind.FIRST_TOKEN]
)
visits = st.lists(
    st.tuples(st.integers(0, 12), st.lists(outcomes, min_size=1, max_size=4)), max_size=40
)


@given(
    visits,
    st.lists(st.integers(0, 3), min_size=1, max_size=3),
    st.integers(1, 4),
    st.sampled_from(Algorithm),
    st.sampled_from(KeySchedule),
    st.none() | st.integers(0, 6),
    st.integers(),
)
def test_whatever_fails_no_provider_key_and_no_nested_key_gets_more_than_its_number(
    arrivals: list[tuple[int, list[Kind | None]]],
    pools: list[int],
    limit: int,
    algorithm: Algorithm,
    schedule: KeySchedule,
    retry: int | None,
    seed: int,
) -> None:
    window = Window(limit, 4.0)
    rule = RateLimits(per_model=False, rules=ByModel((), RateLimit((window,))))
    own = ProviderPreferences(api_key_rate_limit=rule, api_key_schedule_algorithm=schedule)
    providers = tuple(
        Provider(
            f"p{n}",
            keys=tuple(Secret(f"p{n}k{k}") for k in range(keys)),
            models=(ModelName("m", "m"),),
            preferences=own,
        )
        for n, keys in enumerate(pools)
    )
    inner = ClientKey(Secret("inner"), preferences=KeyPreferences(algorithm, rate_limit=rule))
    outer = ClientKey(
        Secret("outer"),
        (Rule(NestedKey(inner.id)), Rule(OneProvider("p0"))),
        preferences=KeyPreferences(algorithm, AutoRetry(count=retry)),
    )
    config = Config(providers, (outer, inner), Preferences(cooldown_period=1.0))
    state, rng, now = State(), Random(seed), 0.0  # noqa: S311 - a test's dice
    starts: dict[tuple[str, str], Brute] = {}
    for gap, script in arrivals:
        now += gap / 4
        through = set[str]()
        walk = Walk(make_plan(config, state, outer, Ask("m"), now, rng), config, state, rng)
        clock = now  # of this request; others arrive while it is under way
        for outcome in script:
            step = walk.next(clock)
            if step is None:
                break
            clock += step.delay
            attempt = step.attempt
            at = (attempt.channel.provider.name, "" if attempt.key is None else attempt.key.digest)
            starts.setdefault(at, Brute(window)).starts.append(clock)
            for digest in set(attempt.via) - through:
                starts.setdefault((digest, ""), Brute(window)).starts.append(clock)
            through |= set(attempt.via)
            if outcome is None:
                walk.succeeded(attempt, clock)
                break
            walk.failed(attempt, Failure(outcome, "no", 500, retry_after=1.0), clock)
        walk.close()
        now = clock
    for brute in starts.values():
        assert brute.most_in_a_window() <= limit
