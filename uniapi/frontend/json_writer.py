"""From batches to one JSON body: the events of an answer folded into a `chat.completion`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import assert_never

from uniapi import codec
from uniapi.codec import Json, JsonObject
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
    Usage,
)
from uniapi.frontend.sse_writer import usage_object


@dataclass(slots=True)
class _Message:
    """One choice being put together."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, JsonObject] = field(default_factory=dict)
    arguments: dict[int, list[str]] = field(default_factory=dict)
    fields: JsonObject = field(default_factory=dict)
    beside: JsonObject = field(default_factory=dict)
    finish: FinishReason = "stop"


@dataclass(slots=True)
class Collector:
    """Folds events into the message they tell of; the inverse of streaming it."""

    start: Start = field(default_factory=Start)
    usage: Usage | None = None
    _choices: dict[int, _Message] = field(default_factory=dict)

    def take(self, events: Iterable[Event]) -> None:
        """Add events; a `StreamFailed` is the caller's business and must not come here."""
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Start():
                self.start = event
            case Text(text=text, choice=choice):
                self._choice(choice).text.append(text)
            case Reasoning(text=text, choice=choice):
                self._choice(choice).reasoning.append(text)
            case ToolCall():
                self._call(event)
            case Extra(fields=fields, beside=beside, choice=choice):
                message = self._choice(choice)
                _grow(message.fields, fields)
                _grow(message.beside, beside)
            case Finish(reason=reason, choice=choice):
                self._choice(choice).finish = reason
            case Usage():
                self.usage = event
            case StreamFailed():
                raise ValueError("a failed answer cannot be folded")
            case _:
                assert_never(event)

    def _choice(self, number: int) -> _Message:
        return self._choices.setdefault(number, _Message())

    def _call(self, event: ToolCall) -> None:
        message = self._choice(event.choice)
        call = message.calls.setdefault(event.index, {"type": "function"})
        if event.id is not None:
            call["id"] = event.id
        if event.name is not None:
            call["name"] = event.name
        message.arguments.setdefault(event.index, []).append(event.arguments)

    def body(self) -> bytes:
        """The `chat.completion` as JSON bytes."""
        answer: JsonObject = {
            "id": self.start.id,
            "object": "chat.completion",
            "created": self.start.created,
            "model": self.start.model,
            "choices": [
                _choice_object(number, message) for number, message in sorted(self._choices.items())
            ],
        }
        if self.usage is not None:
            answer["usage"] = usage_object(self.usage)
        return codec.dumps(answer)


def _choice_object(number: int, message: _Message) -> JsonObject:
    shown: JsonObject = {"role": "assistant", "content": "".join(message.text) or None}
    if message.reasoning:
        shown["reasoning_content"] = "".join(message.reasoning)
    if message.calls:
        shown["tool_calls"] = [
            {
                "id": call.get("id", f"call_{number}_{index}"),
                "type": "function",
                "function": {
                    "name": call.get("name", ""),
                    "arguments": "".join(message.arguments[index]) or "{}",
                },
            }
            for index, call in sorted(message.calls.items())
        ]
    if not message.calls and not message.text:
        shown["content"] = None if message.reasoning or message.fields else ""
    return {
        "index": number,
        "message": {**shown, **message.fields},
        "logprobs": None,
        "finish_reason": message.finish,
        **message.beside,
    }


def _grow(into: JsonObject, more: JsonObject) -> None:
    """Fold pieces of a field as a client would: text and lists grow, maps merge, others replace."""
    for name, value in more.items():
        old = into.get(name)
        match old, value:
            case str(), str():
                into[name] = old + value
            case list(), list():
                into[name] = [*old, *value]
            case dict(), dict():
                grown: dict[str, Json] = dict(old)
                _grow(grown, value)
                into[name] = grown
            case _:
                into[name] = value


def fold(batches: Iterable[Batch]) -> bytes:
    """The JSON body of a whole answer: its own bytes when it came as one, else folded."""
    batches = [batch for batch in batches if batch.events or batch.wire]
    wires = [batch.wire for batch in batches]
    if wires and all(wire is not None for wire in wires):
        return b"".join(wire for wire in wires if wire is not None)
    collector = Collector()
    for batch in batches:
        collector.take(batch.events)
    return collector.body()
