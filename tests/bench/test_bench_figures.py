"""The arithmetic of the bench."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Summary, percentile
from bench.process import cost, seconds


@pytest.mark.parametrize(
    ("share", "value"), [(0, 1), (0.01, 1), (0.5, 50), (0.501, 51), (0.9, 90), (0.99, 99), (1, 100)]
)
def test_percentiles_of_a_hundred(share: float, value: float) -> None:
    assert percentile([float(n) for n in range(1, 101)], share) == value


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(
    values: list[float], share: float
) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert sum(value <= found for value in values) >= share * len(values) * (1 - 1e-12)
    below = [value for value in values if value < found]
    assert not below or len(below) < share * len(values)


def test_a_summary_is_in_seconds_and_its_line_in_milliseconds() -> None:
    summary = Summary.of([0.3, 0.1, 0.2])
    assert (summary.count, summary.p50, summary.p90, summary.max) == (3, 0.2, 0.3, 0.3)
    assert summary.line() == "p50 200.0  p90 300.0  p99 300.0  max 300.0 ms"


def test_nothing_measured_is_said_as_nothing() -> None:
    assert Summary.of([]) == Summary(0)
    assert Summary.of([]).line() == "-"


@pytest.mark.parametrize(
    ("time", "total"),
    [("0:01.25", 1.25), ("12:03", 723), ("01:02:03", 3723), ("2-01:00:00", 176_400), ("7", 7)],
)
def test_ps_times_are_read(time: str, total: float) -> None:
    assert seconds(time) == total


def test_a_process_has_a_cost() -> None:
    mine = cost(os.getpid())
    assert mine.cpu > 0
    assert 5e6 < mine.rss < 5e9


def test_an_opened_descriptor_is_counted() -> None:
    before = cost(os.getpid()).fds
    reader, writer = os.pipe()
    after = cost(os.getpid()).fds
    os.close(reader)
    os.close(writer)
    assert (before is None) is (after is None)
    assert before is None or after == before + 2


def test_no_process_is_an_error() -> None:
    with pytest.raises(ProcessLookupError):
        cost(2**22 + 1)  # above the largest id any system gives
