"""The five algorithms: in which order the units of a client key are tried.

Each is a permutation of what it is given. Only the weighted two look at weights: they put units
without one after those with one, as backups in rule order; when no unit has a weight at all they
are `round_robin`, as the seeds have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Protocol, TypeVar, assert_never

from uniapi.config.types import Algorithm
from uniapi.state import Turn


class Unit(Protocol):
    """What is scheduled: a channel, or a nested key with its channels."""

    @property
    def id(self) -> tuple[str, ...]:
        """Stable from request to request."""
        ...

    @property
    def weight(self) -> int | None:
        """A positive share, or None."""
        ...


U = TypeVar("U", bound=Unit)
T = TypeVar("T")


def order(
    units: Sequence[U], algorithm: Algorithm, turn: Turn, rng: Random
) -> tuple[tuple[U, ...], Turn]:
    """The order for one request, and the turn to remember once the request is led by it."""
    if not units:
        return (), turn
    weighted = any(unit.weight is not None for unit in units)
    match algorithm:
        case Algorithm.FIXED_PRIORITY:
            return tuple(units), turn
        case Algorithm.RANDOM:
            return shuffled(units, rng), turn
        case Algorithm.WEIGHTED_ROUND_ROBIN if weighted:
            return weighted_round_robin(units, turn)
        case Algorithm.LOTTERY if weighted:
            return lottery(units, rng), turn
        case Algorithm.ROUND_ROBIN | Algorithm.WEIGHTED_ROUND_ROBIN | Algorithm.LOTTERY:
            return rotated(units, turn.cursor), replace(turn, cursor=turn.cursor + 1)
        case _:
            assert_never(algorithm)


def rotated(items: Sequence[T], cursor: int) -> tuple[T, ...]:
    """The same ring, begun at another place; at least one item."""
    start = cursor % len(items)
    return (*items[start:], *items[:start])


def shuffled(items: Sequence[T], rng: Random) -> tuple[T, ...]:
    """Any order, all equally likely."""
    mixed = list(items)
    rng.shuffle(mixed)
    return tuple(mixed)


def weighted_round_robin(units: Sequence[U], turn: Turn) -> tuple[tuple[U, ...], Turn]:
    """The smooth cycle of nginx: exact over the sum of the weights, and never in lumps.

    Every unit earns its weight, the richest leads and pays the sum. The others follow by credit.
    Credits are clamped to the sum, so that none outlives a change of weights for long.
    """
    shares = [(unit, unit.weight) for unit in units if unit.weight is not None]
    total = sum(share for _, share in shares)
    credit = {
        unit.id: max(-total, min(total, turn.standing.get(unit.id, 0))) + share
        for unit, share in shares
    }
    ranked = sorted((unit for unit, _ in shares), key=lambda unit: -credit[unit.id])
    credit[ranked[0].id] -= total
    backups = (unit for unit in units if unit.weight is None)
    return (*ranked, *backups), replace(turn, standing={**turn.standing, **credit})


def lottery(units: Sequence[U], rng: Random) -> tuple[U, ...]:
    """Weighted draws without putting back: the weight is the chance to lead."""
    urn = [(unit, unit.weight) for unit in units if unit.weight is not None]
    drawn: list[U] = []
    while urn:
        ticket = rng.choices(range(len(urn)), [share for _, share in urn])[0]
        drawn.append(urn.pop(ticket)[0])
    return (*drawn, *(unit for unit in units if unit.weight is None))
