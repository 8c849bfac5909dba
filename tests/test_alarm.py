"""An alarm cancels exactly when a deadline of the scope's own would."""

from __future__ import annotations

from math import inf

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from uniapi.alarm import Alarm, tidy


async def cancelled_at(moves: list[tuple[float, float]], *, own: bool) -> float:
    """When a scope is cancelled whose deadline is moved: (after so long, to so long from then)."""
    scope = trio.CancelScope()
    alarm = Alarm(scope)
    begun = trio.current_time()
    with scope:
        for wait, seconds in moves:
            await trio.sleep(wait)
            if own:
                scope.deadline = trio.current_time() + seconds
            else:
                alarm.move(trio.current_time() + seconds)
        await trio.sleep(1000)
        return inf
    alarm.stop()
    return trio.current_time() - begun


# In odd numbers of eighths and even ones: a move and a deadline never come in the same instant.
MOVES = st.lists(
    st.tuples(
        st.integers(0, 9).map(lambda n: n / 4 + 0.125),
        st.one_of(st.just(inf), st.integers(0, 20).map(lambda n: n / 4)),
    ),
    min_size=1,
    max_size=6,
)


@given(MOVES)
def test_it_rings_when_a_deadline_would_however_it_is_moved(
    moves: list[tuple[float, float]],
) -> None:
    async def both() -> tuple[float, float]:
        return await cancelled_at(moves, own=True), await cancelled_at(moves, own=False)

    theirs, ours = trio.run(both, clock=MockClock(autojump_threshold=0))
    assert ours == pytest.approx(theirs)


async def test_many_ring_each_at_its_moment(autojump_clock: MockClock) -> None:
    rung: dict[int, float] = {}

    async def one(number: int) -> None:
        scope = trio.CancelScope()
        alarm = Alarm(scope)
        alarm.move(number % 17)
        with scope:
            await trio.sleep_forever()
        rung[number] = trio.current_time()
        alarm.stop()

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(one, number)
    assert rung == {number: float(number % 17) for number in range(100)}


async def test_what_was_stopped_is_let_go_of(autojump_clock: MockClock) -> None:
    with trio.CancelScope() as scope:
        alarm = Alarm(scope)
        alarm.move(5)
        alarm.stop()
        await trio.sleep(10)
    assert not scope.cancelled_caught
    with trio.CancelScope() as kept:
        ringing = Alarm(kept)
        ringing.move(20)
        for _ in range(5000):  # far more than are left lying
            other = Alarm(trio.CancelScope())
            other.move(1000)
            other.stop()
        await trio.sleep_forever()
    assert trio.current_time() == 20


async def test_tidying_loses_nobody_who_only_rests(autojump_clock: MockClock) -> None:
    with trio.CancelScope() as scope:
        resting = Alarm(scope)
        resting.move(5)
        resting.move(inf)  # a request is served, or a client is slow
        tidy()
        resting.move(75)
        await trio.sleep(100)
    assert scope.cancelled_caught
    assert trio.current_time() == 75
