"""This process as its operating system sees it: age, CPU, memory, open files.

Memory and open files are read from /proc, which Linux has; elsewhere nobody says without a
compiled library, and they are None.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Final

from uniapi.stats.metrics import Metrics

STARTED: Final = time.time()  # unix seconds; when this module was loaded, at the start
_BEGUN: Final = time.monotonic()
_PROC: Final = Path("/proc/self")


def uptime() -> float:
    """Seconds since the start."""
    return time.monotonic() - _BEGUN


def memory() -> tuple[int, int] | None:
    """Bytes of address space, and those of them that are in memory."""
    try:
        pages = (_PROC / "statm").read_bytes().split()
        size = resource.getpagesize()
        return int(pages[0]) * size, int(pages[1]) * size
    except (OSError, ValueError, IndexError):
        return None


def open_files() -> int | None:
    """File descriptors in use."""
    try:
        return len(os.listdir(_PROC / "fd")) - 1  # noqa: PTH208 - bare names: one of them is ours
    except OSError:
        return None


def most_files() -> float:
    """File descriptors there may be."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if soft == resource.RLIM_INFINITY else soft


def measure(metrics: Metrics) -> None:
    """Show the process under the names every exporter gives them."""
    metrics.gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
        lambda: STARTED,
    )
    metrics.counter(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        time.process_time,
    )
    metrics.gauge(
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        lambda: None if (found := memory()) is None else found[1],
    )
    metrics.gauge(
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        lambda: None if (found := memory()) is None else found[0],
    )
    metrics.gauge("process_open_fds", "Number of open file descriptors.", open_files)
    metrics.gauge("process_max_fds", "Maximum number of open file descriptors.", most_files)
