"""From batches to server-sent events: OpenAI's chunks, byte for byte where they came as such."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, assert_never

import trio

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
from uniapi.frontend.asgi import Answer, Headers

DONE: Final = b"data: [DONE]\n\n"
HEAD: Final[Headers] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold tokens back
]


async def write_stream(
    answer: Answer, batches: trio.MemoryReceiveChannel[Batch], renderer: Renderer
) -> bytes:
    """Send what comes until nothing more does.

    What is already waiting goes out in one send; nothing waits in order to be joined.

    Returns:
        The last word: `[DONE]`, or nothing after a failure: a cut answer never ends as if whole.
    """
    failed = False
    async for batch in batches:
        parts = [renderer.render(batch)]
        failed |= _failed(batch)
        while True:
            try:
                more = batches.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
            parts.append(renderer.render(more))
            failed |= _failed(more)
        await answer.body(b"".join(parts))
        if answer.broken:
            return b""
    return b"" if failed else DONE


def _failed(batch: Batch) -> bool:
    return bool(batch.events) and isinstance(batch.events[-1], StreamFailed)


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

    def render(self, batch: Batch) -> bytes:
        """The bytes of a batch: its own when it has them."""
        if batch.wire is None:
            return b"".join(self._event(event) for event in batch.events)
        if _failed(batch) and isinstance(last := batch.events[-1], StreamFailed):
            return batch.wire + failure_event(last.failure)
        return batch.wire

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
    return b"data: " + codec.dumps(body) + b"\n\n"
