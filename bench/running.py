"""Processes that are started for a while, on cores of their own, and stopped by their handles."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

_POLL: Final = 0.002  # seconds between looks at a port that does not listen yet
_PATIENCE: Final = 20.0  # seconds to the first answer


@contextlib.asynccontextmanager
async def started(
    command: Sequence[str],
    *,
    quiet: bool,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    cores: frozenset[int] = frozenset(),
) -> AsyncIterator[trio.Process]:
    """A process that runs inside the block and is stopped by its own handle after it.

    Args:
        command: what to run.
        quiet: its errors are not shown; its output never is.
        env: added to our own environment.
        cwd: where it runs.
        cores: the only ones it may use; none leaves it where we are.
    """
    process = await trio.lowlevel.open_process(
        list(command),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if quiet else None,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        start_new_session=True,  # Ctrl-C is for us: we stop it, with time to settle
    )
    try:
        if cores:
            os.sched_setaffinity(process.pid, cores)
        yield process
    finally:
        with trio.CancelScope(shield=True):
            process.terminate()
            with trio.move_on_after(5):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


def free_port() -> int:
    """A loopback port that is free now, and hopefully still when it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def listening(
    port: int, process: trio.Process, *, healthy: bool = True, patience: float = _PATIENCE
) -> None:
    """Return when `/healthz` answers 200; or anything, when it need not be healthy.

    Raises:
        RuntimeError: when the process ends instead, or nothing answers in time.
    """
    with trio.move_on_after(patience):
        while process.returncode is None:
            with contextlib.suppress(OSError, trio.BrokenResourceError):
                if (await _answered(port)).startswith(b"HTTP/1.1 200" if healthy else b"HTTP/1.1 "):
                    return
            await trio.sleep(_POLL)
            process.poll()
    raise RuntimeError(f"nothing healthy on port {port}; exit status {process.returncode}")


async def _answered(port: int) -> bytes:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(
            b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
        )
        return bytes(await stream.receive_some())
