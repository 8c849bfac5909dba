"""Connections are accepted whenever they come, and when there is no room it is waited for."""

from __future__ import annotations

import errno

import pytest
import structlog
import trio
from trio.testing import MockClock, memory_stream_pair

from uniapi.server.accept import accept


class Door(trio.abc.Listener[trio.abc.Stream]):
    """Accepts at these seconds; a number in place of a time is the error of that moment."""

    def __init__(self, *comes: float | OSError) -> None:
        self.comes = list(comes)
        self.closed = False

    async def accept(self) -> trio.abc.Stream:
        if not self.comes:
            await trio.sleep_forever()
        first = self.comes[0]
        if isinstance(first, OSError):
            self.comes.pop(0)
            await trio.lowlevel.checkpoint()
            raise first
        await trio.sleep_until(first)
        self.comes.pop(0)
        return memory_stream_pair()[0]

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


async def served(door: Door, seconds: float) -> list[float]:
    times: list[float] = []

    async def handler(stream: trio.abc.Stream) -> None:
        times.append(trio.current_time())
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(seconds):
            await accept(door, handler, nursery)
    return times


async def test_no_connection_falls_between_two_waits(autojump_clock: MockClock) -> None:
    times = [0.0, 4.999, 5.0, 5.001, 10.0, 17.3, 100.0]
    door = Door(*times)
    assert await served(door, 200) == times
    assert door.closed


async def test_no_room_is_waited_out(autojump_clock: MockClock) -> None:
    door = Door(OSError(errno.EMFILE, "full"), OSError(errno.ENFILE, "full"), 0.0)
    with structlog.testing.capture_logs() as logs:
        assert await served(door, 1) == [0.2]
    assert [line["event"] for line in logs] == ["server.no_room"] * 2


async def test_a_broken_listener_is_told(autojump_clock: MockClock) -> None:
    with pytest.raises(ExceptionGroup) as told:
        await served(Door(OSError(errno.EBADF, "broken")), 1)
    assert told.value.subgroup(lambda error: getattr(error, "errno", 0) == errno.EBADF)
