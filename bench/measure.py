"""What the gateway costs: seconds to listening, memory at rest, and 500 streams at once.

`python bench/measure.py` starts what it needs on loopback, by the documented command line, and
stops it again. Exits with 1 when an answer was wrong or a promise was missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from bench.client import target
from bench.load import Plan, Report, run
from bench.process import Cost, cost
from bench.running import free_port, listening, started
from uniapi.demo import behaviour_for
from uniapi.demo.completions import Ask, spoken

_BEHAVIOUR: Final = "ok;tokens=50;gap=0.02"
_KEY: Final = "sk-bench"
_CONFIG: Final = """\
providers:
  - provider: scripted
    base_url: http://127.0.0.1:{port}/v1/chat/completions
    api: sk-scripted
    model:
      - '{behaviour}': bench
api_keys:
  - api: {key}
    model:
      - scripted/bench
"""
_TIDY: Final = 2.0  # seconds more, for the gateway to give memory back that they held
_MOST_SECONDS: Final = 1.0  # to listening
_MOST_IDLE: Final = 60e6  # bytes at rest
_MOST_GROWTH: Final = 10e6  # bytes more after the streams than before


async def seconds_to_listening(command: Sequence[str], port: int, *, quiet: bool) -> float:
    """From starting the process to its first 200."""
    begun = trio.current_time()
    async with started(command, quiet=quiet) as process:
        await listening(port, process)
        return trio.current_time() - begun


async def measure(streams: int, settle: float, *, quiet: bool) -> bool:
    """Print the figures; whether all promises held."""
    provider_port, port = free_port(), free_port()
    provider = [sys.executable, str(Path(__file__).with_name("provider.py"))]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "api.yaml"
        config.touch(mode=0o600)
        config.write_text(
            _CONFIG.format(port=provider_port, behaviour=_BEHAVIOUR, key=_KEY), encoding="utf-8"
        )
        gateway = [sys.executable, "-m", "uniapi", "serve", str(config)]
        gateway += ["--host", "127.0.0.1", "--port", str(port)]
        async with started([*provider, "--port", str(provider_port)], quiet=quiet) as scripted:
            await listening(provider_port, scripted)
            starts = [await seconds_to_listening(gateway, port, quiet=quiet) for _ in range(5)]
            start = statistics.median(starts)
            print(f"start to listening  {start:.3f} s (median of 5)")
            async with started(gateway, quiet=quiet) as process:
                await listening(port, process)
                idle = cost(process.pid)
                print(f"idle RSS            {idle.rss / 1e6:.1f} MB")
                direct = await _streams(provider_port, streams, _BEHAVIOUR)
                print(f"\n{streams} streams of 50 tokens at 20 ms, straight to the provider")
                print("\n".join(direct.lines()))
                held = await _through(port, process.pid, streams, settle)
    return held and start < _MOST_SECONDS and idle.rss < _MOST_IDLE


async def _streams(port: int, count: int, model: str) -> Report:
    text = spoken(Ask(), behaviour_for(_BEHAVIOUR))
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    aim = target(url, key=_KEY, model=model, stream=True, expected=text)
    return await run(aim, Plan(connections=count, requests=count), progress=True)


async def _through(port: int, pid: int, streams: int, settle: float) -> bool:
    """The same streams through the gateway, and what it still holds when they are over.

    Twice: memory that the first round took and the second does not add to is room, not a leak.
    """
    await _streams(port, 5, "bench")  # what is loaded at the first request is no leak
    before = cost(pid)
    print(f"\nbefore          {_held(before)}")
    held = True
    for number in (1, 2):
        report = await _streams(port, streams, "bench")
        at_once = cost(pid)
        print(f"\n{streams} streams of 50 tokens at 20 ms, through the gateway, round {number}")
        print("\n".join(report.lines()))
        after, waited = await _settled(pid, before, settle)
        print(f"gateway CPU     {at_once.cpu - before.cpu:.2f} s so far")
        print(f"at once after   {_held(at_once)}")
        print(f"{waited:4.1f} s after    {_held(after)}")
        held = held and report.ok and after.rss - before.rss < _MOST_GROWTH
    return held


async def _settled(pid: int, before: Cost, settle: float) -> tuple[Cost, float]:
    """The cost once as few sockets are open as before, or patience ends; and seconds waited."""
    begun = trio.current_time()
    with trio.move_on_after(settle):
        while _more(cost(pid).sockets, before.sockets):  # noqa: ASYNC110 - another process's
            await trio.sleep(0.1)
    await trio.sleep(_TIDY)
    return cost(pid), trio.current_time() - begun


def _more(now: int | None, before: int | None) -> bool:
    return now is not None and before is not None and now > before


def _held(now: Cost) -> str:
    return f"RSS {now.rss / 1e6:.1f} MB, {now.fds} descriptors, {now.sockets} of them sockets"


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Measure the gateway on this machine.")
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument(
        "--settle", type=float, default=40.0, help="seconds idle connections have to go"
    )
    parser.add_argument("--verbose", action="store_true", help="show what the processes log")
    args = parser.parse_args()
    held = trio.run(lambda: measure(args.streams, args.settle, quiet=not args.verbose))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
