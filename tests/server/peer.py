"""Clients that an HTTP library would not be: slow ones, rude ones, and what they saw."""

from __future__ import annotations

import math
from collections.abc import Callable

import h2.connection
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from tests.kit.wire import Wire
from tests.kit.world import KEY, World
from uniapi.codec import Json, dumps


def post(
    body: bytes,
    *headers: str,
    key: str = KEY,
    path: str = "/v1/chat/completions",
    http: str = "1.1",
) -> bytes:
    """One POST as bytes."""
    lines = [f"POST {path} HTTP/{http}", "host: g", f"authorization: Bearer {key}"]
    if not any(line.startswith(("content-length", "transfer-encoding")) for line in headers):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


def chat(*, stream: bool = True, **fields: Json) -> bytes:
    """The body of a chat request for the model `m`."""
    asked: dict[str, Json] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    return dumps({**asked, "stream": stream, **fields})


def begun(
    http: h2.connection.H2Connection, method: str, path: str, *, key: str = KEY, end: bool = True
) -> int:
    """A stream whose head is ready to be sent; `end` says that no body follows."""
    stream = http.get_next_available_stream_id()
    head = [
        (":method", method),
        (":path", path),
        (":authority", "localhost"),
        (":scheme", "https"),
        ("authorization", f"Bearer {key}"),
    ]
    http.send_headers(stream, head, end_stream=end)
    return stream


GET_HEALTH = b"GET /healthz HTTP/1.1\r\nhost: g\r\n\r\n"


def unhurried(world: World) -> Wire:
    """A client whose network holds nothing: what it does not read, the server cannot send."""
    ours, theirs = lockstep_stream_pair()
    world.nursery.start_soon(world.server.serve_transport, theirs)
    return Wire(ours)


async def end_of(stream: trio.abc.Stream) -> float:
    """Read to the end; the second at which it came."""
    try:
        while await stream.receive_some():
            pass
    except trio.BrokenResourceError:
        pass
    return trio.current_time()


async def everything(stream: trio.abc.Stream) -> bytes:
    """All bytes until the end."""
    data = b""
    while more := await stream.receive_some():
        data += bytes(more)
    return data


async def well(world: World) -> bool:
    """Whether the server answers a healthy request on a new connection."""
    heard = await world.get("/healthz", key=None)
    return heard.status == 200


async def until(holds: Callable[[], bool]) -> None:
    """Wait on the real clock; for what happens in another process or behind a real socket."""
    while not holds():  # noqa: ASYNC110 - there is no event to wait for across a socket
        await trio.sleep(0.002)


async def settled(world: World) -> None:
    """Wait until nothing has anything left to do at this second."""
    await trio.testing.wait_all_tasks_blocked()
    assert world.server.open_connections == 0


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Accepts whoever `connect`s, until it is closed."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](math.inf)
        self.closed_at: float | None = None

    def connect(self) -> Wire:
        ours, theirs = memory_stream_pair()
        self._send.send_nowait(theirs)
        return Wire(ours)

    def connect_unhurried(self) -> Wire:
        ours, theirs = lockstep_stream_pair()
        self._send.send_nowait(theirs)
        return Wire(ours)

    async def accept(self) -> trio.abc.Stream:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self.closed_at = trio.current_time()
        await trio.lowlevel.checkpoint()
