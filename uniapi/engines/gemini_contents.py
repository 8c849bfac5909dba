"""The turns of a conversation as Gemini's `contents`.

Gemini checks the order: calls are answered by one turn that holds exactly their results. So the
results stand in a turn of their own, and what else the user said follows in the next; two turns
of one role in a row are allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, assert_never

from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.conversation import (
    Audio,
    Block,
    Conversation,
    File,
    Image,
    Refusal,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Turn,
)
from uniapi.conversation.reshape import alternating
from uniapi.engines.gemini_family import Family
from uniapi.engines.gemini_media import Shelf
from uniapi.engines.gemini_names import DUMMY, signature_in, spoken

_BLANK: Final[JsonObject] = {"role": "user", "parts": [{"text": " "}]}
"""An empty turn is a 400; a blank stands in where nothing was said."""


def contents(conversation: Conversation, of: Family, shelf: Shelf) -> list[Json]:
    """The turns, the first of them the user's.

    Thoughts are not sent back: Gemini keeps them in its signatures.

    Raises:
        ApiError: 400 naming the parameter, for media that cannot be sent.
    """
    said = alternating(
        replace(turn, blocks=tuple(b for b in turn.blocks if not isinstance(b, Thinking)))
        for turn in conversation.turns
    )
    made: list[Json] = []
    for turn in said:
        if turn.role == "assistant":
            made.append({"role": "model", "parts": _model(turn, of, shelf)})
        else:
            made += _user(turn, shelf)
    if not said or said[0].role == "assistant":
        made.insert(0, _BLANK)
    return made


def _user(turn: Turn, shelf: Shelf) -> Iterable[Json]:
    results = [block for block in turn.blocks if isinstance(block, ToolResult)]
    if results:
        yield {"role": "user", "parts": [_part(result, shelf) for result in results]}
    # What a result holds beside text has no place in it before Gemini 3: it follows.
    beside: list[Block] = [
        part for result in results for part in result.content if not isinstance(part, Text)
    ]
    rest = [*beside, *(block for block in turn.blocks if not isinstance(block, ToolResult))]
    if rest:
        yield {"role": "user", "parts": [_part(block, shelf) for block in rest]}


def _model(turn: Turn, of: Family, shelf: Shelf) -> list[Json]:
    """The parts of a turn of the model's, each with the signature it came with.

    Gemini 3 refuses a turn whose first call is not signed, and pictures of its own that are not:
    where the signature is lost, or another model spoke, the documented stand-in goes.
    """
    parts: list[Json] = []
    called = False
    for block in turn.blocks:
        part = _part(block, shelf)
        signature = _signature(block)
        due = (isinstance(block, ToolUse) and not called) or isinstance(block, Image)
        if signature is None and due and of.signs:
            signature = DUMMY
        if signature is not None:
            part["thoughtSignature"] = signature
        called = called or isinstance(block, ToolUse)
        parts.append(part)
    return parts


def _signature(block: Block) -> str | None:
    match block:
        case ToolUse():
            return block.signature or signature_in(block.id)
        case Text():
            return block.signature
        case _:
            return None


def _part(block: Block, shelf: Shelf) -> JsonObject:
    match block:
        case Text(text=text) | Refusal(text=text):
            return {"text": text}
        case Image() | Audio() | File():
            return shelf.part(block)
        case ToolUse():
            return {"functionCall": {"name": spoken(block.name), "args": block.arguments}}
        case ToolResult():
            return _result(block)
        case Thinking():
            return {"text": block.text, "thought": True}
    assert_never(block)


def _result(result: ToolResult) -> JsonObject:
    """A result; Gemini takes objects only, so anything else goes under `result`."""
    try:
        value = codec.loads(result.text)
        codec.dumps(value)  # infinities and lone surrogates can be read, but not written
    except ValueError:
        value = None
    match value:
        case dict():
            response = value
        case list():
            response = {"result": value}
        case _:
            response = {"result": result.text}
    return {"functionResponse": {"name": spoken(result.name), "response": response}}


def system_parts(system: Sequence[Text]) -> list[Json]:
    """System texts as parts."""
    return [{"text": part.text} for part in system]
