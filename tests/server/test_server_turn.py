"""What our server adds to ASGI, and what it writes at once."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from tests.server.peer import everything
from uniapi.frontend.asgi import Request
from uniapi.server.serve import Bind, Server


class Noting:
    """A client's end that notes how many writes it was sent."""

    def __init__(self) -> None:
        self.ours, self.theirs = memory_stream_pair()
        self.writes: list[bytes] = []
        send_all = self.theirs.send_all

        async def noted(data: bytes | bytearray | memoryview) -> None:
            self.writes.append(bytes(data))
            await send_all(data)

        self.theirs.send_all = noted  # type: ignore[method-assign] # a tap on the line


async def told(app: Any, asked: bytes) -> tuple[list[bytes], bytes]:
    """What a server with this application writes for these bytes, by writes and in all."""
    client = Noting()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(app, Bind("memory", 0)).serve_transport, client.theirs)
        await client.ours.send_all(asked)
        said = await everything(client.ours)
    return client.writes, said


def answering(*bodies: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> Any:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers or []})
        for body in bodies:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


GET = b"GET / HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n"


async def test_the_head_goes_out_with_the_first_of_the_body(autojump_clock: MockClock) -> None:
    writes, _ = await told(answering(b"one", b"two"), GET)
    assert writes[0].endswith(b"\r\n\r\n3\r\none\r\n")
    assert writes[1:] == [b"3\r\ntwo\r\n", b"0\r\n\r\n"]


async def test_a_client_of_http_1_0_gets_no_chunks(autojump_clock: MockClock) -> None:
    _, said = await told(answering(b"one", b"two"), b"GET / HTTP/1.0\r\nhost: g\r\n\r\n")
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body == b"onetwo"


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\0b"])
async def test_a_header_of_more_than_one_line_is_no_answer(
    value: bytes, autojump_clock: MockClock
) -> None:
    _, said = await told(answering(b"one", headers=[(b"x-said", value)]), GET)
    assert said.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in said


async def test_the_application_is_told_of_a_client_that_leaves_without_waiting_for_it(
    autojump_clock: MockClock,
) -> None:
    left: list[float] = []

    async def app(scope: Any, receive: Any, _send: Any) -> None:
        request = Request.of(scope, receive)
        assert request.on_leaving is not None
        assert request.arrived()
        done = trio.Event()

        def leaving() -> None:
            left.append(trio.current_time())
            done.set()

        request.on_leaving(leaving)
        await done.wait()

    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Server(app, Bind("memory", 0)).serve_transport, theirs)
        await ours.send_all(b"GET / HTTP/1.1\r\nhost: g\r\n\r\n")
        await trio.sleep(3)
        await ours.aclose()
    assert left == [3]
