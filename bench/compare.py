"""Contenders side by side: each on one core, load and provider on the others, in turn.

    python bench/compare.py                                   # hello, naive, uniapi, nginx
    python bench/compare.py --contenders uniapi --tree ../before --scenarios json,burst,paced
    python bench/compare.py --contenders uniapi --vary DISABLE_DATABASE=true --rounds 5

All run at the same time, and are asked one after the other in every round: what the machine does
meanwhile falls on all of them. A figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import trio

from bench.contender import Contender, Running, hello, naive, nginx, running, uniapi
from bench.running import free_port, listening, started
from bench.scenarios import SCENARIOS, Figures, Scenario, load, sequential

_UPSTREAM: Final = Path(__file__).with_name("upstream.py")
_DEFAULT: Final = "hello,naive,uniapi,nginx"
_LATENCY: Final = "latency"
_MAKERS: Final[Mapping[str, Callable[[], Contender | None]]] = MappingProxyType(
    {"hello": hello, "naive": naive, "uniapi": uniapi, "nginx": nginx}
)
_DIRECT: Final = "direct"
_PAIRS: Final = 400


@dataclass(slots=True)
class Table:
    """Figures of many rounds, by scenario and contender."""

    rows: dict[str, dict[str, list[Figures]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, scenario: str, contender: str, figures: Figures) -> None:
        """One round's."""
        self.rows[scenario][contender].append(figures)

    def median(self, scenario: str, contender: str, name: str) -> float | None:
        """Of all rounds that have this figure."""
        rounds = self.rows.get(scenario, {}).get(contender, [])
        found = [figures[name] for figures in rounds if name in figures]
        return statistics.median(found) if found else None

    @property
    def errors(self) -> int:
        """Of all rounds."""
        return sum(
            int(figures["errors"])
            for contenders in self.rows.values()
            for rounds in contenders.values()
            for figures in rounds
        )


def cores() -> tuple[frozenset[int], frozenset[int]]:
    """The core of the contenders and those of everything else; empty where they cannot differ."""
    if not hasattr(os, "sched_getaffinity"):
        return frozenset(), frozenset()
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:
        return frozenset(), frozenset()
    return frozenset(mine[-1:]), frozenset(mine[:-1])


async def compare(
    contenders: list[Contender], scenarios: list[str], *, rounds: int, scale: float, quiet: bool
) -> Table:
    """Run all of it."""
    table = Table()
    theirs, ours = cores()
    if ours:
        os.sched_setaffinity(0, ours)
    else:
        _say("all share their cores: there is only one, or this system pins nothing")
    port = free_port()
    async with AsyncExitStack() as stack:
        command = [sys.executable, str(_UPSTREAM), "--port", str(port)]
        upstream = await stack.enter_async_context(started(command, quiet=quiet))
        await listening(port, upstream, healthy=False)
        direct = f"http://127.0.0.1:{port}/v1/chat/completions"
        up = [
            await stack.enter_async_context(running(one, port, cores=theirs, quiet=quiet))
            for one in contenders
        ]
        chosen = [one for one in SCENARIOS if one.name in scenarios]
        for one in up:
            await _warm(chosen, one)
        for number in range(1, rounds + 1):
            for scenario in chosen:
                await _round(table, scenario, direct, up, scale, f"round {number}/{rounds}")
            if _LATENCY in scenarios:
                for one in up:
                    _say(f"round {number}/{rounds}  {_LATENCY}  {one.contender.name}")
                    figures = await sequential(direct, one, pairs=int(_PAIRS * scale))
                    table.add(_LATENCY, one.contender.name, figures)
    return table


def _takes(scenario: Scenario, contender: Contender) -> bool:
    """Whether it has answers of this kind."""
    if scenario.translated and not contender.translates:
        return False
    return contender.proxies or scenario.workload in ("json", "burst")


async def _warm(scenarios: list[Scenario], one: Running) -> None:
    """What is loaded and compiled at the first requests is nobody's cost of a call."""
    for scenario in scenarios:
        if _takes(scenario, one.contender):
            _say(f"warming  {scenario.name}  {one.contender.name}")
            await load(scenario, one.url, None, seconds=min(0.3, scenario.seconds))


async def _round(
    table: Table, scenario: Scenario, direct: str, up: list[Running], scale: float, label: str
) -> None:
    seconds = scenario.seconds * scale
    if not scenario.translated:
        _say(f"{label}  {scenario.name}  {_DIRECT}")
        straight = await load(scenario, direct, None, seconds=seconds / 2)
        table.add(scenario.name, _DIRECT, straight)
    for one in up:
        if _takes(scenario, one.contender):
            _say(f"{label}  {scenario.name}  {one.contender.name}")
            figures = await load(scenario, one.url, one.pid, seconds=seconds)
            table.add(scenario.name, one.contender.name, figures)


def _say(text: str) -> None:
    """Where we are, on a terminal in one line."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
    else:
        sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


_COLUMNS: Final = (
    ("cpu per call", "CPU per call, us", 1e6),
    ("cpu per chunk", "CPU per chunk, us", 1e6),
    ("rate", "a second", 1),
    ("latency p50", "latency p50, ms", 1e3),
    ("latency p99", "p99, ms", 1e3),
    ("ttft p50", "TTFT p50, ms", 1e3),
    ("jitter p99", "jitter p99, ms", 1e3),
    ("added p50", "added p50, ms", 1e3),
    ("added p99", "added p99, ms", 1e3),
)


def lines(table: Table) -> list[str]:
    """The medians, a table a scenario; ratios are of CPU per call, to the first contender's."""
    found: list[str] = []
    titles = {scenario.name: scenario.title for scenario in SCENARIOS}
    for scenario, contenders in table.rows.items():
        shown = [
            (name, title, factor)
            for name, title, factor in _COLUMNS
            if any(table.median(scenario, one, name) is not None for one in contenders)
        ]
        found += ["", f"### {scenario}: {titles.get(scenario, 'JSON call, one at a time')}", ""]
        found.append("| | " + " | ".join(title for _, title, _ in shown) + " | ratio | errors |")
        found.append("|---" * (len(shown) + 3) + "|")
        first = next((c for c in contenders if c != _DIRECT), _DIRECT)
        base = table.median(scenario, first, "cpu per call")
        for one, rounds in contenders.items():
            cells = []
            for name, _, factor in shown:
                value = table.median(scenario, one, name)
                cells.append("" if value is None else f"{value * factor:.4g}")
            mine = table.median(scenario, one, "cpu per call")
            cells.append(f"{mine / base:.3f}" if mine and base else "")
            cells.append(str(int(sum(figures["errors"] for figures in rounds))))
            found.append(f"| {one} | " + " | ".join(cells) + " |")
    return found


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Compare gateways on this machine.", epilog="Exits with 1 after any error."
    )
    names = ",".join([*(scenario.name for scenario in SCENARIOS), _LATENCY])
    parser.add_argument("--contenders", default=_DEFAULT, metavar="NAMES")
    parser.add_argument("--scenarios", default=names, metavar="NAMES", help=f"some of {names}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the length of a round")
    parser.add_argument(
        "--tree", type=Path, action="append", default=[], help="uniapi from another checkout too"
    )
    parser.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="uniapi with this in its environment too",
    )
    parser.add_argument("--verbose", action="store_true", help="show what the processes log")
    return parser


def _contenders(args: argparse.Namespace) -> list[Contender]:
    """Those that were asked for.

    Raises:
        ValueError: for a name that is none, or a tree that has no uniapi.
    """
    found: list[Contender] = []
    for name in args.contenders.split(","):
        if name not in _MAKERS:
            raise ValueError(f"{name} is no contender")
        if there := _MAKERS[name]():
            found.append(there)
        else:
            _say(f"{name} is not installed: left out\n")
    for tree in args.tree:
        path = tree.resolve()
        if not (path / "uniapi" / "__main__.py").exists():
            raise ValueError(f"{tree} has no uniapi")
        found.append(uniapi(f"uniapi@{path.name}", tree=path))
    for vary in args.vary:
        name, equals, value = vary.partition("=")
        if not equals:
            raise ValueError(f"{vary} is not NAME=VALUE")
        found.append(uniapi(f"uniapi {vary}", env={name: value}))
    return found


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = _arguments()
    args = parser.parse_args(argv)
    try:
        contenders = _contenders(args)
    except ValueError as problem:
        parser.error(str(problem))

    async def whole() -> Table:
        return await compare(
            contenders,
            args.scenarios.split(","),
            rounds=args.rounds,
            scale=args.scale,
            quiet=not args.verbose,
        )

    table = trio.run(whole)
    _say("")
    print("\n".join(lines(table)))
    return 1 if table.errors else 0


if __name__ == "__main__":
    sys.exit(main())
