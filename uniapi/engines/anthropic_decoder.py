"""Reading Claude's answers: typed events of a stream, or one message, which is read as if streamed.

Block indices count every block, tool calls only tool calls. Blocks of tools that run on
Anthropic's servers are no calls of the client's and are passed over, as is whatever is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.engines import anthropic_failures as failures
from uniapi.engines.anthropic_citations import Citations
from uniapi.errors import Failure, Kind
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
from uniapi.framing import DONE, Framing

_FORMAT: Final = "anthropic-claude-v1"  # OpenRouter's name for whose thoughts these are
_REASONS: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_CUT: Final = Failure(Kind.CUT, "the answer ended before it was complete", 502)


@dataclass(slots=True)
class _TextBlock:
    """Visible text; where it began, for the citations that cover it."""

    begin: int


@dataclass(slots=True)
class _ThinkingBlock:
    text: list[str] = field(default_factory=list)
    signature: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _ToolBlock:
    """A call; `whole` holds arguments that came at once, sent when no fragments do."""

    index: int
    whole: Json
    spoken: bool = False


@dataclass(slots=True)
class _OtherBlock:
    """Not for the client."""


_Block: TypeAlias = _TextBlock | _ThinkingBlock | _ToolBlock | _OtherBlock


class AnthropicDecoder:
    """One answer of the Messages API."""

    def __init__(self, framing: Framing, default: Start) -> None:
        self._stream = framing != "json"
        self._start = default
        self._started = False
        self._blocks: dict[int, _Block] = {}
        self._ids: set[str] = set()
        self._calls = 0
        self._length = 0  # characters of text so far
        self._citations = Citations()
        self._thoughts: list[Json] = []
        self._leading = True  # no block but thinking yet
        self._scattered = False  # a thought between other blocks
        self._counters: JsonObject = {}
        self._finished = False
        self._done = False
        self._events: list[Event] = []

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
                self._fail(_CUT)
        return self._batch()

    def _batch(self) -> Batch:
        events, self._events = self._events, []
        return Batch(events)

    def _fail(self, failure: Failure) -> None:
        self._done = True
        self._events.append(StreamFailed(failure))

    def _frame(self, frame: bytes) -> None:
        if frame.strip() == DONE:
            return  # some proxies add OpenAI's terminator after Anthropic's
        try:
            value = codec.loads(frame)
        except ValueError:
            self._fail(Failure(Kind.GARBAGE, "the provider sent broken JSON", 502))
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
                self._open(number, block)
            case "content_block_delta", {"delta": dict(delta)}:
                self._grow(number, delta)
            case "content_block_stop", _:
                self._shut(number)
            case "message_delta", _:
                self._count(event.get("usage"))
                change = event.get("delta")
                if isinstance(change, dict) and (reason := _text(change, "stop_reason")):
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
                self._open(number, block)
                self._shut(number)
        self._finish(_text(message, "stop_reason"), message)
        self._close()

    def _begin(self, message: JsonObject) -> None:
        if self._started:
            return  # repeated by some proxies
        self._started = True
        default = self._start
        self._start = Start(
            _text(message, "id") or default.id,
            _text(message, "model") or default.model,
            default.created,
        )
        self._count(message.get("usage"))
        self._events.append(self._start)

    # Blocks.

    def _open(self, number: int, block: JsonObject) -> None:
        kind = block.get("type")
        self._blocks[number] = opened = self._opened(kind, block)
        if kind not in {"thinking", "redacted_thinking"}:
            self._leading = False
        elif not self._leading:
            self._scattered = True
        match opened:
            case _TextBlock():
                self._say(_text(block, "text"))
                for citation in _list(block.get("citations")):
                    self._citations.take(citation)
            case _ThinkingBlock():
                self._think(opened, _text(block, "thinking"), _text(block, "signature"))
            case _:
                pass

    def _opened(self, kind: Json, block: JsonObject) -> _Block:
        match kind:
            case "text":
                return _TextBlock(self._length)
            case "thinking":
                return _ThinkingBlock()
            case "redacted_thinking":
                data = _text(block, "data")
                self._remember({"type": "reasoning.encrypted", "data": data})
                return _OtherBlock()
            case "tool_use":
                call = _ToolBlock(self._calls, block.get("input"))
                self._calls += 1
                name = _text(block, "name")
                self._events.append(ToolCall(call.index, self._id(block, call.index), name))
                return call
            case _:
                return _OtherBlock()

    def _grow(self, number: int, delta: JsonObject) -> None:
        match self._blocks.get(number), delta:
            case _ToolBlock() as call, {"type": "input_json_delta", "partial_json": str(piece)}:
                if piece:
                    call.spoken = True
                    self._events.append(ToolCall(call.index, arguments=piece))
            case _ThinkingBlock() as block, {"type": "thinking_delta", "thinking": str(piece)}:
                self._think(block, piece, "")
            case _ThinkingBlock() as block, {"type": "signature_delta", "signature": str(piece)}:
                self._think(block, "", piece)
            case _TextBlock() | None, {"type": "text_delta", "text": str(piece)}:
                self._say(piece)
            case _TextBlock(), {"type": "citations_delta", "citation": citation}:
                self._citations.take(citation)
            case _:
                pass

    def _shut(self, number: int) -> None:
        match self._blocks.pop(number, None):
            case _ToolBlock(spoken=False) as call:
                whole = codec.dumps(call.whole).decode() if isinstance(call.whole, dict) else "{}"
                self._events.append(ToolCall(call.index, arguments=whole))
            case _ThinkingBlock() as block if block.signature:
                self._remember(
                    {
                        "type": "reasoning.text",
                        "text": "".join(block.text),
                        "signature": "".join(block.signature),
                    }
                )
            case _TextBlock(begin=begin):
                self._citations.place(begin, self._length)
            case _:
                pass

    def _say(self, piece: str) -> None:
        if piece:
            self._length += len(piece)
            self._events.append(Text(piece))

    def _think(self, block: _ThinkingBlock, piece: str, signature: str) -> None:
        if piece:
            block.text.append(piece)
            self._events.append(Reasoning(piece))
        if signature:
            block.signature.append(signature)

    def _remember(self, thought: JsonObject) -> None:
        """Keep a thought for the client to send back."""
        self._thoughts.append({**thought, "format": _FORMAT, "index": len(self._thoughts)})

    def _id(self, block: JsonObject, index: int) -> str:
        """The call's id; our own where the provider gave none, or one twice."""
        identity = _text(block, "id")
        if not identity or identity in self._ids:
            identity = f"toolu_{self._start.id[-12:]}_{index}"
        self._ids.add(identity)
        return identity

    # The end.

    def _finish(self, reason: str, said: JsonObject) -> None:
        if self._finished:
            return
        for number in list(self._blocks):
            self._shut(number)
        natural: FinishReason = "tool_calls" if self._calls else "stop"
        finish = _REASONS.get(reason, natural)
        if finish in {"stop", "tool_calls"}:
            finish = natural  # a server's tool ends in tool_use too, and a client's in end_turn
        extra: JsonObject = {}
        if finish == "content_filter" and (words := _refusal(said)):
            extra["refusal"] = words
        if self._citations.annotations:
            extra["annotations"] = [*self._citations.annotations]
        # A tool's result wants the thoughts back, all of them in their places or none; OpenAI's
        # message has no place for one between texts.
        if self._calls and self._thoughts and not self._scattered:
            extra["reasoning_details"] = [*self._thoughts]
        if extra:
            self._events.append(Extra(extra))
        self._finished = True
        self._events.append(Finish(finish))

    def _count(self, usage: Json) -> None:
        """Counters are cumulative: the last value of each counts."""
        if isinstance(usage, dict):
            self._counters.update({k: v for k, v in usage.items() if v is not None})

    def _close(self) -> None:
        self._done = True
        if self._counters:
            self._events.append(usage_event(self._counters))


def usage_event(counters: JsonObject) -> Usage:
    """Anthropic's counters in OpenAI's sense: the prompt includes what the cache read and wrote."""
    read, written = (
        _int(counters, "cache_read_input_tokens"),
        _int(counters, "cache_creation_input_tokens"),
    )
    prompt = _int(counters, "input_tokens") + read + written
    completion = _int(counters, "output_tokens")
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


def _text(value: JsonObject, name: str) -> str:
    found = value.get(name)
    return found if isinstance(found, str) else ""


def _int(value: JsonObject, name: str) -> int:
    found = value.get(name)
    return int(found) if isinstance(found, int | float) else 0


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
