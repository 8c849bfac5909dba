"""Numbers out of many measurements."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


def percentile(ordered: list[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that `share` of all do not exceed.

    Args:
        ordered: ascending, not empty.
        share: 0 to 1.
    """
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


@dataclass(frozen=True, slots=True)
class Summary:
    """Percentiles in seconds; all None when nothing was measured."""

    count: int
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        """Sum up some seconds."""
        ordered = sorted(values)
        if not ordered:
            return cls(0)
        p50, p90, p99 = (percentile(ordered, share) for share in (0.5, 0.9, 0.99))
        return cls(len(ordered), p50, p90, p99, ordered[-1])

    def line(self) -> str:
        """For a person, in milliseconds."""
        if self.p50 is None or self.p90 is None or self.p99 is None or self.max is None:
            return "-"
        row = (("p50", self.p50), ("p90", self.p90), ("p99", self.p99), ("max", self.max))
        return "  ".join(f"{name} {seconds * 1000:.1f}" for name, seconds in row) + " ms"
