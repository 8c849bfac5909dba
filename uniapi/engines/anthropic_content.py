"""The blocks of Claude's answer: text, thoughts and calls as events, server tools passed over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.engines import values
from uniapi.engines.anthropic_citations import Citations
from uniapi.events import Event, Reasoning, Text, ToolCall

_FORMAT: Final = "anthropic-claude-v1"  # OpenRouter's name for whose thoughts these are


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


class Content:
    """Follows the blocks of one answer, by their index.

    Attributes:
        events: what they say; whoever takes it, empties it.
        calls: how many calls there were.
    """

    def __init__(self, seed: str) -> None:
        """`seed` makes ids for calls that have none; it belongs to this answer alone."""
        self.events: list[Event] = []
        self.calls = 0
        self._seed = seed
        self._blocks: dict[int, _Block] = {}
        self._ids: set[str] = set()
        self._length = 0  # characters of text so far
        self._citations = Citations()
        self._thoughts: list[Json] = []
        self._leading = True  # no block but thinking yet
        self._scattered = False  # a thought between other blocks

    def open(self, number: int, block: JsonObject) -> None:
        """A block begins, perhaps with all it has to say."""
        kind = values.text(block, "type")
        self._blocks[number] = opened = self._opened(kind, block)
        if kind not in {"thinking", "redacted_thinking"}:
            self._leading = False
        elif not self._leading:
            self._scattered = True
        match opened:
            case _TextBlock():
                self._say(values.text(block, "text"))
                for citation in _list(block.get("citations")):
                    self._citations.take(citation)
            case _ThinkingBlock():
                self._think(opened, values.text(block, "thinking"), values.text(block, "signature"))
            case _:
                pass

    def _opened(self, kind: str, block: JsonObject) -> _Block:
        match kind:
            case "text":
                return _TextBlock(self._length)
            case "thinking":
                return _ThinkingBlock()
            case "redacted_thinking":
                data = values.text(block, "data")
                self._remember({"type": "reasoning.encrypted", "data": data})
                return _OtherBlock()
            case "tool_use":
                call = _ToolBlock(self.calls, block.get("input"))
                self.calls += 1
                name = values.text(block, "name")
                self.events.append(ToolCall(call.index, self._id(block, call.index), name))
                return call
            case _:
                return _OtherBlock()

    def grow(self, number: int, delta: JsonObject) -> None:
        """A piece of a block; a text may come without its beginning."""
        match self._blocks.get(number), delta:
            case _ToolBlock() as call, {"type": "input_json_delta", "partial_json": str(piece)}:
                if piece:
                    call.spoken = True
                    self.events.append(ToolCall(call.index, arguments=piece))
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

    def shut(self, number: int) -> None:
        """A block ends."""
        match self._blocks.pop(number, None):
            case _ToolBlock(spoken=False) as call:
                whole = codec.dumps(call.whole).decode() if isinstance(call.whole, dict) else "{}"
                self.events.append(ToolCall(call.index, arguments=whole))
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
            self.events.append(Text(piece))

    def _think(self, block: _ThinkingBlock, piece: str, signature: str) -> None:
        if piece:
            block.text.append(piece)
            self.events.append(Reasoning(piece))
        if signature:
            block.signature.append(signature)

    def _remember(self, thought: JsonObject) -> None:
        """Keep a thought for the client to send back."""
        self._thoughts.append({**thought, "format": _FORMAT, "index": len(self._thoughts)})

    def _id(self, block: JsonObject, index: int) -> str:
        """The call's id; our own where the provider gave none, or one twice."""
        identity = values.text(block, "id")
        if not identity or identity in self._ids:
            identity = f"toolu_{self._seed}_{index}"
        self._ids.add(identity)
        return identity

    def close(self) -> JsonObject:
        """Shut what is open; the fields of the message that are known only now."""
        for number in list(self._blocks):
            self.shut(number)
        extra: JsonObject = {}
        if self._citations.annotations:
            extra["annotations"] = [*self._citations.annotations]
        # A tool's result wants the thoughts back, all of them in their places or none; OpenAI's
        # message has no place for one between texts.
        if self.calls and self._thoughts and not self._scattered:
            extra["reasoning_details"] = [*self._thoughts]
        return extra


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
