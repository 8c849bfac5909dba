"""Who sends a token makes no difference: the writer's task, or the one that brought it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from math import inf

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from tests.kit.prompt import prompt_pair
from tests.kit.wire import Heard, Wire
from tests.kit.world import World
from uniapi.demo import Fault

WAYS = ("text", "cut and carried on", "cut", "tools", "silent for a while")


def heard(
    way: str,
    gaps: tuple[float, float],
    every: float | None,
    room: list[int] | None,
    wait: float = 0.0,
) -> Heard:
    """A streamed answer as a client gets it, whose connection takes so many bytes at once.

    None is a connection that never takes any: all is sent by the writer. What is not taken at
    once takes so many seconds.
    """
    found: list[Heard] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world = World(nursery)
            gap, ttft = gaps
            fault = Fault.ABORT if way.startswith("cut") else Fault.NONE
            tools = (("look", '{"at":"the sky"}'),) if way == "tools" else ()
            world.provider("one", gap=gap, ttft=ttft, tools=tools, fault=fault, at=20)
            world.provider("two", gap=gap, text="Something else altogether.")
            if way == "cut and carried on":
                world.provider("two", gap=gap)
            if way == "silent for a while":
                world.provider("one", gap=gap, fault=Fault.STALL, at=7, pause=50.0)
            often = "" if every is None else f"preferences:\n  keepalive_interval: {every}s\n"
            world.chain("one", "two", top=often)
            sizes: Iterator[float] = chain(room or (), repeat(inf))
            pair = memory_stream_pair() if room is None else prompt_pair(sizes, wait)
            nursery.start_soon(world.server.serve_transport, pair[1])
            wire = Wire(pair[0])
            await world.send(wire, stream=True)
            found.append(await wire.hear())
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return found[0]


def told(answer: Heard) -> list[tuple[float, bytes]]:
    """What came at which second, but for the ids and times that no two answers share."""
    seconds: dict[float, bytes] = {}
    for at, data in answer.arrivals:
        seconds[at] = seconds.get(at, b"") + data
    return sorted(seconds.items())


def said(answer: Heard) -> list[bytes]:
    """The events, and nothing of how long anything took."""
    return [event for event in answer.body.split(b"\n\n") if not event.startswith(b":")]


@settings(max_examples=60)
@given(
    way=st.sampled_from(WAYS),
    gaps=st.tuples(st.sampled_from([0.0, 0.25, 3.0]), st.sampled_from([0.0, 7.0])),
    every=st.sampled_from([None, 1, 2.5, 20]),
    room=st.lists(st.integers(0, 300), max_size=60),
)
def test_the_same_bytes_come_at_the_same_second(
    way: str, gaps: tuple[float, float], every: float | None, room: list[int]
) -> None:
    at_once, by_the_writer = heard(way, gaps, every, room), heard(way, gaps, every, None)
    assert at_once.status == by_the_writer.status == 200
    assert at_once.ended == by_the_writer.ended == "whole"
    assert told(at_once) == told(by_the_writer)


@settings(max_examples=60)
@given(
    way=st.sampled_from(WAYS),
    gaps=st.tuples(st.sampled_from([0.0, 0.01, 0.25]), st.sampled_from([0.0, 7.0])),
    room=st.lists(st.sampled_from([0, 0, 5, 1000]), max_size=80),
    wait=st.sampled_from([0.0, 0.01, 0.1, 1.0]),
)
def test_a_client_that_is_slow_at_times_gets_every_event_in_its_order(
    way: str, gaps: tuple[float, float], room: list[int], wait: float
) -> None:
    slow = heard(way, gaps, None, room, wait)
    assert slow.ended == "whole"
    assert said(slow) == said(heard(way, gaps, None, None))
