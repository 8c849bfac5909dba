"""The clock of the tests themselves."""

from __future__ import annotations

import threading

import trio
from trio.testing import MockClock


async def test_no_second_passes_while_a_thread_works(autojump_clock: MockClock) -> None:
    with trio.move_on_after(1) as scope:
        async with trio.open_nursery() as nursery:
            for seconds in (0.01, 0.03):  # real ones, in a thread: long enough to be jumped over
                nursery.start_soon(trio.to_thread.run_sync, threading.Event().wait, seconds)
    assert not scope.cancelled_caught
    assert trio.current_time() == 0


async def test_it_jumps_again_when_the_thread_is_done(autojump_clock: MockClock) -> None:
    await trio.to_thread.run_sync(threading.Event().wait, 0.01)
    await trio.sleep(3600)
    assert trio.current_time() == 3600
