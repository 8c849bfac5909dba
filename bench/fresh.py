"""What is measured on processes of their own: the start, rest, a crowd of streams, and the plan."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Final

import trio

from bench.client import target
from bench.contender import KEY, Contender, running
from bench.load import Plan, run
from bench.process import Cost, cost
from bench.scenarios import Figures, told
from bench.tally import Report
from bench.workloads import said, workload

_REST: Final = 1.0  # seconds after the start until memory is looked at
_TIDY: Final = 2.0  # seconds more, for a process to give back what connections held
_RAMP: Final = 2.0  # seconds over which the streams begin; each takes 8
_CROWD: Final = "crowd"
_PLANNING: Final = Path(__file__).with_name("planning.py")


async def start(
    contender: Contender, upstream: int, *, cores: frozenset[int], quiet: bool
) -> Figures:
    """Seconds from starting it to its first answer, and its memory at rest."""
    async with running(contender, upstream, cores=cores, quiet=quiet) as one:
        await trio.sleep(_REST)
        return MappingProxyType({"start": one.seconds, "rss idle": float(cost(one.pid).rss)})


async def straight(upstream: int, streams: int) -> Figures:
    """The crowd without anybody between: the load's own jitter."""
    url = f"http://127.0.0.1:{upstream}/v1/chat/completions"
    return MappingProxyType(_figures(await _streams(url, streams, None)))


async def crowd(
    contender: Contender,
    upstream: int,
    streams: int,
    settle: float,
    *,
    cores: frozenset[int],
    quiet: bool,
) -> Figures:
    """So many streams at once through a fresh process, and what it still holds afterwards.

    Args:
        contender: who is measured.
        upstream: the provider's port.
        streams: how many.
        settle: seconds that idle connections have to go.
        cores: those it runs on.
        quiet: whether its errors are hidden.
    """
    async with running(contender, upstream, cores=cores, quiet=quiet) as one:
        await _streams(one.url, 20, None, model="burst")  # what is loaded once is no stream's
        before = cost(one.pid)
        report = await _streams(one.url, streams, one.pid)
        found = _figures(report)
        for process in report.processes:
            found["rss a stream"] = (process.rss_peak - process.rss_before) / streams
            found["cpu per call"] = process.cpu / streams
        await _settled(one.pid, before, settle)
        found["rss idle"] = float(before.rss)
        found["rss after"] = float(cost(one.pid).rss)
        return MappingProxyType(found)


async def _streams(url: str, count: int, pid: int | None, model: str = _CROWD) -> Report:
    aim = target(url, key=KEY, model=model, stream=True, expected=said(model))
    plan = Plan(
        connections=count,
        requests=count,
        ramp=_RAMP if pid or model == _CROWD else 0.0,
        timeout=60,
        pids=() if pid is None else (pid,),
        gap=workload(model).gap,
    )
    report = await run(aim, plan, progress=False)
    told("crowd", url, report)
    return report


def _figures(report: Report) -> dict[str, float]:
    found = {"requests": float(report.requests), "errors": float(sum(report.errors.values()))}
    times = (("ttft p50", report.ttft.p50), ("jitter p99", report.jitter.p99))
    return found | {name: value for name, value in times if value is not None}


async def _settled(pid: int, before: Cost, patience: float) -> None:
    """Return when as few sockets are open as before, or patience ends, and a little later."""
    with trio.move_on_after(patience):
        while (cost(pid).sockets or 0) > (before.sockets or 0):  # noqa: ASYNC110 - another process's
            await trio.sleep(0.1)
    await trio.sleep(min(_TIDY, patience))


async def plans(contender: Contender) -> Figures:
    """The seconds of a plan, by the size of the configuration, in this contender's own code.

    Raises:
        subprocess.CalledProcessError: its code does not plan that way.
    """
    process = await trio.run_process(
        [sys.executable, str(_PLANNING)],
        env={**os.environ, **contender.env},
        capture_stdout=True,
    )
    found: dict[str, float] = json.loads(process.stdout)
    return MappingProxyType({f"plan {size}": seconds for size, seconds in found.items()})
