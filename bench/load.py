"""Load on an OpenAI endpoint of this machine.

    python bench/load.py http://127.0.0.1:8000/v1/chat/completions --connections 50 --requests 1000
    python bench/load.py ... --rate 200 --duration 10 --stream --pid 4711 --json

A closed loop asks again when an answer is there; an open loop asks by the clock, come what may, and
counts latency from when a request was due, so that a slow server cannot hide behind its own delay.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import sys
from dataclasses import asdict, dataclass
from typing import Final

import trio

from bench.client import Client, Result, Target, target
from bench.figures import Summary
from bench.process import Cost, cost, resident
from bench.tally import Process, Report, Tally
from bench.workloads import said

_AT_ONCE: Final = 5_000  # open loop: more than this in flight counts as an error of its own
_MOST_REQUESTS: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How to load.

    Attributes:
        connections: closed loop: how many ask at the same time.
        requests: closed loop: how many in all, at most.
        seconds: closed loop: after so many nothing new is asked; None for no end but `requests`.
        ramp: closed loop: seconds over which the connections begin, so that streams of one
            length do not go on in step for ever.
        rate: open loop: requests a second; None means a closed loop.
        duration: open loop: seconds.
        request_timeout: seconds for one request.
        timeout: seconds for all of it; what is unfinished then is an error.
        pids: processes to watch.
        gap: seconds from chunk to chunk as the provider means them; 0 when it means none.
    """

    connections: int = 10
    requests: int = 100
    seconds: float | None = None
    ramp: float = 0.0
    rate: float | None = None
    duration: float = 10.0
    request_timeout: float = 60.0
    timeout: float = 300.0
    pids: tuple[int, ...] = ()
    gap: float = 0.0


async def run(aim: Target, plan: Plan, *, progress: bool = True) -> Report:
    """Load the target as planned.

    Raises:
        ProcessLookupError: for a process id that is none at the start.
    """
    tally = Tally()
    before = {pid: cost(pid) for pid in plan.pids}
    peaks = {pid: start.rss for pid, start in before.items()}
    begun = trio.current_time()
    client = Client(aim)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, tally, peaks, begun, progress)
        with trio.move_on_after(plan.timeout):
            await (
                _closed(client, plan, tally) if plan.rate is None else _open(client, plan, tally)
            )
        nursery.cancel_scope.cancel()
    if unfinished := tally.started - tally.ended:
        tally.errors["unfinished"] += unfinished
    seconds = trio.current_time() - begun
    await client.aclose()
    processes: list[Process] = []
    for pid, start in before.items():
        try:
            processes.append(_process(pid, start, peaks[pid]))
        except ProcessLookupError:
            tally.errors[f"process {pid} ended"] += 1
    return Report(
        tally.started,
        tally.right,
        dict(tally.errors),
        seconds,
        Summary.of(tally.latencies),
        Summary.of(tally.ttfts),
        Summary.of(tally.gaps),
        Summary.of(abs(gap - plan.gap) for gap in tally.gaps) if plan.gap else Summary(0),
        tuple(processes),
    )


def _process(pid: int, before: Cost, peak: int) -> Process:
    after = cost(pid)
    return Process(
        pid,
        after.cpu - before.cpu,
        before.rss,
        after.rss,
        max(peak, after.rss),
        before.fds,
        after.fds,
    )


async def _closed(client: Client, plan: Plan, tally: Tally) -> None:
    tickets = iter(range(plan.requests))
    begun = trio.current_time()
    end = begun + (math.inf if plan.seconds is None else plan.seconds)
    workers = min(plan.connections, plan.requests)

    async def worker(number: int) -> None:
        await trio.sleep_until(begun + plan.ramp * number / workers)
        for _ in tickets:
            if trio.current_time() >= end:
                return
            tally.started += 1
            tally.add(await client.ask(trio.current_time(), plan.request_timeout))

    async with trio.open_nursery() as nursery:
        for number in range(workers):
            nursery.start_soon(worker, number)


async def _open(client: Client, plan: Plan, tally: Tally) -> None:
    rate = plan.rate or 1.0
    begun = trio.current_time()

    async def one(due: float) -> None:
        tally.add(await client.ask(due, plan.request_timeout))

    async with trio.open_nursery() as nursery:
        for number in itertools.count():
            due = begun + number / rate
            if due >= begun + plan.duration:
                return
            await trio.sleep_until(due)
            tally.started += 1
            if tally.started - tally.ended > _AT_ONCE:
                tally.add(Result(error="too many at once"))
            else:
                nursery.start_soon(one, due)


async def _watch(tally: Tally, peaks: dict[int, int], begun: float, progress: bool) -> None:
    """Four times a second the peak of memory; once a second a line on stderr."""
    for quarter in itertools.count(1):
        await trio.sleep_until(begun + quarter / 4)
        for pid, peak in peaks.items():
            with contextlib.suppress(ProcessLookupError):  # said at the end
                peaks[pid] = max(peak, resident(pid))
        if progress and quarter % 4 == 0:
            open_ = tally.started - tally.ended
            errors = sum(tally.errors.values())
            line = f"{quarter // 4} s: {tally.right} right, {errors} errors, {open_} open"
            print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Load an OpenAI endpoint on loopback.",
        epilog="Exits with 1 when a request failed or an answer was wrong, 2 for wrong arguments.",
    )
    parser.add_argument("url", help="http://127.0.0.1:8000/v1/chat/completions")
    parser.add_argument("--key", default="sk-demo")
    parser.add_argument("--model", default="ok")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--connections", type=int, default=10, help="closed loop: at once")
    parser.add_argument("--requests", type=int, default=100, help="closed loop: in all")
    parser.add_argument("--seconds", type=float, help="closed loop: ask nothing new after these")
    parser.add_argument(
        "--ramp", type=float, default=0.0, metavar="SECONDS", help="closed loop: begin over these"
    )
    parser.add_argument(
        "--gap", type=float, default=0.0, metavar="SECONDS", help="between chunks, for jitter"
    )
    parser.add_argument("--rate", type=float, help="open loop: requests a second")
    parser.add_argument("--duration", type=float, default=10.0, help="open loop: seconds")
    parser.add_argument("--request-timeout", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS")
    parser.add_argument("--pid", type=int, action="append", default=[], help="watch a process")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")
    text = parser.add_mutually_exclusive_group()
    text.add_argument("--any-text", action="store_true", help="do not compare the text")
    text.add_argument("--expect", metavar="TEXT", help="what every answer must say")
    text.add_argument(
        "--behaviour",
        default="ok",
        metavar="NAME",
        help="the workload or scripted behaviour behind the model, whose text is expected",
    )
    return parser


def _expected(args: argparse.Namespace) -> str | None:
    if args.any_text:
        return None
    text: str | None = args.expect
    return said(args.behaviour) if text is None else text


def _plan(args: argparse.Namespace) -> Plan:
    """The plan of a command line.

    Raises:
        ValueError: for numbers no run can be made of.
    """
    requests = args.requests if args.rate is None else (args.rate * args.duration)
    if not 0 < requests <= _MOST_REQUESTS or args.connections < 1:
        raise ValueError(f"between 1 and {_MOST_REQUESTS} requests, please")
    return Plan(
        connections=args.connections,
        requests=args.requests,
        seconds=args.seconds,
        ramp=args.ramp,
        rate=args.rate,
        duration=args.duration,
        request_timeout=args.request_timeout,
        timeout=args.timeout,
        pids=tuple(args.pid),
        gap=args.gap,
    )


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = _arguments()
    args = parser.parse_args(argv)
    try:
        plan = _plan(args)
        expected = _expected(args)
        aim = target(
            args.url, key=args.key, model=args.model, stream=args.stream, expected=expected
        )
        for pid in plan.pids:
            cost(pid)
    except (ValueError, LookupError) as problem:
        parser.error(str(problem))
    except ProcessLookupError as problem:
        parser.error(str(problem))
    report = trio.run(run, aim, plan)
    print(json.dumps(asdict(report)) if args.json else "\n".join(report.lines()))
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
