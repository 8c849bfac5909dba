"""Reading Claude's answers: typed events of a stream, or one message, which is read as if streamed.

Block indices count every block, tool calls only tool calls. Blocks of tools that run on
Anthropic's servers are no calls of the client's and are passed over, as is whatever is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.engines import anthropic_failures as failures
from uniapi.engines import values
from uniapi.engines.anthropic_content import Content
from uniapi.engines.failures import BROKEN, CUT
from uniapi.errors import Failure, Kind
from uniapi.events import (
    Batch,
    Event,
    Extra,
    Finish,
    FinishReason,
    Start,
    StreamFailed,
    Usage,
)
from uniapi.framing import DONE, Framing

_REASONS: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class AnthropicDecoder:
    """One answer of the Messages API."""

    def __init__(self, framing: Framing, default: Start) -> None:
        self._stream = framing != "json"
        self._start = default
        self._started = False
        self._content = Content(default.id[-12:])
        self._counters: JsonObject = {}
        self._finished = False
        self._done = False

    def feed(self, frames: Sequence[bytes]) -> Batch:
        """Decode the frames of one read."""
        for frame in frames:
            if self._done:
                break
            self._frame(frame)
        return self._batch()

    def finished(self) -> bool:
        """After `message_stop`, a whole message or a failure."""
        return self._done

    def complete(self) -> bool:
        """Whether the stop reason was read."""
        return self._finished

    def end(self) -> Batch:
        """Usage still owed, or the failure that a cut answer is."""
        if not self._done:
            if self._finished:
                self._close()
            else:
                self._fail(CUT)
        return self._batch()

    def _batch(self) -> Batch:
        content = self._content
        events, content.events = content.events, []
        return Batch(events)

    def _say(self, event: Event) -> None:
        self._content.events.append(event)

    def _fail(self, failure: Failure) -> None:
        self._done = True
        self._say(StreamFailed(failure))

    def _frame(self, frame: bytes) -> None:
        if frame.strip() == DONE:
            return  # some proxies add OpenAI's terminator after Anthropic's
        try:
            value = codec.loads_mended(frame)
        except ValueError:
            self._fail(BROKEN)
            return
        if not isinstance(value, dict) or value.get("error"):
            self._fail(failures.in_band(value))
            return
        kind, blocks = value.get("type"), value.get("content")
        if isinstance(kind, str) and self._stream:
            self._event(kind, value)
        elif kind == "message" and isinstance(blocks, list):
            self._message(value, blocks)
        else:
            self._fail(Failure(Kind.GARBAGE, "the provider's answer is no message", 502))

    # A stream.

    def _event(self, kind: str, event: JsonObject) -> None:
        index = event.get("index")
        number = index if isinstance(index, int) else 0
        match kind, event:
            case "message_start", {"message": dict(message)}:
                self._begin(message)
            case (("content_block_start" | "content_block_delta"), _) if self._finished:
                pass
            case "content_block_start", {"content_block": dict(block)}:
                self._content.open(number, block)
            case "content_block_delta", {"delta": dict(delta)}:
                self._content.grow(number, delta)
            case "content_block_stop", _:
                self._content.shut(number)
            case "message_delta", _:
                self._count(event.get("usage"))
                change = event.get("delta")
                if isinstance(change, dict) and (reason := values.text(change, "stop_reason")):
                    self._finish(reason, change)
            case "message_stop", _:
                self._finish("", {})  # a gateway may have left the reason out
                self._close()
            case "message", {"content": list(blocks)}:
                self._message(event, blocks)  # a whole answer on one line of a stream
            case _:
                pass  # ping, and whatever tomorrow brings

    def _message(self, message: JsonObject, blocks: list[Json]) -> None:
        self._begin(message)
        for number, block in enumerate(blocks):
            if isinstance(block, dict):
                self._content.open(number, block)
                self._content.shut(number)
        self._finish(values.text(message, "stop_reason"), message)
        self._close()

    def _begin(self, message: JsonObject) -> None:
        if self._started:
            return  # repeated by some proxies
        self._started = True
        default = self._start
        self._start = Start(
            values.text(message, "id") or default.id,
            values.text(message, "model") or default.model,
            default.created,
        )
        self._count(message.get("usage"))
        self._say(self._start)

    # The end.

    def _finish(self, reason: str, said: JsonObject) -> None:
        if self._finished:
            return
        extra = self._content.close()
        natural: FinishReason = "tool_calls" if self._content.calls else "stop"
        finish = _REASONS.get(reason, natural)
        if finish in {"stop", "tool_calls"}:
            finish = natural  # a server's tool ends in tool_use too, and a client's in end_turn
        if finish == "content_filter" and (words := _refusal(said)):
            extra["refusal"] = words
        if extra:
            self._say(Extra(extra))
        self._finished = True
        self._say(Finish(finish))

    def _count(self, usage: Json) -> None:
        """Counters are cumulative: the last value of each counts."""
        if isinstance(usage, dict):
            self._counters.update({k: v for k, v in usage.items() if v is not None})

    def _close(self) -> None:
        self._done = True
        if self._counters:
            self._say(usage_event(self._counters))


def usage_event(counters: JsonObject) -> Usage:
    """Anthropic's counters in OpenAI's sense: the prompt includes what the cache read and wrote."""
    read, written = (
        values.number(counters, "cache_read_input_tokens"),
        values.number(counters, "cache_creation_input_tokens"),
    )
    prompt = values.number(counters, "input_tokens") + read + written
    completion = values.number(counters, "output_tokens")
    of_prompt: JsonObject = {"cached_tokens": read}
    if written:
        of_prompt["cache_write_tokens"] = written
    detail: JsonObject = {"prompt_tokens_details": of_prompt}
    match counters.get("output_tokens_details"):
        case {"thinking_tokens": int(thought)}:
            detail["completion_tokens_details"] = {"reasoning_tokens": thought}
        case _:
            pass
    return Usage(prompt, completion, prompt + completion, detail)


def _refusal(said: JsonObject) -> str:
    """Why Claude declined, where it says so."""
    match said.get("stop_details"):
        case {"explanation": str(words)}:
            return words
        case _:
            return ""
