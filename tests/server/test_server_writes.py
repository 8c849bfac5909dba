"""Writes to real sockets: at once when the system takes them, in order and whole when not."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from uniapi.server.stream import ClientStream
from uniapi.tcp import Tcp


def pair() -> tuple[Tcp, Tcp]:
    ours, theirs = trio.socket.socketpair()
    return Tcp(trio.SocketStream(ours)), Tcp(trio.SocketStream(theirs))


async def test_what_the_system_takes_is_sent_without_waiting() -> None:
    ours, theirs = pair()
    async with ours, theirs:
        assert ClientStream(ours).send_now(b"data: 1\n\n") == b""
        assert await theirs.receive_some() == b"data: 1\n\n"


async def test_what_it_does_not_take_is_left_and_nothing_is_sent_twice() -> None:
    ours, theirs = pair()
    async with ours, theirs:
        stream, sent = ClientStream(ours), bytes(range(251)) * 40_000
        left = stream.send_now(sent)
        assert 0 < len(left) < len(sent)
        assert stream.send_now(b"more") == b"more"  # it is full

        async def rest() -> None:
            await stream.send_all(left)
            await stream.aclose()

        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rest)
            while data := await theirs.receive_some():
                received += data
        assert received == sent


async def test_a_client_that_has_gone_breaks_the_stream_where_errors_are_met() -> None:
    ours, theirs = pair()
    async with ours:
        stream = ClientStream(ours)
        await theirs.aclose()
        assert stream.send_now(b"data") == b"data"
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"data")
        assert stream.broken


async def test_nothing_is_sent_after_the_end() -> None:
    ours, theirs = pair()
    async with ours, theirs:
        stream = ClientStream(ours)
        stream.end_writes()
        assert stream.send_now(b"data") == b"data"
        await stream.aclose()
        assert await theirs.receive_some() == b""


async def test_a_closed_stream_sends_nothing() -> None:
    ours, theirs = pair()
    async with ours, theirs:
        stream = ClientStream(ours)
        await stream.aclose()
        assert stream.send_now(b"data") == b"data"


async def test_a_stream_without_a_socket_leaves_everything_to_the_slow_way() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    stream = ClientStream(ours)
    assert stream.send_now(b"data") == b"data"
    await stream.send_all(b"data")
    assert await theirs.receive_some() == b"data"
