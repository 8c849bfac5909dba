"""What was promised, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.scenarios import CROWD, DIRECT, LATENCY, PLAN, START
from bench.table import Table, figure

_OURS: Final = "uniapi"
DATABASE_OFF: Final = "DISABLE_DATABASE=true"


@dataclass(frozen=True, slots=True)
class Target:
    """One promise.

    Attributes:
        what: is measured.
        most: in `unit`; the value may be equal.
        unit: of `most` and of what `values` gives.
        values: out of a comparison, one a round; empty when it was not measured.
    """

    what: str
    most: float
    unit: str
    values: Callable[[Table], list[float]]


def _of(scenario: str, name: str, factor: float) -> Callable[[Table], list[float]]:
    return lambda table: [value * factor for value in table.values(scenario, _OURS, name)]


def _added_ttft(table: Table) -> list[float]:
    return [value * 1e3 for value in table.added("paced", _OURS, DIRECT, "ttft p50")]


TARGETS: Final = (
    Target(
        "JSON call, CPU over the bare hypercorn hello",
        2.0,
        "x",
        lambda table: table.ratios("json", _OURS, "hello", "cpu per call"),
    ),
    Target("burst chunk, same dialect", 25, "us", _of("burst", "cpu per chunk", 1e6)),
    Target("burst chunk, from Anthropic", 45, "us", _of("burst-translated", "cpu per chunk", 1e6)),
    Target(
        "paced chunk (20 ms, 100 streams), same dialect",
        100,
        "us",
        _of("paced", "cpu per chunk", 1e6),
    ),
    Target("paced chunk, from Anthropic", 120, "us", _of("paced-translated", "cpu per chunk", 1e6)),
    Target("added latency, sequential JSON call, p50", 1.2, "ms", _of(LATENCY, "added p50", 1e3)),
    Target("added latency, p99", 3, "ms", _of(LATENCY, "added p99", 1e3)),
    Target("added time to first token, p50, 100 paced streams", 5, "ms", _added_ttft),
    Target("1,000 paced streams: errors", 0, "", _of(CROWD, "errors", 1)),
    Target("1,000 paced streams: jitter p99", 60, "ms", _of(CROWD, "jitter p99", 1e3)),
    Target("idle RSS", 50, "MB", _of(START, "rss idle", 1e-6)),
    Target("RSS per open stream", 60, "KB", _of(CROWD, "rss a stream", 1e-3)),
    Target("start to listening, 100-line config", 0.7, "s", _of(START, "start", 1)),
    Target("plan, 100 x 50 x 200", 30, "us", _of(PLAN, "plan full", 1e6)),
    Target(
        "JSON call, CPU with the database over without",
        1.05,
        "x",
        lambda table: table.ratios("json", _OURS, f"{_OURS} {DATABASE_OFF}", "cpu per call"),
    ),
)


def targets(table: Table) -> list[str]:
    """In Markdown, a line for each that was measured: the median, and what the rounds lay between.

    The median decides. Where the rounds lie on both sides of the target, the run is too noisy to
    tell, and that is said.
    """
    found = ["| uniapi | at most | measured | rounds | |", "|---|---|---|---|---|"]
    for one in TARGETS:
        values = one.values(table)
        if values:
            unit = f" {one.unit}" if one.unit else ""
            between = f"{figure(min(values))} to {figure(max(values))}" if len(values) > 1 else ""
            measured = f"{figure(median(values))}{unit}"
            row = (one.what, f"{one.most:g}{unit}", measured, between, _verdict(one.most, values))
            found.append(f"| {' | '.join(row)} |")
    return found if len(found) > 2 else []


def _verdict(most: float, values: list[float]) -> str:
    word = "met" if median(values) <= most else "**missed**"
    return word if (min(values) <= most) == (max(values) <= most) else f"{word}, not in every round"
