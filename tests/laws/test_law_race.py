"""The laws of the race, whatever the attempts do: drawn scenarios, exact seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf
from random import Random

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.kit.world import config_of
from uniapi.config.bounds import Hedge
from uniapi.errors import Failure, Kind
from uniapi.events import Batch, StreamFailed, Text
from uniapi.race import Leg, run_race
from uniapi.routing.hedging import hedging_for
from uniapi.routing.plan import Ask, make_plan
from uniapi.routing.walk import Walk
from uniapi.state import State

LIMIT = 10.0  # seconds, the model_timeout of every scenario
HOSTS = 4

CONFIG = config_of(
    "providers:\n"
    + "".join(
        f"  - {{provider: p{n}, base_url: 'http://p{n}', model: [m]}}\n" for n in range(HOSTS)
    )
    + "api_keys:\n  - api: sk-law-0000\n"
    + f"preferences: {{model_timeout: {{m: {LIMIT:g}}}, cooldown_period: 0}}\n"
)


@dataclass(frozen=True)
class Scene:
    """What one attempt does: waits, then commits or fails; a winner may break off later."""

    wait: float
    commits: bool
    kind: Kind = Kind.SERVER
    then: float = 0.0
    breaks: bool = False
    hangs_up_in: float = 0.0


SCENES = st.builds(
    Scene,
    wait=st.sampled_from([0.0, 0.5, 3.0, LIMIT - 0.5, LIMIT, LIMIT + 1]),
    commits=st.booleans(),
    kind=st.sampled_from([k for k in Kind if k not in {Kind.FIRST_TOKEN, Kind.IDLE}]),
    then=st.sampled_from([0.0, 1.0, LIMIT - 1, LIMIT + 1]),
    breaks=st.booleans(),
)


@dataclass
class Ran:
    """What happened in one run."""

    legs: list[Leg]
    winner: Leg | None
    batches: list[Batch]
    open_at_return: int
    open_now: int
    ended_at: float
    failures: tuple[Failure, ...]
    most_in_flight: int = 0


async def play(
    scenes: list[Scene],
    hedge: Hedge | None = None,
    deadline: float = inf,
    state: State | None = None,
) -> Ran:
    """Race through the scenes, one for each attempt, the last repeated."""
    rng = Random(1)  # noqa: S311 - a fixed seed, for jitter
    state = state or State()
    plan = make_plan(CONFIG, state, CONFIG.keys[0], Ask("m"), 0.0, rng)
    walk = Walk(plan, CONFIG, state, rng)
    open_now = most = 0
    hedging = hedging_for(
        replace(CONFIG, preferences=replace(CONFIG.preferences, hedge=hedge)),
        state,
        CONFIG.keys[0],
        stream=True,
    )

    async def translate(leg: Leg) -> None:
        nonlocal open_now, most
        scene = scenes[min(leg.attempt.number, len(scenes)) - 1]
        open_now += 1
        most = max(most, open_now)
        try:
            await trio.sleep(scene.wait)
            if not scene.commits:
                leg.fail(Failure(scene.kind, "drawn", 500))
                return
            leg.token()
            await leg.pass_on(Batch((Text("a"),)))
            await trio.sleep(scene.then)
            leg.token()
            last = StreamFailed(Failure(Kind.CUT, "cut", 502)) if scene.breaks else Text("b")
            await leg.pass_on(Batch((last,)))
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(scene.hangs_up_in)
            open_now -= 1

    legs: list[Leg] = []
    batches: list[Batch] = []
    async with trio.open_nursery() as nursery:
        winner = await run_race(nursery, walk, translate, legs, deadline=deadline, hedging=hedging)
        open_at_return = open_now
        if winner is not None:
            batches = [batch async for batch in winner.batches]
    return Ran(
        legs, winner, batches, open_at_return, open_now, trio.current_time(), walk.failures, most
    )


@given(st.lists(SCENES, min_size=1, max_size=10))
@settings(max_examples=200, deadline=None)
def test_the_race_keeps_its_laws(scenes: list[Scene]) -> None:
    ran = trio.run(play, scenes, clock=MockClock(autojump_threshold=0))
    committed = [leg for leg in ran.legs if leg.committed]
    assert len(committed) <= 1
    assert (ran.winner is None) == (committed == [])
    assert ran.open_at_return <= len(committed)
    assert ran.open_now == 0
    assert ran.most_in_flight <= 1
    assert len(ran.legs) <= 10
    assert all(leg.closed.is_set() for leg in ran.legs)
    assert all(leg.failure is not None for leg in ran.legs if leg is not ran.winner)
    assert len(ran.failures) == len(ran.legs) - len(committed)
    for earlier, later in zip(ran.legs, ran.legs[1:], strict=False):
        assert earlier.ended_at is not None
        assert later.started_at >= earlier.ended_at
    for leg in ran.legs:
        assert leg.ended_at is not None
        if not leg.committed:
            assert leg.ended_at - leg.started_at <= LIMIT + 1e-9
    if ran.winner is not None:
        assert ran.batches[0].events == (Text("a"),)
        complete = ran.batches[-1].events == (Text("b"),)
        failed = isinstance(ran.batches[-1].events[-1], StreamFailed)
        assert complete != failed


HEDGES = st.builds(
    Hedge, after=st.sampled_from([0.5, 1.0, 3.0]), budget=st.sampled_from([0.0, 0.1, 1.0])
)
HEDGED = st.builds(
    replace,
    SCENES,
    hangs_up_in=st.sampled_from([0.0, 0.25]),
    wait=st.sampled_from([0.0, 0.5, 1.0, 3.0, LIMIT, LIMIT + 1]),
)


@given(
    st.lists(HEDGED, min_size=1, max_size=10), HEDGES, st.sampled_from([inf, 0.0, 1.0, 3.5, 12.0])
)
@settings(max_examples=200, deadline=None)
def test_the_laws_hold_with_hedges_and_a_deadline(
    scenes: list[Scene], hedge: Hedge, deadline: float
) -> None:
    state = State()
    ran = trio.run(play, scenes, hedge, deadline, state, clock=MockClock(autojump_threshold=0))
    committed = [leg for leg in ran.legs if leg.committed]
    assert len(committed) <= 1
    assert (ran.winner is None) == (committed == [])
    assert ran.open_at_return <= len(committed)  # a loser has hung up when the race is over
    assert ran.open_now == 0
    assert ran.most_in_flight <= 2
    assert all(leg.closed.is_set() for leg in ran.legs)
    hedges = [leg for leg in ran.legs if leg.why == "hedge"]
    assert len(hedges) == state.counters["hedges"] <= (1 if hedge.budget else 0)
    dropped = [leg for leg in ran.legs if leg.dropped]
    assert len(dropped) == state.counters["attempts_cancelled"] <= 1
    if ran.winner is None:
        assert all(leg.failure is not None for leg in ran.legs)
    assert len(ran.failures) == sum(leg.failure is not None for leg in ran.legs)
    channels = [leg.attempt.channel.label for leg in ran.legs]
    for leg in hedges:
        assert channels.index(leg.attempt.channel.label) == ran.legs.index(leg)
    for leg in ran.legs:
        assert leg.started_at < deadline
        if not leg.committed and leg.ended_at is not None:
            assert leg.ended_at <= deadline + scenes[0].hangs_up_in + 0.25


@given(
    st.lists(st.booleans(), min_size=1, max_size=25),
    st.sampled_from([0.01, 0.1, 1 / 3, 0.5, 1.0]),
)
@settings(max_examples=20, deadline=None)
def test_the_budget_of_hedges_is_kept_over_any_number_of_requests(
    slow: list[bool], share: float
) -> None:
    state = State()
    for number, is_slow in enumerate(slow, start=1):
        scenes = [Scene(3.0 if is_slow else 0.1, commits=True), Scene(0.1, commits=True)]
        clock = MockClock(autojump_threshold=0)
        trio.run(play, scenes, Hedge(after=1.0, budget=share), inf, state, clock=clock)
        assert state.counters["hedges"] <= ceil(round(number * share, 6))
    if all(slow):
        assert state.counters["hedges"] == ceil(round(len(slow) * share, 6))


async def test_a_deadline_in_the_same_tick_as_the_start_is_kept(
    autojump_clock: MockClock,
) -> None:
    ran = await play([Scene(LIMIT + 1, commits=True), Scene(0, commits=True)])
    assert [leg.started_at for leg in ran.legs] == [0, LIMIT]
    failure = ran.legs[0].failure
    assert failure is not None
    assert failure.kind is Kind.FIRST_TOKEN


async def test_a_winner_that_falls_silent_says_so_in_its_last_batch(
    autojump_clock: MockClock,
) -> None:
    ran = await play([Scene(1, commits=True, then=LIMIT + 1)])
    assert ran.ended_at == 1 + LIMIT
    match ran.batches[-1].events:
        case (StreamFailed(failure=failure),):
            assert failure.kind is Kind.IDLE
        case other:
            raise AssertionError(other)


async def test_of_two_that_speak_in_the_same_instant_one_commits(
    autojump_clock: MockClock,
) -> None:
    state, rng = State(), Random(1)  # noqa: S311 - a fixed seed, for jitter
    hedge = Hedge(after=0.5)
    config = replace(CONFIG, preferences=replace(CONFIG.preferences, hedge=hedge))
    hedging = hedging_for(config, state, CONFIG.keys[0], stream=True)
    walk = Walk(make_plan(CONFIG, state, CONFIG.keys[0], Ask("m"), 0.0, rng), CONFIG, state, rng)
    data = trio.Event()  # as bytes that are there already: no cancellation keeps them back
    legs: list[Leg] = []

    async def speak(leg: Leg) -> None:
        await data.wait()
        await leg.pass_on(Batch((Text("a"),)))

    async def bring() -> None:
        await trio.sleep(1)
        data.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bring)
        winner = await run_race(nursery, walk, speak, legs, hedging=hedging)
        assert winner is not None
        assert [leg for leg in legs if leg.committed] == [winner]
        assert [leg for leg in legs if leg.dropped] == [leg for leg in legs if leg is not winner]
        assert len(legs) == 2


async def test_who_has_failed_is_not_said_to_be_cancelled(autojump_clock: MockClock) -> None:
    scenes = [Scene(1.0, commits=False, hangs_up_in=1.0), Scene(1.0, commits=True)]
    state = State()
    ran = await play(scenes, Hedge(after=0.5), state=state)
    assert [leg.dropped for leg in ran.legs] == [False, False]
    assert len(ran.failures) == 1
    assert state.counters["attempts_cancelled"] == 0


async def test_an_attempt_that_ends_without_a_word_has_failed(autojump_clock: MockClock) -> None:
    rng = Random(1)  # noqa: S311 - a fixed seed, for jitter
    walk = Walk(
        make_plan(CONFIG, State(), CONFIG.keys[0], Ask("m"), 0.0, rng), CONFIG, State(), rng
    )
    legs: list[Leg] = []

    async def silent(leg: Leg) -> None:
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        assert await run_race(nursery, walk, silent, legs) is None
    assert {leg.failure.kind for leg in legs if leg.failure} == {Kind.EMPTY}
    assert len(legs) == HOSTS
