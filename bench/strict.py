"""A strict client: it asks for sixty words over any stream, and knows whether it heard them all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import h11
import trio

from uniapi.codec import Json, dumps, loads
from uniapi.demo import SIXTY

KEY: Final = "sk-sixteen-faults"


@dataclass(slots=True)
class Heard:
    """What a strict client heard of one request.

    Attributes:
        at: when it asked.
        seconds: until the end.
        status: of HTTP.
        body: as it came.
        whole: HTTP ended as it should.
    """

    at: float
    seconds: float = 0.0
    status: int = 0
    body: bytes = b""
    whole: bool = False

    @property
    def chunks(self) -> list[Json]:
        """The events, or the one body of an error."""
        if self.status != 200:
            return [_loads(self.body)]
        events = self.body.replace(b"\r\n", b"\n").split(b"\n\n")
        found = (event.removeprefix(b"data: ") for event in events if event.startswith(b"data: "))
        return [_loads(data) for data in found if data != b"[DONE]"]

    @property
    def text(self) -> str:
        """The words of the answer."""
        said = ""
        for chunk in self.chunks:
            match chunk:
                case {"choices": [{"delta": {"content": str(word)}}]}:
                    said += word
                case _:
                    pass
        return said

    @property
    def complete(self) -> bool:
        """Whether it is the whole answer, and nothing but the answer."""
        return self.whole and not self.error and self.text == SIXTY

    @property
    def error(self) -> bool:
        """Whether it says that it is an error, in OpenAI's words."""
        return any(
            isinstance(chunk, dict) and isinstance(chunk.get("error"), dict)
            for chunk in self.chunks
        )

    @property
    def clean(self) -> bool:
        """Whether it is the whole answer or says that it is none."""
        return self.complete or (self.whole and self.error)

    @property
    def model(self) -> str:
        """The model that the last chunk with one names."""
        named = [c["model"] for c in self.chunks if isinstance(c, dict) and "model" in c]
        return str(named[-1]) if named else ""

    @property
    def usage(self) -> bool:
        """Whether the tokens are told."""
        return any(isinstance(c, dict) and bool(c.get("usage")) for c in self.chunks)


def _loads(data: bytes) -> Json:
    try:
        return loads(data)
    except ValueError:
        return None


async def ask(stream: trio.abc.Stream, model: str, patience: float) -> Heard:
    """Ask for a stream and hear it out, for so many seconds at most; closes the connection."""
    http = h11.Connection(h11.CLIENT)
    heard = Heard(trio.current_time())
    body = dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": "Say the sixty words."}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    headers = [
        ("host", "gateway"),
        ("authorization", f"Bearer {KEY}"),
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
    ]
    request = h11.Request(method="POST", target="/v1/chat/completions", headers=headers)
    sent = [http.send(event) for event in (request, h11.Data(data=body), h11.EndOfMessage())]
    with trio.move_on_after(patience):
        try:
            await stream.send_all(b"".join(part for part in sent if part))
            await _hear(stream, http, heard)
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            heard.whole = False
    heard.seconds = trio.current_time() - heard.at
    await trio.aclose_forcefully(stream)
    return heard


async def _hear(stream: trio.abc.Stream, http: h11.Connection, heard: Heard) -> None:
    while True:
        match http.next_event():
            case h11.NEED_DATA:
                http.receive_data(bytes(await stream.receive_some()))
            case h11.Response() as response:
                heard.status = response.status_code
            case h11.Data(data=data):
                heard.body += data
            case h11.EndOfMessage():
                heard.whole = True
                return
            case _:
                return
