"""A race that nobody waits for any more."""

from __future__ import annotations

from random import Random

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.kit.world import config_of
from uniapi.events import Batch, Text
from uniapi.race import Leg, run_race
from uniapi.routing.plan import Ask, make_plan
from uniapi.routing.walk import Walk
from uniapi.state import State

CONFIG = config_of(
    "providers:\n  - {provider: p, base_url: 'http://p', model: [m]}\n"
    "api_keys:\n  - api: sk-law-0000\n"
)


async def test_who_comes_in_when_the_race_was_given_up_does_not_commit(
    autojump_clock: MockClock,
) -> None:
    rng, state, legs = Random(1), State(), list[Leg]()  # noqa: S311 - a fixed seed, for jitter
    walk = Walk(make_plan(CONFIG, state, CONFIG.keys[0], Ask("m"), 0.0, rng), CONFIG, state, rng)
    answered = trio.Event()

    async def translate(leg: Leg) -> None:
        await answered.wait()
        await leg.pass_on(Batch((Text("too late"),)))

    async def race() -> None:
        with given_up:
            await run_race(nursery, walk, translate, legs)

    given_up = trio.CancelScope()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(race)
        await wait_all_tasks_blocked()
        given_up.cancel()
        await wait_all_tasks_blocked()
        answered.set()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [leg.committed for leg in legs] == [False]
