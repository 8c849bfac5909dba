"""The gateway as a process, and the scripted providers it asks, on loopback."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import trio

from uniapi.codec import JsonObject, loads
from uniapi.demo import Provider
from uniapi.demo.provider import serve

KEY = "sk-e2e-0000"
ASK: JsonObject = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
# For plain HTTP: without it every client reads the certificates of the world, 22 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_PATIENCE = 10.0  # seconds for a process to do what it should have done in one


def until(holds: Callable[[], bool], what: str, seconds: float = _PATIENCE) -> float:
    """Wait on the real clock; seconds it took."""
    begun = time.perf_counter()
    waiting = threading.Event()
    while not holds():
        took = time.perf_counter() - begun
        assert took < seconds, f"not within {seconds} s: {what}"
        waiting.wait(0.002)
    return time.perf_counter() - begun


@dataclass
class Process:
    """A command, its output so far, and how to end it."""

    command: subprocess.Popen[str]
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    _readers: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stream, lines in ((self.command.stdout, self.out), (self.command.stderr, self.err)):
            assert stream is not None
            reader = threading.Thread(target=lines.extend, args=(stream,), daemon=True)
            reader.start()
            self._readers.append(reader)

    def events(self, name: str) -> list[JsonObject]:
        """The log lines of this event."""
        found: list[JsonObject] = []
        for line in list(self.err):
            if line.startswith("{"):
                match loads(line):
                    case dict() as entry if entry["event"] == name:
                        found.append(entry)
                    case _:
                        pass
        return found

    @property
    def url(self) -> str:
        """Where it listens, once it does."""
        until(lambda: bool(self.events("server.started")) or self.ended, "listening")
        started = self.events("server.started")
        assert started, "".join(self.err)
        return str(started[0]["url"]).replace("0.0.0.0", "127.0.0.1")

    @property
    def port(self) -> int:
        """The port of `url`."""
        return int(self.url.rpartition(":")[2])

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self.command.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.command.send_signal(number)

    def status(self, seconds: float = _PATIENCE) -> int:
        """Wait for its end; its exit status."""
        status = self.command.wait(seconds)
        self._drain()
        return status

    def stop(self) -> None:
        """End it, however."""
        if not self.ended:
            self.command.kill()
            self.command.wait()
        self._drain()

    def _drain(self) -> None:
        for reader in self._readers:
            reader.join()
        for stream in (self.command.stdout, self.command.stderr):
            assert stream is not None
            stream.close()


@contextmanager
def running(cwd: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Process]:
    """`python -m uniapi` in an empty environment, killed at the end if need be."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(cwd), "PYTHONUNBUFFERED": "1"}
    command = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-m", "uniapi", *arguments],
        cwd=cwd,
        env={**clean, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process = Process(command)
    try:
        yield process
    finally:
        process.stop()


def ran(cwd: Path, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run it to its end: exit status, output, errors."""
    with running(cwd, *arguments, env=env) as process:
        status = process.status()
        return status, "".join(process.out), "".join(process.err)


@contextmanager
def served(providers: Sequence[Provider]) -> Iterator[list[int]]:
    """The providers on loopback, in a loop of their own in a thread; their ports."""
    ports: list[int] = []
    ready, done = threading.Event(), threading.Event()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            ports.extend([await nursery.start(serve, provider) for provider in providers])
            ready.set()
            await trio.to_thread.run_sync(done.wait)
            nursery.cancel_scope.cancel()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    try:
        assert ready.wait(_PATIENCE)
        yield ports
    finally:
        done.set()
        thread.join()


class Streaming:
    """A stream of the model `m` that is being read in a thread, once it has said a word."""

    def __init__(self, url: str) -> None:
        self.text = ""
        self.failed: Exception | None = None
        self.thread = threading.Thread(target=self._read, args=(url,))
        self.thread.start()
        until(lambda: "content" in self.text, "the stream has begun")

    def _read(self, url: str) -> None:
        headers = {"authorization": f"Bearer {KEY}"}
        try:
            with (
                httpx.Client(trust_env=False, verify=NO_TLS, timeout=20) as client,
                client.stream(
                    "POST", f"{url}/v1/chat/completions", json=ASK, headers=headers
                ) as answer,
            ):
                for part in answer.iter_text():
                    self.text += part
        except httpx.TransportError as error:
            self.failed = error


def closed_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        return port


def commands(text: str) -> list[str]:
    """The shell commands a text tells its reader to paste."""
    return re.findall(r"^ *(curl .*)$", text, re.MULTILINE)
