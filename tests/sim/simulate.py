"""The whole gateway on a virtual clock, against a scenario drawn from a seed.

`python -m tests.sim.simulate --seeds 2000` runs the seeds 0 to 1999 and prints those that broke a
promise; `--seed 7` replays one, with the gateway's log. Nothing here is random but the seed.
"""

from __future__ import annotations

import argparse
import io
import sys
import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from random import Random

import trio
import trio.testing

from tests.kit.wire import Heard
from tests.kit.world import World
from tests.sim.scenario import KEY, TEXT, Scenario, Visit, draw
from uniapi import log
from uniapi.alarm import Alarm
from uniapi.codec import loads
from uniapi.demo import Behaviour, Provider, Request
from uniapi.upstream.client import CONNECT_TIMEOUT

MAX_ATTEMPTS = 10
TICK = 1e-6


@dataclass
class Outcome:
    """What one client got; `heard` is None when it left first."""

    visit: Visit
    heard: Heard | None = None
    took: float = 0.0


class BrokenPromiseError(AssertionError):
    """An invariant that did not hold."""


def require(held: object, promise: str, *facts: object) -> None:
    """Hold a promise."""
    if not held:
        raise BrokenPromiseError(f"{promise}: {facts}")


async def play(scenario: Scenario) -> list[Outcome]:
    """Run the scenario and hold every promise."""
    outcomes: list[Outcome] = []
    async with trio.open_nursery() as nursery:
        world = World(nursery)
        providers = [people(world, scenario, host) for host in scenario.hosts]
        world.start(scenario.config)
        Alarm(trio.CancelScope()).move(0.0)  # their watch is a task of the whole run
        before = trio.lowlevel.current_statistics().tasks_living
        async with trio.open_nursery() as clients:
            for visit in scenario.visits:
                outcome = Outcome(visit)
                outcomes.append(outcome)
                clients.start_soon(come, world, outcome)
        await trio.testing.wait_all_tasks_blocked()
        await at_rest(world, providers, before)
        nursery.cancel_scope.cancel()
    for outcome in outcomes:
        honest(outcome)
    bounded(scenario, providers, outcomes)
    return outcomes


def people(world: World, scenario: Scenario, host: str) -> Provider:
    """Put a provider into the world that behaves anew at every request."""
    rng = Random(f"{scenario.seed}/{host}")  # noqa: S311 - part of the scenario

    def behave(request: Request) -> Behaviour:
        return scenario.behaviour(rng)

    provider = Provider(behave)
    world.network.providers[host] = provider
    return provider


async def come(world: World, outcome: Outcome) -> None:
    """One client: ask, and listen or leave."""
    visit = outcome.visit
    await trio.sleep(visit.at)
    began = trio.current_time()
    wire = world.connect()
    headers = {"x_uniapi_deadline": f"{visit.deadline:g}s"} if visit.deadline else {}
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": visit.stream,
    }
    await wire.send(body, authorization=f"Bearer {KEY}", **headers)  # type: ignore[arg-type] # Json, as literals
    with trio.move_on_after(visit.leaves if visit.leaves is not None else 10_000):
        outcome.heard = await wire.hear()
    outcome.took = trio.current_time() - began
    await wire.stream.aclose()


async def at_rest(world: World, providers: list[Provider], before: int) -> None:
    """When everybody has gone, nothing is left."""
    require(world.server.open_connections == 0, "no client connection is left")
    for host, provider in zip("abcd", providers, strict=False):
        require(provider.active == 0, "no provider is still answering", host)
    await world.gateway.client.aclose()
    await trio.testing.wait_all_tasks_blocked()
    require(all(p.open_connections == 0 for p in providers), "every connection can be closed")
    # A provider whose peer has gone may finish its pause before it looks.
    await trio.sleep(40)
    living = trio.lowlevel.current_statistics().tasks_living
    require(living <= before, "no task is left", living, before)


def honest(outcome: Outcome) -> None:
    """One answer or one error; never half an answer dressed as whole."""
    heard = outcome.heard
    if heard is None:
        require(outcome.visit.leaves is not None, "who does not leave is answered", outcome)
        return
    require(heard.ended == "whole", "HTTP ends well", heard)
    if heard.status != 200:
        match heard.json():
            case {"error": {"message": str(), "type": str(), "param": _, "code": _}}:
                return
            case other:
                raise BrokenPromiseError(f"an error is OpenAI's error object: {other}")
    if not outcome.visit.stream:
        match heard.json():
            case {"choices": [{"message": {"content": str(text)}}]}:
                require(text == TEXT, "a whole answer is whole", text)
            case other:
                raise BrokenPromiseError(f"an answer is an answer: {other}")
        return
    events = heard.events()
    done = bool(events) and events[-1] == b"[DONE]"
    text = heard.text()
    if done:
        require(text == TEXT, "what ends with [DONE] is whole", text)
        finishes = [event for event in events[:-1] if b'"finish_reason":"' in event]
        require(len(finishes) == 1, "one finish reason", finishes)
        return
    require(TEXT.startswith(text), "what was sent was part of the answer", text)
    match loads(events[-1]):
        case {"error": {"message": str(), "code": str()}}:
            pass
        case other:
            raise BrokenPromiseError(f"a failed stream ends with its error: {other}")


def bounded(scenario: Scenario, providers: list[Provider], outcomes: list[Outcome]) -> None:
    """Attempts, deadlines and limits."""
    asked = sum(len(provider.requests) for provider in providers)
    require(asked <= MAX_ATTEMPTS * len(outcomes), "attempts are bounded", asked)
    slowest = MAX_ATTEMPTS * (scenario.first + CONNECT_TIMEOUT + 3) + 60 * scenario.idle
    for outcome in outcomes:
        require(outcome.took <= slowest, "no request lasts for ever", outcome)
        deadline = outcome.visit.deadline
        if deadline is not None and outcome.heard is not None and outcome.heard.status == 200:
            require(outcome.took <= deadline + TICK, "a deadline is kept", outcome)
    for host, provider in zip(scenario.hosts, providers, strict=True):
        if host not in scenario.windows:
            continue
        limit, seconds = scenario.windows[host]
        for key in {seen.headers.get("authorization") for seen in provider.requests}:
            times = [s.time for s in provider.requests if s.headers.get("authorization") == key]
            for start in times:
                within = sum(start <= time < start + seconds for time in times)
                require(within <= limit, "a window admits no more than its number", host, times)


def run(seed: int) -> str | None:
    """Play one seed; what broke, or None."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    try:
        trio.run(play, draw(seed), clock=clock)
    except BaseException:  # noqa: BLE001 - whatever it is, the seed tells it again
        return traceback.format_exc()
    return None


def run_quietly(seed: int) -> tuple[int, str | None]:
    """Play one seed in a worker process."""
    log.configure(level="error", stream=io.StringIO())
    return seed, run(seed)


def main() -> int:
    """Run a range of seeds, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many, from 0")
    parser.add_argument("--seed", type=int, help="this one only, with the gateway's log")
    options = parser.parse_args()
    if options.seed is not None:
        log.configure(level="debug")
        trouble = run(options.seed)
        sys.stdout.write(trouble or f"seed {options.seed} held every promise\n")
        return 1 if trouble else 0
    broken = 0
    with ProcessPoolExecutor() as pool:
        for seed, trouble in pool.map(run_quietly, range(options.seeds), chunksize=20):
            if trouble is not None:
                broken += 1
                replay = f"python -m tests.sim.simulate --seed {seed}"
                sys.stdout.write(f"seed {seed} broke a promise:\n{trouble}\nreplay: {replay}\n\n")
    sys.stdout.write(f"{options.seeds - broken} of {options.seeds} seeds held every promise\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
