"""This process as its operating system sees it: age, CPU, memory, open files.

Memory in use is in Linux's /proc, and elsewhere known to no standard library: then it is None, and
the peak, which every system tells, is what there is. Open files are listed by Linux, by macOS, and
by FreeBSD where fdescfs is mounted; without it /dev/fd there has three names, whatever is open.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path
from typing import Final

from uniapi.stats.metrics import Metrics

STARTED: Final = time.time()  # unix seconds; when this module was loaded, at the start
_BEGUN: Final = time.monotonic()
_STATM: Final = Path("/proc/self/statm")
_LISTINGS: Final = (Path("/proc/self/fd"), Path("/dev/fd"))
_PEAK: Final = {"Linux": 1024, "FreeBSD": 1024, "Darwin": 1}  # bytes of a unit of ru_maxrss


def uptime() -> float:
    """Seconds since the start."""
    return time.monotonic() - _BEGUN


def memory() -> tuple[int, int] | None:
    """Bytes of address space, and those of them that are in memory."""
    try:
        pages = _STATM.read_bytes().split()
        size = resource.getpagesize()
        return int(pages[0]) * size, int(pages[1]) * size
    except (OSError, ValueError, IndexError):
        return None


def peak_memory() -> int | None:
    """Bytes in memory when they were most."""
    unit = _PEAK.get(platform.system())
    return None if unit is None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def open_files() -> int | None:
    """File descriptors in use."""
    return next((found for folder in _LISTINGS if (found := _listed(folder)) is not None), None)


def _listed(folder: Path) -> int | None:
    """Descriptors that a folder lists; None when it does not even have the one it is read by."""
    try:
        own = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        names = os.listdir(own)  # noqa: PTH208 - of a descriptor, and bare names
    except OSError:
        return None
    finally:
        os.close(own)
    return len(names) - 2 if str(own) in names else None  # ours, and a copy that listdir makes


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
    metrics.gauge(
        "uniapi_peak_memory_bytes",
        "Resident memory in bytes when it was most.",
        peak_memory,
    )
    metrics.gauge("process_open_fds", "Number of open file descriptors.", open_files)
    metrics.gauge("process_max_fds", "Maximum number of open file descriptors.", most_files)
