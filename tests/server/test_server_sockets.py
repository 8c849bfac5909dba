"""What only a socket can show: addresses, limits, and a port that is let go."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
import trio

from tests.kit.wire import Wire
from tests.kit.world import World
from tests.server.peer import GET_HEALTH, chat, end_of, everything, post, until
from uniapi.codec import loads
from uniapi.frontend.app import App
from uniapi.server.bind import Bind
from uniapi.server.connection import Address
from uniapi.server.serve import Server


@dataclass
class Site:
    """A server on a loopback port, with room for two connections."""

    world: World
    server: Server
    ports: list[int] = field(default_factory=list)
    ended: trio.Event = field(default_factory=trio.Event)

    async def run(self) -> None:
        def started(addresses: Sequence[Address]) -> None:
            self.ports.extend(address[1] for address in addresses if address)

        await self.server.run(started)
        self.ended.set()

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.ports[0])


@pytest.fixture
async def site(nursery: trio.Nursery) -> AsyncIterator[Site]:
    world = World(nursery)
    world.provider("a", gap=0.01)
    world.chain("a")
    server = Server(App(world.gateway), Bind("127.0.0.1", 0), grace=5, max_connections=2)
    built = Site(world, server)
    nursery.start_soon(built.run)
    with trio.fail_after(10):
        await until(lambda: bool(built.ports))
        yield built
    nursery.cancel_scope.cancel()


async def test_more_connections_than_there_is_room_for_are_turned_away_with_a_word(
    site: Site,
) -> None:
    first, second = await site.connect(), await site.connect()
    await until(lambda: site.server.open_connections == 2)
    third = await site.connect()
    answer = await everything(third)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in head
    match loads(body):
        case {"error": {"code": "overloaded", "type": "server_error", "param": None}}:
            pass
        case other:
            raise AssertionError(other)
    await first.aclose()
    await until(lambda: site.server.open_connections == 1)
    fourth = await site.connect()
    await fourth.send_all(GET_HEALTH)
    assert (await Wire(fourth).hear("GET")).status == 200
    for stream in (second, third, fourth):
        await stream.aclose()
    await until(lambda: site.server.open_connections == 0)


async def test_a_reset_is_a_leaving_like_any_other(site: Site) -> None:
    upstream = site.world.provider("a", ttft=30)
    stream = await site.connect()
    await stream.send_all(post(chat()))
    await until(lambda: upstream.active == 1)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    await stream.aclose()
    await until(lambda: upstream.active == 0 and site.server.open_connections == 0)


async def test_413_reaches_a_client_that_is_still_sending_over_a_socket(site: Site) -> None:
    stream = await site.connect()
    await stream.send_all(post(b"", "content-length: 100000000"))
    for _ in range(20):
        await stream.send_all(b"x" * 20_000)
        await trio.sleep(0.002)
    heard = await Wire(stream).hear()
    assert heard.status == 413
    await stream.aclose()
    await until(lambda: site.server.open_connections == 0)


async def test_the_port_is_let_go_when_draining_begins(site: Site) -> None:
    busy = await site.connect()
    await busy.send_all(post(chat()))
    assert (await busy.receive_some(5)) == b"HTTP/"
    site.server.stop()

    def refused() -> bool:
        with socket.socket() as late:
            return late.connect_ex(("127.0.0.1", site.ports[0])) != 0

    await until(refused)
    assert not site.ended.is_set()
    await end_of(busy)
    await busy.aclose()
    await site.ended.wait()


async def test_an_address_in_use_is_an_error_of_run(site: Site) -> None:
    other = Server(App(site.world.gateway), Bind("127.0.0.1", site.ports[0]))
    with pytest.raises(OSError, match="in use") as raised:
        await other.run(lambda _: None)
    assert raised.value.errno == errno.EADDRINUSE
