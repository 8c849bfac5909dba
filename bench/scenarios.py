"""What is measured under load, and the figures of one round."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import trio

from bench.client import Client, Target, target
from bench.contender import KEY, Running
from bench.figures import percentile
from bench.load import Plan, run
from bench.process import cost
from bench.tally import Report
from bench.workloads import CHUNKS, said, workload

_TRANSLATED: Final = "translated-"
_NEVER: Final = 10_000_000  # requests: the round's seconds end it


@dataclass(frozen=True, slots=True)
class Scenario:
    """Closed-loop load of one kind.

    Attributes:
        name: on the command line.
        title: in the tables.
        workload: what is asked for.
        stream: whether as a stream.
        connections: how many ask at once.
        seconds: of one round.
        ramp: seconds over which they begin.
        translated: from Anthropic's dialect.
    """

    name: str
    title: str
    workload: str
    stream: bool
    connections: int
    seconds: float
    ramp: float = 0.0
    translated: bool = False

    @property
    def gap(self) -> float:
        """Seconds between two chunks; 0 where none are meant."""
        gap = workload(self.workload).gap
        return gap if self.stream and gap > 1e-6 else 0.0

    def aim(self, url: str) -> Target:
        """The target at this address."""
        model = f"{_TRANSLATED}{self.workload}" if self.translated else self.workload
        expected = said(self.workload)
        return target(url, key=KEY, model=model, stream=self.stream, expected=expected)


SCENARIOS: Final = (
    Scenario("json", "JSON call, 16 at once", "json", False, 16, 1.0),
    Scenario("burst", "52 chunks in a burst, 16 at once", "burst", True, 16, 1.0),
    Scenario(
        "burst-translated", "the same from Anthropic", "burst", True, 16, 1.0, translated=True
    ),
    Scenario("paced", "52 chunks 20 ms apart, 100 streams", "paced", True, 100, 2.0, 1.0),
    Scenario(
        "paced-translated",
        "the same from Anthropic",
        "paced",
        True,
        100,
        2.0,
        1.0,
        translated=True,
    ),
)

LATENCY: Final = "latency"
START: Final = "start"
CROWD: Final = "crowd"
PLAN: Final = "plan"
DIRECT: Final = "direct"  # the contender that is none: the load meets the provider
TITLES: Final = MappingProxyType(
    {
        **{scenario.name: scenario.title for scenario in SCENARIOS},
        LATENCY: "JSON call, one at a time, straight and through in turn",
        START: "a fresh process",
        CROWD: "1,000 streams at once, 80 chunks 100 ms apart",
        PLAN: "the plan of one request, in process",
    }
)

Figures = Mapping[str, float]


async def load(scenario: Scenario, url: str, pid: int | None, *, seconds: float) -> Figures:
    """One round; the figures by name, times in seconds."""
    plan = Plan(
        connections=scenario.connections,
        requests=_NEVER,
        seconds=seconds,
        ramp=scenario.ramp,
        timeout=seconds + 30,
        pids=() if pid is None else (pid,),
        gap=scenario.gap,
    )
    report = await run(scenario.aim(url), plan, progress=False)
    told(scenario.name, url, report)
    return MappingProxyType(_figures(scenario, report))


def told(what: str, url: str, report: Report) -> None:
    """Say on stderr what went wrong: a count in a table does not."""
    if report.errors:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in report.errors.items())
        print(f"\n{what} at {url}: {kinds}", file=sys.stderr)


def _figures(scenario: Scenario, report: Report) -> dict[str, float]:
    found: dict[str, float] = {
        "requests": report.requests,
        "errors": sum(report.errors.values()),
        "rate": report.right / report.seconds,
    }
    for name, summary in (
        ("latency", report.latency),
        ("ttft", report.ttft),
        ("jitter", report.jitter),
    ):
        for share, value in (("p50", summary.p50), ("p99", summary.p99)):
            if value is not None:
                found[f"{name} {share}"] = value
    for process in report.processes if report.right else ():
        found["cpu per call"] = process.cpu / report.right
        if scenario.stream:
            found["cpu per chunk"] = process.cpu / report.right / CHUNKS
    return found


async def sequential(direct: str, running: Running, *, pairs: int) -> Figures:
    """JSON calls one after another, straight and through in turn, so that both meet one machine."""
    aims = [
        target(url, key=KEY, model="json", stream=False, expected=said("json"))
        for url in (direct, running.url)
    ]
    clients = [Client(aim) for aim in aims]
    times: tuple[list[float], list[float]] = ([], [])
    errors = 0
    before = cost(running.pid).cpu
    for _ in range(pairs):
        for client, into in zip(clients, times, strict=True):
            result = await client.ask(trio.current_time(), 10)
            errors += result.error is not None
            into.append(result.latency)
    used = cost(running.pid).cpu - before
    for client in clients:
        await client.aclose()
    straight, through = (sorted(row) for row in times)
    found = {"requests": 2.0 * pairs, "errors": float(errors), "cpu per call": used / pairs}
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        base, with_it = percentile(straight, share), percentile(through, share)
        found |= {
            f"direct {name}": base,
            f"through {name}": with_it,
            f"added {name}": with_it - base,
        }
    return MappingProxyType(found)
