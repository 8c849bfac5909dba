from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import h11
import pytest
import trio
from trio.testing import memory_stream_pair

from uniapi.codec import Json, dumps, loads
from uniapi.demo import Behaviour, Provider, serve_stream


@dataclass
class Heard:
    """One response as a strict HTTP client saw it; times are seconds from the ask."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    arrivals: list[tuple[float, bytes]] = field(default_factory=list)
    head_at: float = 0.0
    ended: str = ""
    ended_at: float = 0.0

    def events(self) -> list[bytes]:
        """The data of every event of the stream."""
        lines = self.body.replace(b"\r\n", b"\n").split(b"\n\n")
        return [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]

    def deltas(self) -> list[dict[str, Json]]:
        found = []
        for event in self.events():
            match loads(event) if event != b"[DONE]" else None:
                case {"choices": [{"delta": dict() as delta}]}:
                    found.append(delta)
                case _:
                    pass
        return found

    def text(self) -> str:
        return "".join(str(delta.get("content") or "") for delta in self.deltas())

    def json(self) -> Json:
        return loads(self.body)


class Wire:
    """A client's end of one connection to a provider."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=100_000)

    async def send(self, body: Json, *, path: str = "/v1/chat/completions", **headers: str) -> None:
        data = dumps(body)
        lines = f"POST {path} HTTP/1.1\r\nhost: p\r\ncontent-length: {len(data)}\r\n"
        lines += "".join(f"{n.replace('_', '-')}: {v}\r\n" for n, v in headers.items())
        await self.stream.send_all(lines.encode() + b"\r\n" + data)

    async def hear(self, method: str = "POST") -> Heard:
        self.http.send(h11.Request(method=method, target="/", headers=[("host", "p")]))
        self.http.send(h11.EndOfMessage())
        begun, heard = trio.current_time(), Heard()
        while not heard.ended:
            try:
                data = await self.stream.receive_some()
                heard.ended_at = trio.current_time() - begun
                self.http.receive_data(bytes(data))
                self._take(heard)
            except h11.RemoteProtocolError:
                heard.ended = "cut" if heard.status else "closed"
            except trio.BrokenResourceError:
                heard.ended = "reset"
                heard.ended_at = trio.current_time() - begun
        return heard

    def _take(self, heard: Heard) -> None:
        while not heard.ended:
            match self.http.next_event():
                case h11.Response() as response:
                    heard.status = response.status_code
                    heard.headers = {n.decode(): v.decode() for n, v in response.headers}
                    heard.head_at = heard.ended_at
                case h11.Data(data=data):
                    heard.body += data
                    heard.arrivals.append((heard.ended_at, bytes(data)))
                case h11.EndOfMessage():
                    heard.ended = "whole"
                    if self.http.our_state is self.http.their_state is h11.DONE:
                        self.http.start_next_cycle()
                case h11.ConnectionClosed():
                    heard.ended = "closed"
                case _:
                    return


Connect = Callable[[Provider], Wire]
Ask = Callable[..., Awaitable[Heard]]


@pytest.fixture
def connect(nursery: trio.Nursery) -> Connect:
    def opened(provider: Provider) -> Wire:
        ours, theirs = memory_stream_pair()
        nursery.start_soon(serve_stream, theirs, provider)
        return Wire(ours)

    return opened


@pytest.fixture
def ask(connect: Connect) -> Ask:
    """Ask a provider that behaves so, once, on a connection of its own."""

    async def once(how: Behaviour, *, stream: bool = True, **fields: Json) -> Heard:
        wire = connect(Provider(how))
        await wire.send({"model": "m", "stream": stream, **fields})
        return await wire.hear()

    return once
