"""Our TCP stream behaves as trio's does, on real sockets."""

from __future__ import annotations

import os
import socket
import struct

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from uniapi.tcp import Tcp


def pair() -> tuple[Tcp, trio.SocketStream]:
    ours, theirs = trio.socket.socketpair()
    return Tcp(trio.SocketStream(ours)), trio.SocketStream(theirs)


async def connected() -> tuple[Tcp, trio.SocketStream]:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        theirs = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return Tcp(await listener.accept()), theirs


async def test_what_was_sent_is_received_up_to_the_end() -> None:
    ours, theirs = pair()
    async with ours, theirs:
        await theirs.send_all(b"hello")
        assert await ours.receive_some(2) == b"he"
        assert await ours.receive_some() == b"llo"
        await theirs.send_eof()
        assert await ours.receive_some() == b""
        await ours.send_all(b"still")
        await ours.send_eof()
        assert await theirs.receive_some() == b"still"
        assert await theirs.receive_some() == b""


async def test_reading_waits_and_can_be_cancelled_without_losing_anything() -> None:
    ours, theirs = pair()
    async with ours, theirs:
        with trio.move_on_after(0.01) as patience:
            await ours.receive_some()
        assert patience.cancelled_caught
        await theirs.send_all(b"later")
        assert await ours.receive_some() == b"later"


async def test_more_than_the_system_takes_arrives_whole() -> None:
    ours, theirs = pair()
    sent, received = os.urandom(3_000_000), bytearray()

    async def send() -> None:
        await ours.send_all(sent)
        await ours.aclose()

    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        async for data in theirs:
            received += data
    assert received == sent


async def test_closing_wakes_who_reads() -> None:
    ours, theirs = pair()
    woken: list[bool] = []

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()
        woken.append(True)

    async with theirs, trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await ours.aclose()
    assert woken
    with pytest.raises(trio.ClosedResourceError):
        await ours.receive_some()
    assert ours.send_now(b"x") == b"x"
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")


async def test_a_reset_is_a_broken_stream() -> None:
    ours, theirs = await connected()
    async with ours:
        theirs.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await theirs.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await ours.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await ours.send_all(b"x")


async def test_reads_are_as_long_as_asked_and_keep_what_they_brought() -> None:
    first, theirs = pair()
    second, others = pair()
    async with first, second, theirs, others:
        await theirs.send_all(b"abcdef")
        await others.send_all(b"uvwxyz")
        read = [await first.receive_some(4), await second.receive_some(4)]
        read += [await first.receive_some(), await second.receive_some(100_000)]
    assert read == [b"abcd", b"uvwx", b"ef", b"yz"]
