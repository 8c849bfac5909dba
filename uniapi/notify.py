"""Telling systemd how the service is: ready, reloading, stopping, alive.

The protocol is sd_notify(3): datagrams of `NAME=value` lines to the unix socket which the variable
`NOTIFY_SOCKET` names. Without it (no systemd, FreeBSD, macOS) nothing is ever sent. Whoever has
something to say puts it into a queue and goes on; one task sends, so that the order is kept and a
service manager that does not read stops nobody. The watchdog's sign of life comes from the same
task: when the event loop is stuck it ceases, and systemd starts the service anew.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from math import inf
from typing import Final

import structlog
import trio

_QUEUE: Final = 32  # messages; the thirty-third is dropped
_LAST_WORDS: Final = 1.0  # seconds to send what is left when the process ends
_UINT64_DIGITS: Final = 20

log = structlog.get_logger()


class Notifier:
    """Says to systemd what its unit of `Type=notify` wants to hear.

    Nothing here raises: a service manager that cannot be reached is a warning in the log, once.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        *,
        pid: int,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Read what systemd has put into the environment.

        Args:
            env: `NOTIFY_SOCKET`, a path or `@` and an abstract name; `WATCHDOG_USEC` and
                `WATCHDOG_PID`, as sd_watchdog_enabled(3) has them.
            pid: this process: a watchdog for another is none of its business.
            monotonic_ns: the system's CLOCK_MONOTONIC, which dates a reload.
        """
        self._address = _address(env.get("NOTIFY_SOCKET", ""))
        self.interval = inf if self._address is None else _interval(env, pid)
        self._monotonic_ns = monotonic_ns
        self._said: deque[bytes] = deque()
        self._news = trio.Event()
        self._warned = False

    def ready(self, status: str) -> None:
        """It serves; or: what `reloading` began is over, well or not."""
        self._say("READY=1", f"STATUS={_line(status)}")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` must follow, also when it is broken."""
        now = self._monotonic_ns() // 1000
        # The time is what Type=notify-reload asks for, from systemd 253 on; others pass over it.
        self._say("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=reading the configuration")

    def stopping(self, status: str) -> None:
        """It accepts no more, and will end."""
        self._say("STOPPING=1", f"STATUS={_line(status)}")

    async def run(self) -> None:
        """Send what is said, and the signs of life, until cancelled; then what is left."""
        beat = trio.current_time() + self.interval
        try:
            while True:
                with trio.move_on_at(beat) as waiting:
                    await self._news.wait()
                if waiting.cancelled_caught:
                    beat = trio.current_time() + self.interval
                    await self._send(b"WATCHDOG=1")
                self._news = trio.Event()
                await self._send_what_was_said()
        finally:
            with trio.move_on_after(_LAST_WORDS, shield=True):
                await self._send_what_was_said()

    def _say(self, *lines: str) -> None:
        if self._address is None:
            return
        if len(self._said) >= _QUEUE:
            self._warn("it does not read")
            return
        self._said.append("\n".join(lines).encode())
        self._news.set()

    async def _send_what_was_said(self) -> None:
        while self._said:
            await self._send(self._said[0])
            self._said.popleft()  # now, so that a cancelled one is sent at the end

    async def _send(self, message: bytes) -> None:
        """One datagram, by a socket of its own: only a connected one can wait for room."""
        if self._address is None:
            return
        try:
            with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                await sender.connect(self._address)
                await sender.send(message)
        except OSError as error:
            self._warn(error.strerror or str(error))

    def _warn(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("notify.failed", reason=why)


def _address(text: str) -> bytes | None:
    """The socket's address; None where there is none, or one of another family (vsock)."""
    match text[:1]:
        case "/":
            return os.fsencode(text)
        case "@":
            return b"\0" + os.fsencode(text[1:])
        case _:
            return None


def _interval(env: Mapping[str, str], pid: int) -> float:
    """Seconds between signs of life: half of what systemd allows, so that one may be late."""
    allowed, whose = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", "")
    if whose not in {"", str(pid)} or not allowed.isdecimal() or len(allowed) > _UINT64_DIGITS:
        return inf
    return int(allowed) / 2e6 or inf


def _line(text: str) -> str:
    """A status is one line: another would be another message's field."""
    return " ".join(text.split())
