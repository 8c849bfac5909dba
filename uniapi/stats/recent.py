"""How channels did lately: the last attempts of each, for whoever looks at a status."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from uniapi.stats.record import Record
from uniapi.waits import percentile

SAMPLES: Final = 100  # the last so many count: how it was yesterday is not how it is
_CHANNELS: Final = 2_000  # a hostile listing may rename its models for ever
_SILENT: Final = frozenset({"cancelled", "deadline"})  # we gave it up: says nothing of the channel


@dataclass(frozen=True, slots=True)
class Lately:
    """The latest attempts of a channel.

    Attributes:
        attempts: how many, those left out that we gave up ourselves.
        ok: how many of them went well.
        p50: seconds to the first token of streams that half of them did not exceed; None when
            there was none.
        p90: as p50, for nine of ten.
    """

    attempts: int = 0
    ok: int = 0
    p50: float | None = None
    p90: float | None = None


class Recent:
    """The last attempts of every channel."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], deque[tuple[bool, float | None]]] = {}

    def note(self, record: Record) -> None:
        """A request is over: what a `Ledger` calls."""
        for attempt in record.attempts:
            if attempt.outcome in _SILENT:
                continue
            at = attempt.provider, attempt.upstream
            kept = self._kept.pop(at, None) or deque(maxlen=SAMPLES)
            self._kept[at] = kept
            # A whole answer's first token is its last: no wait to compare with a stream's.
            kept.append((attempt.outcome == "ok", attempt.first if record.stream else None))
            if len(self._kept) > _CHANNELS:
                del self._kept[next(iter(self._kept))]

    def of(self, provider: str, upstream: str) -> Lately:
        """How a channel did."""
        kept = self._kept.get((provider, upstream), ())
        waits = sorted(first for _, first in kept if first is not None)
        ok = sum(ok for ok, _ in kept)
        if not waits:
            return Lately(len(kept), ok)
        return Lately(len(kept), ok, percentile(waits, 50), percentile(waits, 90))
