"""The corners of a meter: takings remembered as one, and those that begin after a wait."""

from __future__ import annotations

from uniapi.config.bounds import Unit, Window
from uniapi.meter import SLOTS, Meter


class Tape:
    """A meter of one window of 64 seconds, whose marks are shared within a second."""

    def __init__(self, limit: int) -> None:
        self.window = Window(limit, 64.0)
        self.meter = Meter()

    def take(self, count: int, now: float, start: float | None = None) -> None:
        begin = now if start is None else start
        for _ in range(count):
            self.meter.add((self.window,), Unit.REQUESTS, 1, now, begin)

    def wait(self, now: float) -> float:
        return self.meter.wait(self.window, now)

    def left(self, now: float) -> int:
        return self.meter.left(self.window, now)


def test_takings_remembered_as_one_last_until_the_latest_is_a_window_old() -> None:
    tape = Tape(100)
    tape.take(SLOTS, 0.0)
    tape.take(1, 0.5)
    assert tape.left(64.0) == 98, "the mark of the last two is there until 64.5"
    assert tape.left(64.5) == 100


def test_one_that_begins_later_keeps_the_mark_it_shares() -> None:
    tape = Tape(100)
    tape.take(SLOTS, 0.0)
    tape.take(1, 0.25, start=3.0)
    tape.take(1, 0.5)
    assert tape.left(66.9) == 97
    assert tape.left(67.0) == 100


def test_a_shared_mark_is_no_longer_than_its_slot() -> None:
    tape = Tape(200)
    for tick in range(2000):  # two a second, for ever: 128 in any window
        now = tick / 2
        assert tape.wait(now) == 0
        tape.take(1, now)


def test_two_that_began_out_of_order_are_both_waited_for() -> None:
    tape = Tape(1)
    tape.take(1, 0.0, start=3.0)
    tape.take(1, 1.0)
    assert tape.wait(2.0) == 65.0
    assert tape.wait(67.0) == 0


def test_a_new_number_keeps_what_was_used() -> None:
    tape = Tape(15)
    tape.take(10, 0.0)
    assert tape.meter.left(Window(20, 64.0), 1.0) == 10
    assert tape.meter.left(Window(5, 64.0), 1.0) == 0
    assert tape.meter.wait(Window(5, 64.0), 1.0) == 63.0


def test_what_was_never_counted_is_all_there() -> None:
    tape = Tape(15)
    tape.take(10, 0.0)
    for other in (Window(7, 1.0), Window(7, 64.0, Unit.TOKENS)):
        assert tape.meter.left(other, 0.0) == 7
        assert tape.meter.wait(other, 0.0) == 0
