"""What came of a run of load: counted while it goes on, and told at its end."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from bench.client import Result
from bench.figures import Summary

_GAPS_KEPT: Final = 2_000_000  # 16 MB; a longer run says its gaps from the first so many


@dataclass(slots=True)
class Tally:
    """What has been counted so far; times in seconds."""

    started: int = 0
    ended: int = 0
    right: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latencies: array[float] = field(default_factory=lambda: array("d"))
    ttfts: array[float] = field(default_factory=lambda: array("d"))
    gaps: array[float] = field(default_factory=lambda: array("d"))

    def add(self, result: Result) -> None:
        """Count one result; times of failures are not mixed with those of answers."""
        self.ended += 1
        if result.error is not None:
            self.errors[result.error] += 1
            return
        self.right += 1
        self.latencies.append(result.latency)
        if result.ttft is not None:
            self.ttfts.append(result.ttft)
        if len(self.gaps) < _GAPS_KEPT:
            self.gaps.extend(result.gaps)


@dataclass(frozen=True, slots=True)
class Process:
    """What one process cost during the run; bytes and seconds."""

    pid: int
    cpu: float
    rss_before: int
    rss_after: int
    rss_peak: int
    fds_before: int | None
    fds_after: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a run.

    Attributes:
        requests: how many were started.
        right: answers that were whole and equal to the expected text.
        errors: how many of each kind.
        seconds: from the first request to the last answer.
        latency: from due to last byte.
        ttft: from due to the first word; streams only.
        gap: between reads that brought words; streams only.
        jitter: how far the gaps are from the one planned; only when one is.
        processes: those asked for with `--pid`.
    """

    requests: int
    right: int
    errors: dict[str, int]
    seconds: float
    latency: Summary
    ttft: Summary
    gap: Summary
    jitter: Summary
    processes: tuple[Process, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every request was answered rightly, and there was at least one."""
        return self.right == self.requests > 0 and not self.errors

    def lines(self) -> Iterator[str]:
        """For a person."""
        rate = self.right / self.seconds if self.seconds else 0.0
        yield f"requests  {self.requests} in {self.seconds:.2f} s"
        yield f"right     {self.right}, {rate:.1f} a second"
        errors = ", ".join(f"{kind}: {count}" for kind, count in self.errors.items())
        yield f"errors    {errors or 'none'}"
        yield f"latency   {self.latency.line()}"
        yield f"ttft      {self.ttft.line()}"
        yield f"gap       {self.gap.line()}"
        yield f"jitter    {self.jitter.line()}"
        for p in self.processes:
            yield (
                f"pid {p.pid}  cpu {p.cpu:.2f} s  rss {_mb(p.rss_before)} to {_mb(p.rss_after)}, "
                f"peak {_mb(p.rss_peak)}  fds {p.fds_before} to {p.fds_after}"
            )


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
