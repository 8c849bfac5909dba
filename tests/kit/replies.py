"""A provider that answers any path with scripted bytes: for what is not chat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from uniapi.codec import Json, dumps, loads
from uniapi.demo.http1 import Connection, Message


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        body: sent in one write with the head, unless there are pieces.
        pieces: (seconds after the request, bytes), in chunks.
        delay: seconds before the head.
        cut: the connection closes in place of the end.
    """

    body: bytes = b""
    kind: str = "application/json"
    status: int = 200
    pieces: Sequence[tuple[float, bytes]] | None = None
    delay: float = 0.0
    cut: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    def head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Scripted"]
        if self.kind:
            lines.append(f"content-type: {self.kind}")
        if self.pieces is None:
            lines.append(f"content-length: {len(self.body) + self.cut}")
        else:
            lines.append("transfer-encoding: chunked")
        lines += [f"{name}: {value}" for name, value in self.headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def said(value: Json, status: int = 200, **how: object) -> Reply:
    """A JSON reply."""
    return Reply(dumps(value), status=status, **how)  # type: ignore[arg-type] # the fields of Reply, by name


def refusal(status: int, code: str | None = None, message: str = "no") -> Reply:
    """An error object."""
    return said({"error": {"message": message, "type": "x", "param": None, "code": code}}, status)


@dataclass
class Asked:
    """A request as the provider saw it."""

    message: Message
    time: float
    left_at: float | None = None

    @property
    def path(self) -> str:
        return self.message.path

    @property
    def headers(self) -> dict[str, str]:
        return self.message.headers

    @property
    def body(self) -> bytes:
        return self.message.body

    def json(self) -> Json:
        return loads(self.message.body)


@dataclass
class Fake:
    """The provider: path to its reply, or what makes one; other paths get 404."""

    replies: Mapping[str, Reply | Callable[[Asked], Reply]]
    requests: list[Asked] = field(default_factory=list)

    async def __call__(self, stream: trio.abc.Stream) -> None:
        connection = Connection(stream)
        try:
            while (message := await connection.request()) is not None:
                asked = Asked(message, trio.current_time())
                self.requests.append(asked)
                found = self.replies.get(message.path, refusal(404))
                reply = found if isinstance(found, Reply) else found(asked)
                if not await self._answer(connection, asked, reply):
                    return
        except trio.BrokenResourceError:
            return
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, connection: Connection, asked: Asked, reply: Reply) -> bool:
        whole = False

        async def watch() -> None:
            await connection.gone()
            asked.left_at = trio.current_time()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await _write(connection.stream, asked.time, reply)
            whole = not reply.cut
            nursery.cancel_scope.cancel()
        return whole


async def _write(stream: trio.abc.Stream, begun: float, reply: Reply) -> None:
    await trio.sleep_until(begun + reply.delay)
    if reply.pieces is None:
        await stream.send_all(reply.head() + reply.body)
        return
    await stream.send_all(reply.head())
    for at, data in reply.pieces:
        await trio.sleep_until(begun + at)
        await stream.send_all(b"%x\r\n%b\r\n" % (len(data), data))
    if not reply.cut:
        await stream.send_all(b"0\r\n\r\n")


def form(boundary: str, *parts: tuple[str, bytes], filename: str = "a.mp3") -> bytes:
    """A form whose part `file` (and `image`) is a file."""
    made = b""
    for name, value in parts:
        file = f'; filename="{filename}"' if name in {"file", "image", "image[]"} else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n'
        kind = "Content-Type: application/octet-stream\r\n" if file else ""
        made += (head + kind + "\r\n").encode() + value + b"\r\n"
    return made + f"--{boundary}--\r\n".encode()
