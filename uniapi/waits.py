"""How long channels take to their first token, and what hedging has cost: memory for `State`."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from math import ceil
from typing import Final

MIN_SAMPLES: Final = 20  # fewer say nothing about a tail
_SAMPLES: Final = 100  # the last so many count: what was usual an hour ago is not
_CHANNELS: Final = 10_000  # a hostile listing may rename its models for ever
_UNIT: Final = 10**9  # a hedge, in whole numbers: tenths added ten times are not one
_SAVED: Final = 10  # hedges that may be saved up: an outage must not meet the savings of a month

Channel = tuple[str, str, bool]  # provider, its model, whether the answer is streamed


def percentile(rising: Sequence[float], percent: int) -> float:
    """Of at least one sample, in rising order: the one that so many percent do not exceed."""
    return rising[ceil(len(rising) * percent / 100) - 1]


class Waits:
    """Seconds to the first token, the latest of every channel."""

    def __init__(self) -> None:
        self._samples: dict[Channel, deque[float]] = {}

    def add(self, channel: Channel, seconds: float) -> None:
        """One more wait; the channel longest unused is forgotten when there are too many."""
        samples = self._samples.pop(channel, None) or deque(maxlen=_SAMPLES)
        self._samples[channel] = samples
        samples.append(seconds)
        if len(self._samples) > _CHANNELS:
            del self._samples[next(iter(self._samples))]

    def percentile(self, channel: Channel, percent: int) -> float | None:
        """The wait that so many percent did not exceed; None before there are enough to tell."""
        samples = self._samples.get(channel, ())
        if len(samples) < MIN_SAMPLES:
            return None
        return percentile(sorted(samples), percent)

    def keep(self, providers: Collection[str]) -> None:
        """Forget the channels of all other providers."""
        self._samples = {at: kept for at, kept in self._samples.items() if at[0] in providers}


class Budget:
    """A share of requests that may be hedged: at most that many of any number, rounded up."""

    def __init__(self) -> None:
        self._credit: dict[str, int] = {}

    def request(self, key: str, share: float) -> None:
        """One more request of this client key, a share of which is earned."""
        earned = self._credit.get(key, 0) + round(share * _UNIT)
        self._credit[key] = min(earned, _SAVED * _UNIT)

    def has(self, key: str) -> bool:
        """Whether there is anything left to spend."""
        return self._credit.get(key, 0) > 0

    def spend(self, key: str) -> None:
        """One hedge; what it costs more than there was has to be earned first."""
        self._credit[key] = self._credit.get(key, 0) - _UNIT

    def keep(self, keys: Collection[str]) -> None:
        """Forget all other client keys."""
        self._credit = {key: credit for key, credit in self._credit.items() if key in keys}
