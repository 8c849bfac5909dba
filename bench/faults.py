"""The sixteen faults met by a gateway process on loopback: `make faults`, `make faults FULL=1`.

All of them at once, each on a model of its own, through one gateway with one configuration.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from bench.running import free_port, listening
from bench.sixteen import FAST, FAULTS, FULL, Fault, Observed, Speed, Verdict, config, judge, plan
from bench.strict import Heard, ask
from uniapi.demo import Provider, serve

Connect = Callable[[], Awaitable[trio.abc.Stream]]


async def meet(fault: Fault, speed: Speed, connect: Connect, primary: Provider) -> Observed:
    """Make the requests of one fault, and a healthy one after them."""
    begun = trio.current_time()
    times = plan(fault, speed)
    answers: list[Heard | None] = [None] * len(times)

    async def one(number: int, at: float) -> None:
        await trio.sleep_until(begun + at)
        answers[number] = await ask(await connect(), f"fault-{fault.number}", fault.limit)

    async with trio.open_nursery() as nursery:
        for number, at in enumerate(times):
            nursery.start_soon(one, number, at)
    healthy = await ask(await connect(), "healthy", 10)
    faulty = f"fault-{fault.number}{speed.suffix}"
    return Observed(
        speed,
        [answer for answer in answers if answer is not None],
        [seen.time - begun for seen in primary.requests if seen.request.model == faulty],
        healthy.complete,
    )


@asynccontextmanager
async def gateway(text: str, env: dict[str, str]) -> AsyncIterator[Connect]:
    """A gateway process with this configuration; connects to it."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "api.yaml"
        path.write_text(text)
        command = [sys.executable, "-m", "uniapi", "serve", str(path), "--host", "127.0.0.1"]
        process = await trio.lowlevel.open_process(
            [*command, "--port", str(port)],
            env={**os.environ, **env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            await listening(port, process)

            async def connect() -> trio.abc.Stream:
                return await trio.open_tcp_stream("127.0.0.1", port)

            yield connect
        finally:
            process.terminate()
            with trio.CancelScope(shield=True):
                await process.wait()


async def run(speed: Speed) -> list[tuple[Fault, Observed, Verdict]]:
    """Meet all of them."""
    primary, fallback = Provider(), Provider()
    found: list[tuple[Fault, Observed, Verdict]] = []
    async with trio.open_nursery() as nursery:
        env = {}
        for name, provider in (("PRIMARY_URL", primary), ("FALLBACK_URL", fallback)):
            port = await nursery.start(serve, provider)
            env[name] = f"http://127.0.0.1:{port}/v1/chat/completions"
        async with gateway(config(speed), env) as connect, trio.open_nursery() as faults:

            async def one(fault: Fault) -> None:
                seen = await meet(fault, speed, connect, primary)
                found.append((fault, seen, judge(fault, seen)))

            for fault in FAULTS:
                faults.start_soon(one, fault)
        nursery.cancel_scope.cancel()
    return sorted(found, key=lambda one: one[0].number)


def table(found: list[tuple[Fault, Observed, Verdict]]) -> str:
    """The verdicts, a line each."""
    lines = ["| # | the primary | verdict | seconds | asked |", "|---|---|---|---|---|"]
    for fault, seen, verdict in found:
        word = f"{verdict.word}: {', '.join(verdict.why)}" if verdict.why else verdict.word
        slowest = max(answer.seconds for answer in seen.answers)
        lines.append(
            f"| {fault.number} | {fault.what} | {word} | {slowest:.1f} | {len(seen.primary)} |"
        )
    return "\n".join(lines)


def main() -> int:
    """The command line; 0 when all sixteen pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="full timings: about two minutes")
    speed = FULL if parser.parse_args().full else FAST
    print(config(speed))
    found = trio.run(run, speed)
    print(table(found))
    words = [verdict.word for _, _, verdict in found]
    counts = ", ".join(
        f"{words.count(word)} {word}" for word in ("pass", "partial", "safe", "fail")
    )
    print(f"\n{counts}")
    return 0 if words.count("pass") == len(FAULTS) else 1


if __name__ == "__main__":
    sys.exit(main())
