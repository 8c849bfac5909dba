"""The housekeeper: nothing of a peak is left, and nobody pays for that while it lasts."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import MockClock

from tests.kit.world import World
from uniapi.server.upkeep import Peak, keep_house


def living() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def test_500_streams_leave_no_task_and_no_connection(
    world: World, autojump_clock: MockClock
) -> None:
    world.provider("a", tokens=3, gap=0.02)
    world.chain("a")
    world.nursery.start_soon(keep_house, world.gateway.client.sweep)
    await world.ask()
    await trio.sleep(100)
    before = living()
    texts: list[str] = []

    async def ask() -> None:
        texts.append((await world.ask()).text())

    async with trio.open_nursery() as clients:
        for _ in range(500):
            clients.start_soon(ask)
        await trio.sleep(0.01)
        assert world.gateway.client.open_connections == 500
        assert living() > before + 2000
    assert len(texts) == 500
    assert len(set(texts)) == 1
    await trio.sleep(0.1)  # for the server to see that the clients have gone
    assert world.server.open_connections == 0
    assert 0 < world.gateway.client.open_connections <= 64
    await trio.sleep(31)  # idle connections are kept for 30 s, and looked at every second
    assert world.gateway.client.open_connections == 0
    assert living() == before


async def test_memory_is_given_back_once_when_a_peak_is_over(autojump_clock: MockClock) -> None:
    async def nothing() -> int:
        return 0

    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_house, nothing)
            for _ in range(200):
                nursery.start_soon(trio.sleep, 5.5)
            await trio.sleep(5.25)
            assert logs == []
            await trio.sleep(50)
            nursery.cancel_scope.cancel()
    assert [(line["event"], line["swept"]) for line in logs] == [("server.quiet", 0)]


async def test_what_is_closed_soon_after_a_peak_gives_its_memory_back_too(
    autojump_clock: MockClock,
) -> None:
    async def one_at_30_and_one_at_90() -> int:
        return 1 if trio.current_time() in {30, 90} else 0

    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_house, one_at_30_and_one_at_90)
            for _ in range(200):
                nursery.start_soon(trio.sleep, 5.5)
            await trio.sleep(100.5)
            nursery.cancel_scope.cancel()
    assert [line["swept"] for line in logs] == [0, 1]


async def test_connections_are_swept_every_second_without_a_request(
    autojump_clock: MockClock,
) -> None:
    times: list[float] = []

    async def sweep() -> int:
        times.append(trio.current_time())
        return 1

    with capture_logs() as logs, trio.move_on_after(3.5):
        await keep_house(sweep)
    assert times == [1, 2, 3]
    assert logs == []  # and there was no peak


@given(st.lists(st.integers(1, 99)))
def test_a_small_load_is_never_a_peak(loads: list[int]) -> None:
    peak = Peak()
    assert not any(peak.over(load) for load in loads)


@given(st.lists(st.integers(1, 5000)))
def test_a_peak_is_over_when_a_quarter_is_left_and_not_before(loads: list[int]) -> None:
    peak, most = Peak(), 0
    for load in loads:
        most = max(most, load)
        over = peak.over(load)
        assert over == (most >= 100 and load <= most / 4)
        most = load if over else most
