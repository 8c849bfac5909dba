"""What is done when nothing else is: idle connections closed, memory given back after a peak.

A stream is some 400 objects. When 500 streams have ended everything is free, but what is left
anywhere keeps the memory around it: values in CPython's caches, and deadlines and alarms that are
over, of which up to a thousand each are kept. Clearing those, collecting and trimming takes some
50 ms in all, once, when the peak is over. With the C library's allocator (`__main__` chooses it)
2.5 MB of 500 streams are left after that, 10 without the clearing; with Python's own, which
returns memory a megabyte at a time, 11 to 17. The measure of a peak is trio's count of tasks, four
for a stream.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final

import structlog
import trio

from uniapi import alarm

_LOOK: Final = 1.0  # seconds between looks
_PEAK: Final = 100  # tasks from which memory is worth the pause: 25 streams, about 1.5 MB
_OVER: Final = 4  # a peak is over when so small a part of its tasks is left
_AFTERMATH: Final = 60.0  # seconds in which the connections a peak has left are given up
_YOUNG: Final = 10_000  # objects more than before, at which the young are collected
_KEPT_DEADLINES: Final = 1000  # by trio, of those that were moved or are over

log = structlog.get_logger()


class Peak:
    """Notices that a peak of tasks is over: once for each, and again when it ebbs further."""

    def __init__(self) -> None:
        self._most = 0

    def over(self, tasks: int) -> bool:
        """Whether, with so many tasks now, a peak has just ended."""
        self._most = max(self._most, tasks)
        if self._most < _PEAK or tasks * _OVER > self._most:
            return False
        self._most = tasks
        return True


async def keep_house(sweep: Callable[[], Awaitable[int]]) -> None:
    """Look after connections and memory until cancelled.

    Args:
        sweep: closes connections that have been idle too long; how many. Called every second.
    """
    peak, trim, ended_at = Peak(), _trimmer(), -inf
    _settle()
    trim()
    while True:
        await trio.sleep(_LOOK)
        swept = await sweep()
        tasks, now = trio.lowlevel.current_statistics().tasks_living, trio.current_time()
        ended = peak.over(tasks)
        if ended:
            ended_at = now
        if ended or (swept and tasks < _PEAK and now - ended_at < _AFTERMATH):
            await _drop_old_deadlines(tasks)
            alarm.tidy()
            _clear_caches()
            gc.collect()
            trim()
            log.debug("server.quiet", tasks=tasks, swept=swept)


def _settle() -> None:
    """Begin: what the start has made stays for good, so no collection need look at it.

    Nothing here rests on the collector (a request leaves no cycles behind), so it may come later
    than after 700 objects: together 6 us of a paced chunk's 130.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)


async def _drop_old_deadlines(tasks: int) -> None:
    """Move a deadline so often that trio clears all those away that are over."""
    with trio.CancelScope() as scope:
        soon = trio.current_time() + 1
        for number in range(_KEPT_DEADLINES + 4 * tasks):
            scope.deadline = soon + number * 1e-6
        await trio.lowlevel.checkpoint()


def _clear_caches() -> None:
    """Empty the interpreter's cache of attributes, which keeps up to 4,096 names alive.

    CPython 3.11 makes a new name at every `case Class(...)`, so a busy hour fills it.
    """
    if sys.version_info >= (3, 13):
        sys._clear_internal_caches()  # noqa: SLF001 - documented in spite of its name
    else:
        sys._clear_type_cache()  # noqa: SLF001 - documented in spite of its name


def _trimmer() -> Callable[[], object]:
    """What makes glibc return free memory to the system; elsewhere it does nothing."""
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or none by that name
        return lambda: None
    return lambda: malloc_trim(0)
