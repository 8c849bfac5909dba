"""The command-line tools as processes: they start, say their port, and go quietly."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from bench.provider import provider_for
from bench.running import free_port, listening, started
from uniapi.demo import Request

SCRIPT = str(Path("bench/provider.py").resolve())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_provider_prints_its_port_and_ends_quietly(number: signal.Signals) -> None:
    process = await trio.lowlevel.open_process(
        [sys.executable, SCRIPT, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with trio.fail_after(20):
        port = int(await process.stdout.receive_some())
        await listening(port, process)
        process.send_signal(number)
        assert await process.wait() == 0
        assert await process.stderr.receive_some() == b""
    await process.stdout.aclose()
    await process.stderr.aclose()


async def test_a_process_runs_until_its_block_ends_and_no_longer() -> None:
    port = free_port()
    command = [sys.executable, SCRIPT, "--port", str(port)]
    with trio.fail_after(20):
        async with started(command, quiet=True) as process:
            await listening(port, process)
        with pytest.raises(OSError, match=r"connect|refused"):
            await trio.open_tcp_stream("127.0.0.1", port)


async def test_a_process_that_ends_instead_of_listening_is_told() -> None:
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    with trio.fail_after(20):
        async with started(command, quiet=True) as process:
            with pytest.raises(RuntimeError, match="exit status 3"):
                await listening(free_port(), process)


def asked() -> Request:
    return Request(0.0, "POST", "/v1/chat/completions", {})


def test_several_behaviours_come_in_turn() -> None:
    provider = provider_for(["status-503", "ok"])
    assert callable(provider.behaviour)
    assert [provider.behaviour(asked()).status for _ in range(4)] == [503, 200, 503, 200]


def test_a_behaviour_that_is_none_is_told_at_the_start() -> None:
    with pytest.raises(LookupError):
        provider_for(["ok", "nobody"])


def test_refusing_is_the_listeners_matter() -> None:
    assert provider_for(["refuse"]).refuses
    assert not provider_for([]).refuses
