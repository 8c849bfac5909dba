"""What was promised, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
        unit: of `most` and of what `value` gives.
        value: out of a comparison; None when it was not measured.
    """

    what: str
    most: float
    unit: str
    value: Callable[[Table], float | None]


def _median(scenario: str, name: str, factor: float) -> Callable[[Table], float | None]:
    def value(table: Table) -> float | None:
        found = table.median(scenario, _OURS, name)
        return None if found is None else found * factor

    return value


def _added_ttft(table: Table) -> float | None:
    found = table.added("paced", _OURS, DIRECT, "ttft p50")
    return None if found is None else found * 1e3


TARGETS: Final = (
    Target(
        "JSON call, CPU over the bare hypercorn hello",
        2.0,
        "x",
        lambda table: table.ratio("json", _OURS, "hello", "cpu per call"),
    ),
    Target("burst chunk, same dialect", 25, "us", _median("burst", "cpu per chunk", 1e6)),
    Target(
        "burst chunk, from Anthropic", 45, "us", _median("burst-translated", "cpu per chunk", 1e6)
    ),
    Target(
        "paced chunk (20 ms, 100 streams), same dialect",
        100,
        "us",
        _median("paced", "cpu per chunk", 1e6),
    ),
    Target(
        "paced chunk, from Anthropic", 120, "us", _median("paced-translated", "cpu per chunk", 1e6)
    ),
    Target(
        "added latency, sequential JSON call, p50", 1.2, "ms", _median(LATENCY, "added p50", 1e3)
    ),
    Target("added latency, p99", 3, "ms", _median(LATENCY, "added p99", 1e3)),
    Target("added time to first token, p50, 100 paced streams", 5, "ms", _added_ttft),
    Target("1,000 paced streams: errors", 0, "", _median(CROWD, "errors", 1)),
    Target("1,000 paced streams: jitter p99", 60, "ms", _median(CROWD, "jitter p99", 1e3)),
    Target("idle RSS", 50, "MB", _median(START, "rss idle", 1e-6)),
    Target("RSS per open stream", 60, "KB", _median(CROWD, "rss a stream", 1e-3)),
    Target("start to listening, 100-line config", 0.7, "s", _median(START, "start", 1)),
    Target("plan, 100 x 50 x 200", 30, "us", _median(PLAN, "plan full", 1e6)),
    Target(
        "JSON call, CPU with the database over without",
        1.05,
        "x",
        lambda table: table.ratio("json", _OURS, f"{_OURS} {DATABASE_OFF}", "cpu per call"),
    ),
)


def targets(table: Table) -> list[str]:
    """In Markdown, a line for each that was measured."""
    found = ["| uniapi | at most | measured | |", "|---|---|---|---|"]
    for one in TARGETS:
        value = one.value(table)
        if value is not None:
            word = "met" if value <= one.most else "**missed**"
            unit = f" {one.unit}" if one.unit else ""
            found.append(f"| {one.what} | {one.most:g}{unit} | {figure(value)}{unit} | {word} |")
    return found if len(found) > 2 else []
