"""What rate limits have counted, with whom: a meter for each bucket, as many as memory allows.

Windows of a day and longer are worth more than the process: whoever wants to keep them is told of
all they count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from uniapi.config.bounds import Unit, Window
from uniapi.meter import Meter

MAX_METERS = 10_000  # buckets; a hostile listing may rename its models for ever
MAX_TAKINGS = 10_000  # that nobody has come for; who keeps them comes every second
LONG = 86_400.0  # seconds; from here on a window is long


class Scope(StrEnum):
    """Whose requests a rate limit counts."""

    SERVER = "server"
    CLIENT = "client"
    PROVIDER = "provider"


class Bucket(NamedTuple):
    """What is counted together.

    Attributes:
        scope: whose requests.
        owner: the digest of the client key or the provider's name; empty for the server.
        key: the digest of the provider's key; empty when it has none, and in other scopes.
        model: the model's name; empty when all models are counted together.
    """

    scope: Scope
    owner: str = ""
    key: str = ""
    model: str = ""


class Taking(NamedTuple):
    """Something that a window of a day or longer has counted.

    Attributes:
        bucket: with whom.
        unit: what.
        seconds: the length of the window.
        amount: how much.
        start: from when it counts.
    """

    bucket: Bucket
    unit: Unit
    seconds: float
    amount: int
    start: float


class Buckets:
    """Every bucket that has counted something, and its meter."""

    def __init__(self) -> None:
        self._meters: dict[Bucket, Meter] = {}
        self._takings: deque[Taking] | None = None  # for whoever keeps them; None: nobody does

    def __iter__(self) -> Iterator[Bucket]:
        """The longest unused first."""
        return iter(self._meters)

    def get(self, bucket: Bucket) -> Meter | None:
        """What this bucket has used; None when that is nothing."""
        return self._meters.get(bucket)

    def metered(self, bucket: Bucket) -> Meter:
        """The meter of this bucket, to count with.

        The longest unused is forgotten beyond `MAX_METERS`.
        """
        meter = self._meters.pop(bucket, None) or Meter()
        self._meters[bucket] = meter
        if len(self._meters) > MAX_METERS:
            del self._meters[next(iter(self._meters))]
        return meter

    def count(
        self,
        bucket: Bucket,
        windows: Sequence[Window],
        unit: Unit,
        amount: int,
        now: float,
        start: float,
    ) -> None:
        """As `Meter.add`, in the meter of this bucket; whoever keeps long windows is told."""
        self.metered(bucket).add(windows, unit, amount, now, start)
        if self._takings is not None:
            for seconds in {window.seconds for window in windows if window.unit is unit}:
                if seconds >= LONG:
                    self._takings.append(Taking(bucket, unit, seconds, amount, start))

    def keep_takings(self) -> deque[Taking]:
        """Begin to put what long windows count where the caller takes it from, again and again."""
        self._takings = deque(maxlen=MAX_TAKINGS)
        return self._takings

    def keep(self, owners: Collection[tuple[Scope, str, str]]) -> None:
        """Forget the buckets of all others: scope, owner and key."""
        self._meters = {at: meter for at, meter in self._meters.items() if at[:3] in owners}
