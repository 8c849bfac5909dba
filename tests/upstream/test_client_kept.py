"""A provider may close a kept connection in the instant it is asked over it: nobody's failure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from tests.kit.world import World
from uniapi.demo.http1 import Connection

SAID = (
    b'{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}]}'
)
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(SAID),
    SAID,
)


class Hasty:
    """Answers once over each connection, and closes it `after` seconds when asked again.

    Attributes:
        asked: which request over which connection, both from 1.
        answers: how many connections it answers over at all.
    """

    def __init__(self, after: float = 0.0, answers: int = 99) -> None:
        self.asked: list[tuple[int, int]] = []
        self.answers = answers
        self._after = after
        self._connections = 0

    async def __call__(self, stream: trio.abc.Stream) -> None:
        self._connections += 1
        number, connection = self._connections, Connection(stream)
        async with stream:
            for nth in (1, 2):
                if await connection.request() is None:
                    return
                self.asked.append((number, nth))
                if nth == 2 or number > self.answers:
                    await trio.sleep(self._after)
                    return
                await stream.send_all(WHOLE)


Ask = Callable[[Hasty], Awaitable[list[str]]]


@pytest.fixture
def ask(world: World) -> Ask:
    """Ask this provider twice; the trails."""

    async def twice(hasty: Hasty) -> list[str]:
        world.network.servers["a"] = hasty
        world.chain("a")
        heard = [await world.ask(stream=False) for _ in range(2)]
        return [one.headers["x-uniapi-attempts"] for one in heard]

    return twice


async def test_the_request_goes_out_once_more_over_a_fresh_connection_and_at_once(
    ask: Ask, autojump_clock: MockClock
) -> None:
    hasty = Hasty()
    assert await ask(hasty) == ["a/m;ok;ms=0", "a/m;ok;ms=0"]
    assert hasty.asked == [(1, 1), (1, 2), (2, 1)]
    assert trio.current_time() == 0


async def test_one_that_fails_as_well_is_a_failure(ask: Ask, autojump_clock: MockClock) -> None:
    hasty = Hasty(answers=1)
    trails = await ask(hasty)
    assert trails[1].split(";")[:2] == ["a/m", "reset"]
    assert hasty.asked[:3] == [(1, 1), (1, 2), (2, 1)]


async def test_who_takes_its_time_to_close_has_read_the_request(
    ask: Ask, autojump_clock: MockClock
) -> None:
    trails = await ask(Hasty(after=3.0))
    assert trails[1].split(";")[:3] == ["a/m", "reset", "status=502"]
    assert "ms=3000" in trails[1]
