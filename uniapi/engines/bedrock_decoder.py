"""Reading Converse's answers: the events of a stream, or one body told as the same events."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.engines import failures
from uniapi.engines.bedrock_values import REASONS, annotation, exception, usage
from uniapi.errors import Failure
from uniapi.events import (
    Batch,
    Event,
    Extra,
    Finish,
    FinishReason,
    Reasoning,
    Start,
    StreamFailed,
    Text,
    ToolCall,
)
from uniapi.framing import Framing

_FORMAT: Final = "anthropic-claude-v1"  # only Claude's thoughts are signed or sealed here


@dataclass(slots=True)
class _Block:
    """One content block as far as it has been read.

    Attributes:
        start: characters of text before it.
        call: the number of its tool call, when it is one.
        argued: whether the call has any arguments.
        citations: what it cites.
        thought: its thinking.
        signature: the proof of its thinking.
        sealed: its thinking, encrypted.
        image: the format of its picture, when it is one.
        pixels: the picture's bytes.
    """

    start: int
    call: int | None = None
    argued: bool = False
    citations: list[JsonObject] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)
    signature: str = ""
    sealed: list[bytes] = field(default_factory=list)
    image: str = ""
    pixels: list[bytes] = field(default_factory=list)


class BedrockDecoder:
    """One answer of Converse or ConverseStream."""

    def __init__(self, framing: Framing, default: Start) -> None:
        self._stream = framing != "json"
        self._start = default  # Converse names neither id nor model
        self._started = False
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._images = 0
        self._length = 0  # characters of text so far
        self._annotations: list[Json] = []
        self._details: list[Json] = []
        self._leading = True  # nothing but thoughts yet
        self._scattered = False  # a thought behind something else
        self._finished = False
        self._done = False

    def feed(self, frames: Sequence[bytes]) -> Batch:
        """Decode the frames of one read."""
        events: list[Event] = []
        for frame in frames:
            if self._done:
                break
            self._frame(frame, events)
        return Batch(events)

    def finished(self) -> bool:
        """After the metadata, a whole body or a failure."""
        return self._done

    def complete(self) -> bool:
        """Whether the message has stopped: usage follows in an event of its own."""
        return self._finished

    def end(self) -> Batch:
        """Nothing when the message has stopped; else it was cut."""
        if self._done or self._finished:
            return Batch(())
        return Batch((self._failure(failures.CUT),))

    def _failure(self, failure: Failure) -> StreamFailed:
        self._done = True
        return StreamFailed(failure)

    def _frame(self, frame: bytes, events: list[Event]) -> None:
        try:
            value = codec.loads_mended(frame)
        except ValueError:
            events.append(self._failure(failures.BROKEN))
            return
        if not isinstance(value, dict):
            events.append(self._failure(failures.in_band(value)))
            return
        match value:
            case {"error": {"type": str(kind), "message": str(said)}} if self._stream:
                events.append(self._failure(exception(kind, said)))
            case _ if self._stream:
                self._begin(events)
                for name, payload in value.items():
                    if isinstance(payload, dict):
                        self._event(name, payload, events)
            case {"output": {"message": dict(message)}}:
                self._begin(events)
                self._body(message, value, events)
            case _:
                events.append(self._failure(failures.in_band(value)))

    def _begin(self, events: list[Event]) -> None:
        if not self._started:
            self._started = True
            events.append(self._start)

    def _event(self, name: str, payload: JsonObject, events: list[Event]) -> None:
        match name:
            case "contentBlockStart":
                self._open(self._block(payload), payload.get("start"), events)
            case "contentBlockDelta":
                self._delta(self._block(payload), payload.get("delta"), events)
            case "contentBlockStop":
                self._close(self._block(payload), events)
            case "messageStop":
                self._stop(payload.get("stopReason"), events)
            case "metadata":
                self._metadata(payload.get("usage"), events)
            case _:
                pass  # messageStart says only that the role is assistant

    def _block(self, payload: JsonObject) -> _Block:
        given = payload.get("contentBlockIndex")
        index = given if isinstance(given, int) else 0
        block = self._blocks.get(index)
        if block is None:
            block = self._blocks[index] = _Block(self._length)
        return block

    def _open(self, block: _Block, start: Json, events: list[Event]) -> None:
        match start:
            case {"toolUse": {"type": "server_tool_use"}}:
                pass  # run by the provider itself: not the client's to answer
            case {"toolUse": {"toolUseId": str(identity), "name": str(name)}}:
                block.call = self._calls
                self._calls += 1
                self._leading = False
                events.append(ToolCall(block.call, identity, name))
            case {"image": {"format": str(form)}}:
                block.image = form
            case _:
                pass

    def _delta(self, block: _Block, delta: Json, events: list[Event]) -> None:
        match delta:
            case {"text": str(text)}:
                if text:
                    self._length += len(text)
                    self._leading = False
                    events.append(Text(text))
            case {"toolUse": {"input": str(fragment)}}:
                if fragment and block.call is not None:
                    block.argued = True
                    events.append(ToolCall(block.call, arguments=fragment))
            case {"reasoningContent": dict(thought)}:
                self._think(block, thought, events)
            case {"citation": dict(citation)}:
                block.citations.append(citation)
            case {"image": {"source": {"bytes": str(data)}}}:
                block.pixels.append(_bytes(data))
            case _:
                pass

    def _think(self, block: _Block, thought: JsonObject, events: list[Event]) -> None:
        self._scattered |= not self._leading
        match thought:
            case {"text": str(text)} if text:
                block.thought.append(text)
                events.append(Reasoning(text))
            case {"signature": str(signature)}:
                block.signature += signature
            case {"redactedContent": str(data)}:
                block.sealed.append(_bytes(data))
            case _:
                pass

    def _close(self, block: _Block, events: list[Event]) -> None:
        if block.call is not None and not block.argued:
            block.argued = True
            events.append(ToolCall(block.call, arguments="{}"))
        for citation in block.citations:
            shown = annotation(citation, block.start, self._length)
            if shown is not None:
                self._annotations.append(shown)
        block.citations.clear()
        if block.signature:
            self._detail(
                {
                    "type": "reasoning.text",
                    "text": "".join(block.thought),
                    "signature": block.signature,
                }
            )
            block.signature = ""
        if block.sealed:
            data = base64.b64encode(b"".join(block.sealed)).decode()
            self._detail({"type": "reasoning.encrypted", "data": data})
            block.sealed.clear()
        if block.pixels:
            data = base64.b64encode(b"".join(block.pixels)).decode()
            block.pixels.clear()
            url = f"data:image/{block.image or 'png'};base64,{data}"
            image: Json = {"type": "image_url", "image_url": {"url": url}, "index": self._images}
            self._images += 1
            events.append(Extra({"images": [image]}))

    def _detail(self, detail: JsonObject) -> None:
        # The index keeps accumulators of deltas content.
        self._details.append({**detail, "format": _FORMAT, "index": len(self._details)})

    def _stop(self, reason: Json, events: list[Event]) -> None:
        if self._finished:
            return
        for block in self._blocks.values():
            self._close(block, events)  # those whose stop was never sent
        fields: JsonObject = {}
        if self._annotations:
            fields["annotations"] = self._annotations
        # A tool's result wants the thoughts back: those before everything else, which is where
        # OpenAI's message has a place for them.
        if self._calls and self._details and not self._scattered:
            fields["reasoning_details"] = self._details
        if fields:
            events.append(Extra(fields))
        self._finished = True
        natural: FinishReason = "tool_calls" if self._calls else "stop"
        given = REASONS.get(reason if isinstance(reason, str) else "", "stop")
        # Some models end a turn of calls with end_turn, and server tools end with tool_use.
        events.append(Finish(natural if given in {"stop", "tool_calls"} else given))

    def _metadata(self, counts: Json, events: list[Event]) -> None:
        if not self._finished:
            return  # it comes after messageStop; before it, the answer is not over
        self._done = True
        if isinstance(counts, dict):
            events.append(usage(counts))

    def _body(self, message: JsonObject, answer: JsonObject, events: list[Event]) -> None:
        """A whole answer, told as the events of a stream."""
        content = message.get("content")
        for index, part in enumerate(content if isinstance(content, list) else []):
            block = self._block({"contentBlockIndex": index})
            match part:
                case {"toolUse": dict(use)}:
                    self._open(block, {"toolUse": use}, events)
                    if given := use.get("input"):
                        fragment = codec.dumps(given).decode()
                        self._delta(block, {"toolUse": {"input": fragment}}, events)
                case {"reasoningContent": {"reasoningText": dict(thought)}}:
                    for name in ("text", "signature"):
                        self._think(block, {name: thought.get(name)}, events)
                case {"citationsContent": dict(cited)}:
                    self._cited(block, cited, events)
                case {"image": {"format": str(form), "source": dict(source)}}:
                    block.image = form
                    self._delta(block, {"image": {"source": source}}, events)
                case _:
                    self._delta(block, part, events)
            self._close(block, events)
        self._stop(answer.get("stopReason"), events)
        self._metadata(answer.get("usage"), events)

    def _cited(self, block: _Block, cited: JsonObject, events: list[Event]) -> None:
        for name, key in (("content", ""), ("citations", "citation")):
            parts = cited.get(name)
            for part in parts if isinstance(parts, list) else []:
                self._delta(block, {key: part} if key else part, events)


def _bytes(data: str) -> bytes:
    """Base64 that arrives in pieces, each of them whole."""
    try:
        return base64.b64decode(data)
    except ValueError:
        return b""
