"""What a process has cost so far: from /proc where there is one, else from `ps`."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cost:
    """One process at one moment.

    Attributes:
        cpu: seconds, user and system.
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
    return Cost(
        ticks / os.sysconf("SC_CLK_TCK"),
        pages * os.sysconf("SC_PAGE_SIZE"),
        len(fds),
        sum(target.startswith("socket:") for target in fds),
    )


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
    rss, time = done.stdout.split()
    return Cost(seconds(time), int(rss) * 1024)


def seconds(time: str) -> float:
    """Seconds from the way `ps` writes CPU time: `[[days-]hours:]minutes:seconds[.part]`."""
    days, _, clock = time.rpartition("-")
    total = 0.0
    for part in clock.split(":"):
        total = total * 60 + float(part)
    return total + int(days or 0) * 86_400
