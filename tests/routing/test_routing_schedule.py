"""The five algorithms."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest

from uniapi.config.types import Algorithm
from uniapi.routing import schedule
from uniapi.state import Turn


@dataclass(frozen=True, slots=True)
class Thing:
    name: str
    weight: int | None = None

    @property
    def id(self) -> tuple[str, ...]:
        return (self.name,)


def dice() -> Random:
    return Random(7)  # noqa: S311 - a test's dice


def things(**weights: int | None) -> tuple[Thing, ...]:
    return tuple(Thing(name, weight) for name, weight in weights.items())


def orders(units: tuple[Thing, ...], algorithm: Algorithm, count: int) -> list[str]:
    turn, rng, found = Turn(), dice(), []
    for _ in range(count):
        ordered, turn = schedule.order(units, algorithm, turn, rng)
        found.append("".join(unit.name for unit in ordered))
    return found


def test_fixed_priority_keeps_the_order_and_ignores_weights() -> None:
    assert orders(things(a=1, b=9, c=None), Algorithm.FIXED_PRIORITY, 3) == ["abc"] * 3


def test_round_robin_rotates_and_ignores_weights() -> None:
    found = orders(things(a=1, b=9, c=None), Algorithm.ROUND_ROBIN, 4)
    assert found == ["abc", "bca", "cab", "abc"]


def test_random_gives_every_unit_the_lead_about_equally() -> None:
    leads = Counter(o[0] for o in orders(things(a=100, b=1, c=1), Algorithm.RANDOM, 3000))
    assert all(850 < leads[name] < 1150 for name in "abc")


def test_five_three_two_is_exact_over_ten_and_smooth() -> None:
    found = orders(things(a=5, b=3, c=2), Algorithm.WEIGHTED_ROUND_ROBIN, 20)
    leads = "".join(order[0] for order in found)
    assert Counter(leads[:10]) == {"a": 5, "b": 3, "c": 2}
    assert leads[10:] == leads[:10]
    assert all(one + two != "bb" and one + two != "cc" for one, two in pairwise(leads))
    assert "aaa" not in leads


@pytest.mark.parametrize("algorithm", [Algorithm.WEIGHTED_ROUND_ROBIN, Algorithm.LOTTERY])
def test_units_without_weight_are_backups_in_rule_order(algorithm: Algorithm) -> None:
    for order in orders(things(x=None, a=5, y=None, b=3), algorithm, 8):
        assert set(order[:2]) == {"a", "b"}
        assert order[2:] == "xy"


@pytest.mark.parametrize("algorithm", [Algorithm.WEIGHTED_ROUND_ROBIN, Algorithm.LOTTERY])
def test_without_any_weight_the_weighted_ones_are_round_robin(algorithm: Algorithm) -> None:
    assert orders(things(a=None, b=None), algorithm, 3) == ["ab", "ba", "ab"]


def test_lottery_leads_by_weight() -> None:
    leads = Counter(o[0] for o in orders(things(a=5, b=3, c=2), Algorithm.LOTTERY, 5000))
    assert 2350 < leads["a"] < 2650
    assert 1350 < leads["b"] < 1650
    assert 850 < leads["c"] < 1150


def test_the_followers_of_a_weighted_lead_come_by_credit() -> None:
    assert orders(things(a=1, b=9, c=5), Algorithm.WEIGHTED_ROUND_ROBIN, 1) == ["bca"]


def test_a_change_of_weights_is_not_paid_for_by_thousands_of_requests() -> None:
    old, new = things(a=5000, b=1), things(a=1, b=1)
    _, turn = schedule.order(old, Algorithm.WEIGHTED_ROUND_ROBIN, Turn(), dice())
    leads = []
    for _ in range(6):
        ordered, turn = schedule.order(new, Algorithm.WEIGHTED_ROUND_ROBIN, turn, dice())
        leads.append(ordered[0].name)
    assert {"a", "b"} == set(leads[:5])


def test_a_unit_out_for_a_while_keeps_its_credit() -> None:
    both, turn, rng = things(a=3, b=1), Turn(), dice()
    _, turn = schedule.order(both, Algorithm.WEIGHTED_ROUND_ROBIN, turn, rng)
    assert turn.standing == {("a",): -1, ("b",): 1}
    _, turn = schedule.order(both[:1], Algorithm.WEIGHTED_ROUND_ROBIN, turn, rng)
    assert turn.standing[("b",)] == 1


@pytest.mark.parametrize("algorithm", Algorithm)
def test_nothing_to_order_is_nothing(algorithm: Algorithm) -> None:
    assert orders((), algorithm, 2) == ["", ""]
