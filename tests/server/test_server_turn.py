"""What our server adds to ASGI, and what it writes at once."""

from __future__ import annotations

from typing import Any

import h11
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from tests.server.peer import everything
from uniapi.frontend.asgi import Request
from uniapi.server.bind import Bind
from uniapi.server.serve import Server
from uniapi.server.turn import Turn


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


class Slow:
    """The connection under a turn, that takes so many bytes at a time."""

    def __init__(self, *room: int) -> None:
        self.room = list(room)
        self.written = b""
        self.http = h11.Connection(h11.SERVER)
        self.http.receive_data(b"GET / HTTP/1.1\r\nhost: g\r\n\r\n")
        self.http.next_event()

    def encoded(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> bytes:
        return self.http.send(event) or b""

    def write_now(self, data: bytes) -> bytes:
        taken = self.room.pop(0) if self.room else len(data)
        self.written += data[:taken]
        return data[taken:]

    async def write(self, data: bytes) -> None:
        self.written += data

    async def over(self) -> None:
        pass


async def begun(wire: Slow, *headers: tuple[bytes, bytes], method: bytes = b"GET") -> Turn:
    """A turn whose answer has begun; its head waits for the body."""

    async def put(_message: object) -> None:
        pass

    turn = Turn(wire, last=False)
    turn.begin(put, method)
    await turn.send({"type": "http.response.start", "status": 200, "headers": headers})
    return turn


async def test_what_is_sent_at_once_goes_out_with_the_head_and_what_is_left_before_the_rest() -> (
    None
):
    wire = Slow(2000, 3, 0)
    turn = await begun(wire)
    assert turn.send_now(b"one")
    assert wire.written.endswith(b"\r\n\r\n3\r\none\r\n")
    assert not turn.send_now(b"two")
    assert wire.written.endswith(b"one\r\n3\r\n")
    assert not turn.send_now(b"three")
    await turn.send({"type": "http.response.body", "body": b"", "more_body": True})
    assert wire.written.endswith(b"one\r\n3\r\ntwo\r\n5\r\nthree\r\n")
    await turn.send({"type": "http.response.body", "body": b"", "more_body": False})
    assert wire.written.endswith(b"three\r\n0\r\n\r\n")


async def test_a_part_without_bytes_is_not_the_end_of_the_body() -> None:
    wire = Slow()
    turn = await begun(wire)
    assert turn.send_now(b"")
    assert wire.written.partition(b"\r\n\r\n")[2] == b""


async def test_an_answer_without_a_body_has_none_at_once_either() -> None:
    wire = Slow()
    turn = await begun(wire, (b"content-length", b"3"), method=b"HEAD")
    assert turn.send_now(b"one")
    assert wire.written.partition(b"\r\n\r\n")[2] == b""


async def test_what_is_sent_at_once_to_who_has_gone_goes_nowhere() -> None:
    wire = Slow(0)
    turn = await begun(wire)
    await turn.close()
    assert turn.send_now(b"one")
    assert wire.written == b""
