"""Families of Prometheus' text format 0.0.4, and how they are written.

A family that has as many label sets as it may have counts all further ones under `other`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from math import inf
from typing import Final, Protocol, TypeAlias, TypeVar

import structlog

OTHER: Final = "other"

Labels: TypeAlias = tuple[str | int, ...]
Reading: TypeAlias = float | Mapping[tuple[str, ...], float] | None
"""A number, or one for each set of label values, or None for what cannot be known here."""

T = TypeVar("T")

log = structlog.get_logger()


class Family(Protocol):
    """Samples of one name."""

    def lines(self) -> Iterator[str]:
        """The lines of the text, without their line ends."""
        ...


class Counts:
    """A counter for every set of label values."""

    def __init__(self, name: str, told: str, labels: Sequence[str], most: int) -> None:
        """`told` says in the text what it counts."""
        self.name = name
        self.values: dict[Labels, float] = {}
        self._head = _head(name, told, "counter")
        self._labels = tuple(labels)
        self._most = most
        self._rest: Labels = (OTHER,) * len(self._labels)

    def add(self, at: Labels, amount: float = 1) -> None:
        """Count something."""
        values = self.values
        if at in values:
            values[at] += amount
        elif len(values) < self._most:
            values[at] = amount
        else:
            values[self._rest] = values.get(self._rest, 0) + amount

    def keep(self, names: Collection[str]) -> None:
        """When it is full, forget the label sets whose first value is not among these."""
        if len(self.values) >= self._most:
            self.values = _kept(self.values, names)

    def lines(self) -> Iterator[str]:
        """As `Family`."""
        yield from self._head
        for at, value in self.values.items():
            yield f"{self.name}{_braces(self._labels, at)} {_number(value)}"


class _Histogram:
    """How often, by how much: of one set of label values."""

    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total = 0.0


class Histograms:
    """A histogram for every set of label values, all with the same buckets."""

    def __init__(
        self,
        name: str,
        told: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        most: int,
    ) -> None:
        """`bounds` are the buckets' upper ends, rising; one without an end comes on top."""
        self.name = name
        self.values: dict[Labels, _Histogram] = {}
        self._head = _head(name, told, "histogram")
        self._labels = tuple(labels)
        self._bounds = tuple(bounds)
        self._most = most // (len(self._bounds) + 3)  # each is so many series
        self._rest: Labels = (OTHER,) * len(self._labels)

    def add(self, at: Labels, value: float) -> None:
        """One more observation."""
        found = self.values.get(at)
        if found is None:
            found = self._new(at)
        found.counts[bisect_left(self._bounds, value)] += 1
        found.total += value

    def _new(self, at: Labels) -> _Histogram:
        where = at if len(self.values) < self._most else self._rest
        return self.values.setdefault(where, _Histogram(len(self._bounds) + 1))

    def keep(self, names: Collection[str]) -> None:
        """As `Counts.keep`."""
        if len(self.values) >= self._most:
            self.values = _kept(self.values, names)

    def lines(self) -> Iterator[str]:
        """As `Family`."""
        yield from self._head
        ends = [f'le="{_number(bound)}"' for bound in (*self._bounds, inf)]
        for at, histogram in self.values.items():
            labels = _pairs(self._labels, at)
            open_ = f"{labels}," if labels else ""
            below = 0
            for end, count in zip(ends, histogram.counts, strict=True):
                below += count
                yield f"{self.name}_bucket{{{open_}{end}}} {below}"
            braces = f"{{{labels}}}" if labels else ""
            yield f"{self.name}_sum{braces} {_number(histogram.total)}"
            yield f"{self.name}_count{braces} {below}"


class Read:
    """A family somebody else keeps: read when it is shown."""

    def __init__(
        self,
        named: tuple[str, str, str],
        labels: tuple[str, ...],
        read: Callable[[], Reading],
        most: int,
    ) -> None:
        """`named`: name, what it is for a person, and type; of `read` see `Metrics.gauge`."""
        self._name = named[0]
        self._head = _head(*named)
        self._labels = labels
        self._ask = read
        self._most = most

    def reading(self) -> Reading:
        """What it says now; None when it says nothing, or has failed and the log was told."""
        try:
            return self._ask()
        except Exception:
            log.exception("metrics.crashed", name=self._name)
            return None

    def lines(self) -> Iterator[str]:
        """As `Family`; nothing at all where nothing can be known."""
        reading = self.reading()
        if reading is None:
            return
        yield from self._head
        match reading:
            case float() | int():
                yield f"{self._name} {_number(reading)}"
            case _:
                for at, value in list(reading.items())[: self._most]:
                    yield f"{self._name}{_braces(self._labels, at)} {_number(value)}"


def _kept(values: Mapping[Labels, T], names: Collection[str]) -> dict[Labels, T]:
    return {at: value for at, value in values.items() if at[0] in names or at[0] == OTHER}


def _head(name: str, told: str, kind: str) -> tuple[str, str]:
    said = told.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {name} {said}", f"# TYPE {name} {kind}"


def _braces(names: tuple[str, ...], values: Labels | tuple[str, ...]) -> str:
    return f"{{{_pairs(names, values)}}}" if names else ""


def _pairs(names: tuple[str, ...], values: Labels | tuple[str, ...]) -> str:
    return ",".join(
        f'{name}="{_escaped(str(value))}"' for name, value in zip(names, values, strict=True)
    )


def _escaped(value: str) -> str:
    if value.isidentifier():
        return value
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if value in {inf, -inf}:
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if value != value else str(value)  # noqa: PLR0124 - only NaN is not itself
