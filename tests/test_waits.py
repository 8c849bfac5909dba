"""What is usual for a channel, and what hedging may cost."""

from __future__ import annotations

from uniapi.waits import MIN_SAMPLES, Budget, Waits

AT = ("p", "m", True)


def test_a_percentile_needs_enough_samples() -> None:
    waits = Waits()
    for number in range(1, MIN_SAMPLES):
        waits.add(AT, number)
    assert waits.percentile(AT, 90) is None
    waits.add(AT, MIN_SAMPLES)
    assert waits.percentile(AT, 90) == 18
    assert waits.percentile(AT, 50) == 10
    assert waits.percentile(AT, 99) == 20
    assert waits.percentile(("p", "m", False), 90) is None


def test_only_the_last_hundred_count() -> None:
    waits = Waits()
    for _ in range(100):
        waits.add(AT, 50.0)
    for _ in range(100):
        waits.add(AT, 1.0)
    assert waits.percentile(AT, 99) == 1.0


def test_a_removed_provider_is_forgotten() -> None:
    waits = Waits()
    for _ in range(MIN_SAMPLES):
        waits.add(AT, 1.0)
        waits.add(("q", "m", True), 2.0)
    waits.keep({"q"})
    assert waits.percentile(AT, 90) is None
    assert waits.percentile(("q", "m", True), 90) == 2.0


def test_a_tenth_is_one_in_ten_and_the_first_may() -> None:
    budget = Budget()
    spent = []
    for number in range(1, 41):
        budget.request("k", 0.1)
        if budget.has("k"):
            budget.spend("k")
            spent.append(number)
    assert spent == [1, 11, 21, 31]
    assert not budget.has("another")


def test_a_long_quiet_time_saves_up_ten_hedges_and_no_more() -> None:
    budget = Budget()
    for _ in range(1000):
        budget.request("k", 0.5)
    spent = 0
    while budget.has("k"):
        budget.spend("k")
        spent += 1
    assert spent == 10
    budget.request("k", 0.5)
    budget.keep({"j"})
    assert not budget.has("k")
