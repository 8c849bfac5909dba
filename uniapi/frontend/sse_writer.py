"""From batches to server-sent events: OpenAI's chunks, byte for byte where they came as such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from uniapi import codec
from uniapi.codec import JsonObject
from uniapi.errors import Failure, error_object
from uniapi.events import (
    Batch,
    Event,
    Extra,
    Finish,
    Reasoning,
    Start,
    StreamFailed,
    Text,
    ToolCall,
    Usage,
)
from uniapi.frontend.answer import Answer
from uniapi.frontend.answering import Answering
from uniapi.frontend.asgi import Headers
from uniapi.frontend.pulse import Pulse

DONE: Final = b"data: [DONE]\n\n"
HEAD: Final[Headers] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold tokens back
]


async def write_stream(
    answer: Answer, told: Answering, renderer: Renderer, pulse: Pulse
) -> Failure | None:
    """Send what comes until nothing more does.

    What is already waiting goes out in one send; nothing waits in order to be joined. What comes
    while nothing waits is sent by the task that brings it, where the server allows that.

    Returns:
        What the answer broke off with; None when it is whole, or the client stopped reading.
    """

    def show(batch: Batch) -> bool:
        pulse.felt()
        return answer.body_now(renderer.render(batch))

    told.show = show if answer.at_once else None
    while True:
        batch = await pulse.next(told.next)
        if batch is None:
            if told.failure is not None and await pulse.during(told.carry_on):
                continue
            return told.failure
        parts = [renderer.render(batch)]
        while (more := told.ready()) is not None:
            parts.append(renderer.render(more))
        await answer.body(b"".join(parts))
        if answer.broken:
            return None


@dataclass(slots=True)
class Renderer:
    """Chunks of one answer: one id, one creation time, the role once.

    Attributes:
        include_usage: the client asked for the usage chunk.
        start: until the upstream says better.
    """

    include_usage: bool
    start: Start
    _roles: set[int] = field(default_factory=set)
    _noted: bool = False

    def render(self, batch: Batch) -> bytes:
        """The bytes of a batch: its own when it has them."""
        if batch.wire is None:
            return b"".join(self._event(event) for event in batch.events)
        if not self._noted:
            self._note(batch.events)
        match batch.events:
            case [*_, StreamFailed(failure=failure)]:
                return batch.wire + failure_event(failure)
            case _:
                return batch.wire

    def _note(self, events: Sequence[Event]) -> None:
        """Take over what the upstream's own bytes say, for chunks that may have to follow them."""
        for event in events:
            match event:
                case Start():
                    self._event(event)
                case Text(choice=choice) | Reasoning(choice=choice) | ToolCall(choice=choice):
                    self._roles.add(choice)
                    self._noted = True
                case _:
                    pass

    def _event(self, event: Event) -> bytes:
        match event:
            case Start():
                own = self.start
                self.start = Start(
                    event.id or own.id, event.model or own.model, event.created or own.created
                )
                return b""
            case Text(text=text, choice=choice):
                return self._delta(choice, {"content": text})
            case Reasoning(text=text, choice=choice):
                return self._delta(choice, {"reasoning_content": text})
            case ToolCall():
                return self._delta(event.choice, {"tool_calls": [_tool_call(event)]})
            case Extra(fields=fields, beside=beside, choice=choice):
                return self._delta(choice, fields, beside)
            case Finish(reason=reason, choice=choice):
                return self._delta(choice, {}, {"finish_reason": reason})
            case Usage():
                return self._chunk([], usage_object(event)) if self.include_usage else b""
            case StreamFailed(failure=failure):
                return failure_event(failure)
        assert_never(event)

    def _delta(self, choice: int, delta: JsonObject, beside: JsonObject | None = None) -> bytes:
        if choice not in self._roles:
            self._roles.add(choice)
            delta = {"role": "assistant", "content": "", **delta}
        return self._chunk(
            [{"index": choice, "delta": delta, "finish_reason": None, **(beside or {})}]
        )

    def _chunk(self, choices: list[JsonObject], usage: JsonObject | None = None) -> bytes:
        chunk: JsonObject = {
            "id": self.start.id,
            "object": "chat.completion.chunk",
            "created": self.start.created,
            "model": self.start.model,
            "choices": list(choices),
        }
        if usage is not None:
            chunk["usage"] = usage
        return b"data: " + codec.dumps(chunk) + b"\n\n"


def _tool_call(event: ToolCall) -> JsonObject:
    """A piece of a call: id, type and name with the first only."""
    function: JsonObject = {"arguments": event.arguments}
    piece: JsonObject = {"index": event.index, "function": function}
    if event.name is not None:
        function["name"] = event.name
    if event.id is not None:
        piece |= {"id": event.id, "type": "function"}
    return piece


def usage_object(usage: Usage) -> JsonObject:
    """The usage object clients know, with the provider's details."""
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
        "total_tokens": usage.total,
        **usage.detail,
    }


def failure_event(failure: Failure) -> bytes:
    """The event that makes the SDKs raise in mid-stream."""
    body = error_object(
        failure.message,
        status=failure.status,
        type=failure.type,
        code=failure.code or failure.kind.value,
        param=failure.param,
    )
    return event(codec.dumps(body))


def event(data: bytes) -> bytes:
    """One event of one line."""
    return b"data: " + data + b"\n\n"
