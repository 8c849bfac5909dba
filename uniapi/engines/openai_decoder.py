"""Reading OpenAI's answers: the events in them, and the bytes for clients of the same dialect.

Servers that call themselves OpenAI-compatible break the contract in a dozen recorded ways: empty
ids, tool calls without an index, finish reasons of their own, usage on the wrong chunk. A frame
that keeps the contract is forwarded byte for byte; one that does not is mended on its own JSON,
so that every field nobody here knows still arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from uniapi import codec
from uniapi.chat import ChatRequest
from uniapi.codec import Json, JsonObject
from uniapi.engines import failures, values
from uniapi.engines.openai_choice import Choice
from uniapi.errors import Failure, Kind
from uniapi.events import Batch, Event, Start, StreamFailed, Usage
from uniapi.framing import DONE, Framing

CHUNK: Final = "chat.completion.chunk"
WHOLE: Final = "chat.completion"


class OpenAIDecoder:
    """One answer of an OpenAI-format server, as a stream or whole."""

    def __init__(self, chat: ChatRequest, framing: Framing, default: Start) -> None:
        self._wants_usage = chat.include_usage
        self._stream = framing == "sse"
        # Bytes can be forwarded only in the form the client asked for.
        self._keep = chat.stream == self._stream
        self._start = default
        self._started = False
        self._choices: dict[int, Choice] = {}
        self._usage: JsonObject | None = None
        self._usage_sent = False
        self._done = False

    def feed(self, frames: Sequence[bytes]) -> Batch:
        """Decode the frames of one read."""
        events: list[Event] = []
        wire: list[bytes] = []
        for frame in frames:
            if self._done:
                break
            if frame.strip() == DONE:
                self._close(events, wire)
                continue
            answer = self._object(frame, events)
            if answer is None:
                break
            if self._stream:
                self._chunk(frame, answer, events, wire)
            else:
                self._body(frame, answer, events, wire)
        return self._batch(events, wire)

    def finished(self) -> bool:
        """After `[DONE]`, a whole body or a failure."""
        return self._done

    def complete(self) -> bool:
        """Whether every choice seen has its finish reason."""
        for choice in self._choices.values():  # asked for with every read: no generator
            if not choice.finished:
                return False
        return bool(self._choices)

    def end(self) -> Batch:
        """Usage still owed, or the failure that a cut answer is."""
        events: list[Event] = []
        wire: list[bytes] = []
        if self._done:
            return Batch(())
        if self.complete():
            self._close(events, wire)  # no [DONE], but nothing is missing
        else:
            self._fail(failures.CUT, events)
        return self._batch(events, wire)

    def usage_in(self, answer: JsonObject) -> JsonObject | None:
        """The usage object of a frame; cousins that put it elsewhere say where."""
        usage = answer.get("usage")
        return usage if isinstance(usage, dict) else None

    def _batch(self, events: list[Event], wire: list[bytes]) -> Batch:
        return Batch(events, b"".join(wire) if self._keep else None)

    def _fail(self, failure: Failure, events: list[Event]) -> None:
        self._done = True
        events.append(StreamFailed(failure))

    def _object(self, frame: bytes, events: list[Event]) -> JsonObject | None:
        """The frame as an object with choices; a failure when it is none, or an error."""
        try:
            value = codec.loads_mended(frame)
        except ValueError:
            self._fail(failures.BROKEN, events)
            return None
        if not isinstance(value, dict) or value.get("error"):
            self._fail(failures.in_band(value), events)
            return None
        if not isinstance(value.get("choices"), list):
            if not isinstance(value.get("usage"), dict) and value.get("object") != CHUNK:
                # An error in words of its own: {"detail": ...}, {"message": ...}.
                self._fail(failures.in_band(value), events)
                return None
            value["choices"] = []
        return value

    # A stream.

    def _chunk(
        self, frame: bytes, chunk: JsonObject, events: list[Event], wire: list[bytes]
    ) -> None:
        mended = False
        if chunk.get("object") == WHOLE:
            _as_chunk(chunk)  # a whole answer on one line of a stream
            mended = True
        usage = self.usage_in(chunk)
        if usage is not None:
            self._usage = usage  # cumulative where repeated: the last one counts
        if not chunk["choices"]:
            # Without usage asked for, clients index choices[0]: Azure's prompt filter results
            # and the usage chunk are not for them.
            if not (self._wants_usage and usage is not None):
                return
            self._usage_sent = True
        mended |= self._envelope(chunk, CHUNK, events)
        for choice, reader in self._readers(chunk):
            mended |= "delta" not in choice
            delta = choice.get("delta")
            if not isinstance(delta, dict):
                choice["delta"] = delta = {}
                mended = True
            if choice.get("finish_reason") == "error":
                self._fail(Failure(Kind.SERVER, "the provider failed in mid-answer", 502), events)
                return
            mended |= reader.read(delta, events)
            reader.beside(choice, events)
            mended |= reader.finish(choice, delta, events)
        wire.append(_sse(codec.dumps(chunk) if mended else frame))

    def _envelope(self, answer: JsonObject, name: str, events: list[Event]) -> bool:
        """Read id, model and time; one id for the whole answer. True when mended."""
        if not self._started:
            self._started = True
            default = self._start
            self._start = Start(
                values.text(answer, "id") or default.id,
                values.text(answer, "model") or default.model,
                values.number(answer, "created") or default.created,
            )
            events.append(self._start)
        start = self._start
        told = (answer.get("id"), answer.get("object"), answer.get("created"), answer.get("model"))
        if told == (start.id, name, start.created, start.model):
            return False  # as every chunk but the first, nearly always
        right: JsonObject = {
            "id": start.id,
            "object": name,
            "created": values.number(answer, "created") or start.created,
            "model": values.text(answer, "model") or start.model,
        }
        wrong = {key: value for key, value in right.items() if answer.get(key) != value}
        answer.update(wrong)
        return bool(wrong)

    def _readers(self, answer: JsonObject) -> list[tuple[JsonObject, Choice]]:
        """Each choice with its reader; indices are filled in where they are missing."""
        found: list[tuple[JsonObject, Choice]] = []
        choices = answer["choices"]
        for place, choice in enumerate(choices if isinstance(choices, list) else []):
            if not isinstance(choice, dict):
                continue
            number = choice.get("index")
            if not isinstance(number, int):
                choice["index"] = number = place
            reader = self._choices.get(number)
            if reader is None:
                seed = self._start.id[-12:]
                reader = self._choices[number] = Choice(number, stream=self._stream, seed=seed)
            found.append((choice, reader))
        return found

    def _close(self, events: list[Event], wire: list[bytes]) -> None:
        """`[DONE]`: what the contract still owes the client."""
        self._done = True
        for number, reader in self._choices.items():
            if not reader.finished:
                delta: JsonObject = {}
                choice: JsonObject = {
                    "index": number,
                    "delta": delta,
                    "finish_reason": reader.natural_end,
                }
                reader.finish(choice, delta, events)
                wire.append(self._own_chunk([choice]))
        if self._usage is not None:
            events.append(usage_event(self._usage))
            if self._wants_usage and not self._usage_sent:
                wire.append(self._own_chunk([], self._usage))

    def _own_chunk(self, choices: list[Json], usage: JsonObject | None = None) -> bytes:
        chunk: JsonObject = {
            "id": self._start.id,
            "object": CHUNK,
            "created": self._start.created,
            "model": self._start.model,
            "choices": choices,
        }
        if usage is not None:
            chunk["usage"] = usage
        return _sse(codec.dumps(chunk))

    # A whole body.

    def _body(
        self, frame: bytes, answer: JsonObject, events: list[Event], wire: list[bytes]
    ) -> None:
        self._done = True
        mended = self._envelope(answer, WHOLE, events)
        for choice, reader in self._readers(answer):
            message = choice.get("message")
            if not isinstance(message, dict):
                # Azure's content filter leaves the message out altogether.
                choice["message"] = message = {"role": "assistant", "content": None}
                mended = True
            mended |= reader.read(message, events)
            reader.beside(choice, events)
            if not choice.get("finish_reason"):
                choice["finish_reason"] = reader.natural_end
                mended = True
            mended |= reader.finish(choice, message, events)
        usage = self.usage_in(answer)
        if usage is not None:
            events.append(usage_event(usage))
        wire.append(codec.dumps(answer) if mended else frame)


def _as_chunk(answer: JsonObject) -> None:
    """Turn a whole answer into the shape of a chunk: messages become deltas."""
    choices = answer["choices"]
    for choice in choices if isinstance(choices, list) else []:
        if isinstance(choice, dict) and "message" in choice:
            choice["delta"] = choice.pop("message")


def usage_event(usage: JsonObject) -> Usage:
    """OpenAI's usage object as an event; the object itself rides along as the detail."""
    prompt, completion = (
        values.number(usage, "prompt_tokens"),
        values.number(usage, "completion_tokens"),
    )
    return Usage(
        prompt, completion, values.number(usage, "total_tokens") or prompt + completion, usage
    )


def _sse(data: bytes) -> bytes:
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    return b"data: " + data + b"\n\n"
