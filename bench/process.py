"""What a process has cost so far: from the kernel where it tells, else from `ps`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cost:
    """One process at one moment.

    Attributes:
        cpu: seconds, user and system, of all its threads, those that have ended too.
        rss: resident bytes.
        fds: open file descriptors; None where only /proc would tell and there is none.
        sockets: those of them that are sockets.
    """

    cpu: float
    rss: int
    fds: int | None = None
    sockets: int | None = None


def cost(pid: int) -> Cost:
    """What this process has cost so far.

    Raises:
        ProcessLookupError: when there is no such process.
    """
    proc = Path(f"/proc/{pid}")
    if not Path("/proc/self/stat").exists():
        return _ps(pid)
    try:
        # The name in brackets may hold spaces; fields are counted from after it.
        fields = (proc / "stat").read_text().rpartition(")")[2].split()
        pages = int((proc / "statm").read_text().split()[1])
        fds = _targets(proc / "fd")
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
    ticks = int(fields[11]) + int(fields[12])
    exact = _clock(pid)
    return Cost(
        ticks / os.sysconf("SC_CLK_TCK") if exact is None else exact,
        pages * os.sysconf("SC_PAGE_SIZE"),
        len(fds),
        sum(target.startswith("socket:") for target in fds),
    )


def resident(pid: int) -> int:
    """Resident bytes alone, for looking often: counting descriptors takes milliseconds.

    Raises:
        ProcessLookupError: when there is no such process.
    """
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except FileNotFoundError:
        return cost(pid).rss
    return pages * os.sysconf("SC_PAGE_SIZE")


def _clock(pid: int) -> float | None:
    """The CPU clock of another process, to the nanosecond; /proc/PID/stat counts 10 ms ticks.

    The clock's number is the one clock_getcpuclockid(3) makes of a process id on Linux.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None


def _targets(folder: Path) -> list[str]:
    """What the descriptors lead to; one that closes while we look does not count."""
    found: list[str] = []
    for entry in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(entry.readlink()))
    return found


def _ps(pid: int) -> Cost:
    command = ["ps", "-o", "rss=,time=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        raise ProcessLookupError(f"no process {pid}")
    rss, used = done.stdout.split()
    return Cost(seconds(used), int(rss) * 1024)


def seconds(used: str) -> float:
    """Seconds from the way `ps` writes CPU time: `[[days-]hours:]minutes:seconds[.part]`."""
    days, _, clock = used.rpartition("-")
    total = 0.0
    for part in clock.split(":"):
        total = total * 60 + float(part)
    return total + int(days or 0) * 86_400
