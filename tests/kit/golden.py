"""Golden fixtures of the wire: `tests/wire/<engine>/<case>/`, and what the code makes of each.

Given, by hand, from the provider's documented or recorded format:
    ask.json       what the client asks, and of whom (below)
    stream.txt     the provider's answer to it as a stream (stream.hex for a binary one: hex digits
                   and any white space; stream.aws for AWS's messages, as in `awsframes`)
    body.json      the provider's answer as one body; the same answer, when there are both
    status.json    {"status": 429, "headers": {...}}: body.json is the error that came with it
Expected, written by `python -m tests.kit.golden` where missing, and then read against the
provider's format by a person, for these files are the specification:
    call.json      the call (the user agent left out), or
    refused.json   the error when there is none
    events.txt     the events of the stream, or else of the body: one a line
    answer.json    what a client that does not stream gets
    answer.sse     what a client that streams gets, when there is a stream
    failure.txt    what the engine makes of the status

ask.json: {"request": the client's body, "provider": an entry of api.yaml's providers (`provider`
and `api` may be left out: "p" and "KEY"), "media": {url: {"media_type", "data" in base64}},
"passed": {header: value}, "now": unix seconds, "token": what a grant brought}; only `request` and
`provider` must be there.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.kit import awsframes
from uniapi import codec
from uniapi.chat import ChatRequest
from uniapi.codec import Json
from uniapi.config.read import read, render
from uniapi.config.types import Channel, Provider, Secret
from uniapi.engines.base import Call, Decoder, Engine, Media, Recipient
from uniapi.engines.registry import engine_for
from uniapi.errors import ApiError
from uniapi.events import Batch, Event, Start, StreamFailed
from uniapi.framing import Framer, Framing, framer
from uniapi.frontend.json_writer import Collector, fold
from uniapi.frontend.sse_writer import DONE, Renderer

WIRE = Path(__file__).resolve().parent.parent / "wire"
NOW = 1_700_000_000
EXPECTED = (
    "call.json",
    "refused.json",
    "events.txt",
    "answer.json",
    "answer.sse",
    "failure.txt",
)


@dataclass(frozen=True)
class Case:
    """One folder."""

    folder: Path

    @property
    def name(self) -> str:
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def ask(self) -> dict[str, Any]:
        value: dict[str, Any] = codec.loads((self.folder / "ask.json").read_bytes())  # type: ignore[assignment]  # a fixture's shape is known
        return value

    def chat(self, *, stream: bool | None = None) -> ChatRequest:
        """The client's request; `stream` overrides what it says."""
        fields = dict(self.ask["request"])
        if stream is not None:
            fields["stream"] = stream
        options = fields.get("stream_options") or {}
        return ChatRequest(
            model=fields["model"],
            fields=fields,
            stream=fields.get("stream") is True,
            include_usage=options.get("include_usage") is True,
            size=len(codec.dumps(fields)),
        )

    @property
    def provider(self) -> Provider:
        entry = {"provider": "p", "api": "KEY", **self.ask["provider"]}
        text = codec.dumps({"providers": [entry], "api_keys": [{"api": "sk-golden-0000"}]})
        return _provider(text.decode())

    @property
    def channel(self) -> Channel:
        provider, asked = self.provider, str(self.ask["request"]["model"])
        upstream = {model.name: model.upstream for model in provider.models or ()}
        return Channel(provider, upstream.get(asked, asked), asked)

    @property
    def engine(self) -> Engine:
        channel = self.channel
        engine = engine_for(channel.provider, channel.upstream)
        assert engine is not None, f"{self.name}: no engine claims the provider"
        return engine

    @property
    def recipient(self) -> Recipient:
        ask, channel = self.ask, self.channel
        key = Secret(ask["token"]) if "token" in ask else next(iter(channel.provider.keys), None)
        return Recipient(
            channel=channel,
            key=key,
            passed=tuple(ask.get("passed", {}).items()),
            now=ask.get("now", NOW),
            media={
                url: Media(media["media_type"], base64.b64decode(media["data"]))
                for url, media in ask.get("media", {}).items()
            },
        )

    def call(self, *, stream: bool | None = None) -> Call:
        return self.engine.encode(self.chat(stream=stream), self.recipient)

    @property
    def stream(self) -> bytes | None:
        """The recorded stream."""
        hexed = self.folder / "stream.hex"
        if hexed.exists():
            return bytes.fromhex(hexed.read_text())
        messages = self._given("stream.aws")
        if messages is not None:
            return awsframes.encode(messages.decode())
        return self._given("stream.txt")

    @property
    def body(self) -> bytes | None:
        """The recorded body; of an error when there is a status."""
        return self._given("body.json")

    @property
    def status(self) -> dict[str, Any] | None:
        found = self._given("status.json")
        return None if found is None else codec.loads(found)  # type: ignore[return-value]  # as in ask

    def _given(self, name: str) -> bytes | None:
        path = self.folder / name
        return path.read_bytes() if path.exists() else None

    def decoder(self, *, upstream: bool, client: bool) -> tuple[Framer, Decoder]:
        """A fresh framer and decoder for an answer that streams or not to a client that does."""
        framing: Framing = self.call(stream=upstream).framing
        start = Start("chatcmpl-golden", self.channel.upstream, NOW)
        return framer(framing), self.engine.decoder(self.chat(stream=client), framing, start)

    def decode(self, data: bytes, *, upstream: bool, client: bool) -> list[Batch]:
        """The batches of an answer that came in one read."""
        return list(drive([data], *self.decoder(upstream=upstream, client=client)))


@cache
def _provider(text: str) -> Provider:
    report = read(text, name="ask.json", env={})
    assert report.config is not None, render(report.problems)
    return report.config.providers[0]


def cases(engine: str = "*") -> list[Case]:
    """Every case, or those of one folder."""
    return [Case(path.parent) for path in sorted(WIRE.glob(f"{engine}/*/ask.json"))]


def named(found: Iterable[Case]) -> pytest.MarkDecorator:
    """A test for each case, by its name."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in found])


def drive(reads: Iterable[bytes], frames: Framer, decoder: Decoder) -> Iterator[Batch]:
    """Feed the reads of one body, as the translator does."""
    for data in reads:
        ready = frames.feed(data)
        if ready:
            yield decoder.feed(ready)
        if decoder.finished():
            return
    ready = frames.end()
    if ready:
        yield decoder.feed(ready)
    yield decoder.end()


def events_of(batches: Iterable[Batch]) -> list[Event]:
    """All the events, in order."""
    return [event for batch in batches for event in batch.events]


def failed(events: Sequence[Event]) -> bool:
    """Whether the answer broke."""
    return any(isinstance(event, StreamFailed) for event in events)


def collected(events: Sequence[Event]) -> Json:
    """The message the events tell of, whatever bytes came with them."""
    collector = Collector()
    collector.take(events)
    return codec.loads(collector.body())


def produced(case: Case) -> dict[str, str]:
    """What the code makes of a case: expected file to its text."""
    status = case.status
    made: dict[str, str] = {}
    try:
        made["call.json"] = pretty(_shown(case.call()))
    except ApiError as error:
        shown: Json = {"status": error.status, "param": error.param, "message": error.message}
        return {"refused.json": pretty(shown)}
    if status is not None:
        headers = status.get("headers", {})
        failure = case.engine.failure(status["status"], headers, case.body or b"")
        return {**made, "failure.txt": f"{failure!r}\n"}
    if (stream := case.stream) is not None:
        batches = case.decode(stream, upstream=True, client=True)
        events = events_of(batches)
        made["events.txt"] = _lines(events)
        made["answer.sse"] = _sse(case, batches, events)
        batches = case.decode(stream, upstream=True, client=False)
        if not failed(events):
            made["answer.json"] = pretty(codec.loads(fold(batches)))
    if (body := case.body) is not None:
        batches = case.decode(body, upstream=False, client=False)
        events = events_of(batches)
        made.setdefault("events.txt", _lines(events))
        if not failed(events):
            made["answer.json"] = pretty(codec.loads(fold(batches)))
    return made


def _shown(call: Call) -> Json:
    headers: dict[str, Json] = dict(call.headers)
    headers.pop("user-agent", None)
    shown: dict[str, Json] = {
        "method": call.method,
        "url": call.url,
        "headers": headers,
        "framing": call.framing,
    }
    if call.body:
        shown["body"] = codec.loads(call.body)
    if call.notes:
        shown["notes"] = list(call.notes)
    return shown


def _lines(events: Iterable[Event]) -> str:
    return "".join(f"{event!r}\n" for event in events)


def _sse(case: Case, batches: Iterable[Batch], events: Sequence[Event]) -> str:
    renderer = Renderer(
        include_usage=case.chat().include_usage,
        start=Start("chatcmpl-golden", case.channel.upstream, NOW),
    )
    sent = b"".join(renderer.render(batch) for batch in batches)
    return (sent + (b"" if failed(events) else DONE)).decode()


def pretty(value: Json) -> str:
    """JSON for people: two spaces, keys in the order they came."""
    import json  # noqa: PLC0415 - the codec writes compact text only

    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Write the expected files that are missing, in every case or those whose name is given.

    `--again` writes them anew: for a deliberate change, to be read in the diff.
    """
    again = "--again" in arguments
    wanted = [name for name in arguments if not name.startswith("--")]
    for case in cases():
        if wanted and not any(name in {case.name, case.folder.parent.name} for name in wanted):
            continue
        made = produced(case)
        for name in EXPECTED:
            path = case.folder / name
            if name not in made:
                if again and path.exists():
                    path.unlink()
            elif (again and (not path.exists() or path.read_text() != made[name])) or (
                not path.exists()
            ):
                path.write_text(made[name])
                print(f"wrote {case.name}/{name}")  # noqa: T201 - a tool tells what it did


if __name__ == "__main__":
    main(sys.argv[1:])
