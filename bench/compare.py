"""Contenders side by side: each on one core, load and provider on the others, in turn.

    python bench/compare.py                                   # a short comparison
    python bench/compare.py --full --report                   # all of it, into bench/RESULTS.md
    python bench/compare.py --contenders uniapi --tree ../before --scenarios json,burst,paced
    python bench/compare.py --contenders uniapi --vary DISABLE_DATABASE=true --scenarios json

All run at the same time, and are asked one after the other in every round: what the machine does
meanwhile falls on all of them. A figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import trio

from bench import fresh
from bench.contender import (
    Contender,
    Running,
    hello,
    litellm,
    naive,
    nginx,
    running,
    uniapi,
    with_orjson,
)
from bench.report import write
from bench.running import free_port, listening, started
from bench.scenarios import (
    CROWD,
    DIRECT,
    LATENCY,
    PLAN,
    SCENARIOS,
    START,
    TITLES,
    Scenario,
    load,
    sequential,
)
from bench.table import Table
from bench.targets import DATABASE_OFF, targets

_UPSTREAM: Final = Path(__file__).with_name("upstream.py")
_PAIRS: Final = 400  # of sequential calls a round
_STREAMS: Final = 1000
_MAKERS: Final[Mapping[str, Callable[[], Contender | None]]] = MappingProxyType(
    {"hello": hello, "naive": naive, "uniapi": uniapi, "orjson": with_orjson, "nginx": nginx}
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do.

    Attributes:
        contenders: in the order of the tables; ratios are to the first.
        scenarios: names out of `TITLES`.
        rounds: how many.
        scale: of the length of a round.
        settle: seconds connections have to go after the crowd.
        quiet: what the processes log is not shown.
    """

    contenders: tuple[Contender, ...]
    scenarios: frozenset[str]
    rounds: int = 3
    scale: float = 1.0
    settle: float = 1.0
    quiet: bool = True


def cores() -> tuple[frozenset[int], frozenset[int]]:
    """The core of the contenders and those of everything else; empty where they cannot differ."""
    if not hasattr(os, "sched_getaffinity"):
        return frozenset(), frozenset()
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:
        return frozenset(), frozenset()
    return frozenset(mine[-1:]), frozenset(mine[:-1])


async def until_told(choice: Choice) -> Table | None:
    """The comparison; None when SIGTERM or SIGINT ended it, and all that it started with it."""
    table: Table | None = None
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            table = await compare(choice)
            nursery.cancel_scope.cancel()
    return table


async def compare(choice: Choice) -> Table:
    """Run all of it, on the provider's core but for the contenders."""
    table = Table()
    theirs, ours = cores()
    if ours:
        os.sched_setaffinity(0, ours)
    else:
        _say("all share their cores: there is only one, or this system pins nothing\n")
    port = free_port()
    command = [sys.executable, str(_UPSTREAM), "--port", str(port)]
    async with started(command, quiet=choice.quiet) as upstream:
        await listening(port, upstream, healthy=False)
        await _fresh(table, choice, port, theirs)
        await _together(table, choice, port, theirs)
    return table


async def _fresh(table: Table, choice: Choice, port: int, theirs: frozenset[int]) -> None:
    """What each does in a process of its own."""
    if START in choice.scenarios:
        for number in range(1, choice.rounds + 3):  # each takes but a second or two
            for one in choice.contenders:
                _say(f"start {number}  {one.name}")
                figures = await fresh.start(one, port, cores=theirs, quiet=choice.quiet)
                table.add(START, one.name, figures)
    if PLAN in choice.scenarios:
        for one in choice.contenders:
            if one.plans:
                _say(f"plan  {one.name}")
                table.add(PLAN, one.name, await fresh.plans(one))
    if CROWD in choice.scenarios:
        _say(f"crowd  {DIRECT}")
        table.add(CROWD, DIRECT, await fresh.straight(port, _STREAMS))
        for one in choice.contenders:
            if one.proxies and one.many:
                _say(f"crowd  {one.name}")
                figures = await fresh.crowd(
                    one, port, _STREAMS, choice.settle, cores=theirs, quiet=choice.quiet
                )
                table.add(CROWD, one.name, figures)


async def _together(table: Table, choice: Choice, port: int, theirs: frozenset[int]) -> None:
    """What they do in turn."""
    chosen = [one for one in SCENARIOS if one.name in choice.scenarios]
    latency = LATENCY in choice.scenarios
    if not chosen and not latency:
        return
    direct = f"http://127.0.0.1:{port}/v1/chat/completions"
    async with AsyncExitStack() as stack:
        up = [
            await stack.enter_async_context(running(one, port, cores=theirs, quiet=choice.quiet))
            for one in choice.contenders
        ]
        for one in up:
            await _warm(chosen, one)
        for number in range(1, choice.rounds + 1):
            label = f"round {number}/{choice.rounds}"
            for scenario in chosen:
                await _round(table, scenario, direct, up, choice.scale, label)
            for one in up if latency else ():
                _say(f"{label}  {LATENCY}  {one.contender.name}")
                figures = await sequential(direct, one, pairs=int(_PAIRS * choice.scale))
                table.add(LATENCY, one.contender.name, figures)


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
        _say(f"{label}  {scenario.name}  {DIRECT}")
        straight = await load(scenario, direct, None, seconds=max(seconds / 2, scenario.ramp))
        table.add(scenario.name, DIRECT, straight)
    for one in up:
        if _takes(scenario, one.contender):
            _say(f"{label}  {scenario.name}  {one.contender.name}")
            figures = await load(scenario, one.url, one.pid, seconds=seconds)
            table.add(scenario.name, one.contender.name, figures)


def _say(text: str) -> None:
    """Where we are: on a terminal in one line."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
    elif text:
        sys.stderr.write(text if text.endswith("\n") else f"{text}\n")
    sys.stderr.flush()


_SHORT: Final = ("json", "burst", "paced", LATENCY)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Compare gateways on this machine.",
        epilog="Exits with 1 when a request failed; a target that is missed is only told.",
    )
    add = parser.add_argument
    names = ",".join(TITLES)
    add("--full", action="store_true", help="everything, in seven rounds: about 12 minutes")
    add("--contenders", metavar="NAMES", help=f"some of {','.join(_MAKERS)}")
    add("--scenarios", metavar="NAMES", help=f"some of {names}; default {','.join(_SHORT)}")
    add("--rounds", type=int)
    add("--scale", type=float, default=1.0, help="of the length of a round")
    add("--tree", type=Path, action="append", default=[], help="uniapi from another checkout too")
    add(
        "--vary",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="uniapi with this in its environment too",
    )
    add("--litellm", action="store_true", help="LiteLLM too, installed in bench/.litellm")
    add("--report", action="store_true", help="write bench/RESULTS.md and bench/results.svg")
    add("--json", type=Path, metavar="FILE", help="write every round's figures")
    add("--verbose", action="store_true", help="show what the processes log")
    return parser


def _choice(args: argparse.Namespace) -> Choice:
    """What the command line asks for.

    Raises:
        ValueError: for a name that is none, or a tree that has no uniapi.
    """
    contenders = args.contenders or (
        "hello,naive,uniapi,orjson,nginx" if args.full else "hello,naive,uniapi"
    )
    scenarios = args.scenarios or ",".join(TITLES if args.full else _SHORT)
    if unknown := set(scenarios.split(",")) - set(TITLES):
        raise ValueError(f"{min(unknown)} is no scenario")
    rounds = args.rounds or (7 if args.full else 3)
    if rounds < 1 or not 0.1 <= args.scale <= 100:
        raise ValueError("at least one round, at a scale of 0.1 to 100")
    varied = args.vary or ([DATABASE_OFF] if args.full else [])
    return Choice(
        contenders=_contenders(contenders.split(","), args.tree, varied, args.litellm),
        scenarios=frozenset(scenarios.split(",")),
        rounds=rounds,
        scale=args.scale,
        settle=40.0 if args.full else 1.0,
        quiet=not args.verbose,
    )


def _contenders(
    names: list[str], trees: list[Path], varied: list[str], with_litellm: bool
) -> tuple[Contender, ...]:
    found: list[Contender] = []
    for name in names:
        if name not in _MAKERS:
            raise ValueError(f"{name} is no contender")
        if there := _MAKERS[name]():
            found.append(there)
        else:
            _say(f"{name} is not installed: left out\n")
    for tree in trees:
        path = tree.resolve()
        if not (path / "uniapi" / "__main__.py").exists():
            raise ValueError(f"{tree} has no uniapi")
        found.append(uniapi(f"uniapi@{path.name}", tree=path))
    for vary in varied:
        name, equals, value = vary.partition("=")
        if not equals:
            raise ValueError(f"{vary} is not NAME=VALUE")
        found.append(uniapi(f"uniapi {vary}", env={name: value}))
    return (*found, *([litellm(_say)] if with_litellm else []))


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = _arguments()
    args = parser.parse_args(argv)
    try:
        choice = _choice(args)
    except ValueError as problem:
        parser.error(str(problem))
    busy = os.getloadavg()[0]
    table = trio.run(until_told, choice)
    _say("")
    if table is None:
        return 130
    print("\n".join(table.lines()))
    print("\n" + "\n".join(targets(table)))
    if args.json:
        args.json.write_text(json.dumps(table.plain(), indent=1))
    if args.report:
        write(table, argv if argv is not None else sys.argv[1:], busy)
    return 1 if table.errors else 0


if __name__ == "__main__":
    sys.exit(main())
