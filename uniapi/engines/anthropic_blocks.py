"""Turns, media, tools and system texts in Anthropic's words."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

from uniapi.codec import Json, JsonObject
from uniapi.conversation import (
    Audio,
    Block,
    File,
    Image,
    Inline,
    Refusal,
    Remote,
    ResultBlock,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Turn,
    Uploaded,
)
from uniapi.conversation.fields import wrong
from uniapi.conversation.reshape import alternating
from uniapi.engines.anthropic_thinking import usable
from uniapi.engines.base import Media
from uniapi.errors import ApiError

_PICTURES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
_TEXTUAL: Final = ("application/json", "application/xml", "application/yaml", "application/x-yaml")
_FOREIGN: Final = re.compile(r"[^a-zA-Z0-9_-]")  # what Anthropic refuses in an id


@dataclass(slots=True)
class Writer:
    """Writes the turns of one request.

    Attributes:
        media: what was fetched, by URL.
        fetches: whether the provider itself fetches https URLs.
        thinking: whether this request thinks, so that thoughts go back.
        notes: what was left out.
    """

    media: Mapping[str, Media]
    fetches: bool
    thinking: bool
    notes: list[str] = field(default_factory=list)
    _ids: dict[str, str] = field(default_factory=dict)  # the client's id to ours, of the last turn
    _used: set[str] = field(default_factory=set)

    def turns(self, turns: Sequence[Turn]) -> list[Json]:
        """The `messages` field.

        Raises:
            ApiError: 400 naming the part that Claude cannot be given.
        """
        kept = alternating(self._speakable(turn) for turn in turns)
        if kept and kept[-1].role == "assistant":
            kept = (*kept[:-1], _unspaced(kept[-1]))
        return [
            {"role": turn.role, "content": [self._block(block) for block in turn.blocks]}
            for turn in kept
            if turn.blocks
        ]

    def _speakable(self, turn: Turn) -> Turn:
        """The turn without what Claude refuses.

        Blank texts, thoughts that are not its own, and media in its own turns.
        """
        kept: list[Block] = []
        for block in turn.blocks:
            match block:
                case Text(text=text) | Refusal(text=text):
                    if text.strip():
                        kept.append(block)
                case Thinking():
                    if self.thinking and usable(block):
                        kept.append(block)
                case Image() | File() if turn.role == "assistant":
                    self.notes.append(block.param)
                case _:
                    kept.append(block)
        return replace(turn, blocks=tuple(kept))

    def _block(self, block: Block) -> JsonObject:
        match block:
            case ToolUse():
                return _hinted(
                    {
                        "type": "tool_use",
                        "id": self._new_id(block.id),
                        "name": block.name,
                        "input": block.arguments,
                    },
                    block.cache,
                )
            case ToolResult():
                return self._result(block)
            case Thinking(sealed=str(data)):
                return {"type": "redacted_thinking", "data": data}
            case Thinking(text=text, signature=signature):
                return {"type": "thinking", "thinking": text, "signature": signature}
            case Refusal(text=text):
                return {"type": "text", "text": text}
            case Text() | Image() | Audio() | File():
                return self._content(block)
        assert_never(block)

    def _content(self, block: ResultBlock) -> JsonObject:
        match block:
            case Text(text=text):
                return _hinted({"type": "text", "text": text}, block.cache)
            case Image(source=source):
                return _hinted(self._image(source, block.param), block.cache)
            case File():
                return _hinted(self._document(block), block.cache)
            case Audio():
                raise wrong(block.param, "Claude takes no audio")
        assert_never(block)

    def _result(self, block: ToolResult) -> JsonObject:
        made: JsonObject = {
            "type": "tool_result",
            "tool_use_id": self._ids.get(block.id, block.id),
        }
        match [part for part in block.content if not (isinstance(part, Text) and _blank(part))]:
            case []:
                pass
            case [Text(text=text, cache=None)]:
                made["content"] = text
            case parts:
                made["content"] = [self._content(part) for part in parts]
        return _hinted(made, block.cache)

    def _new_id(self, asked: str) -> str:
        """An id of legal characters that no call before has; the same request gives the same."""
        clean = stem = _FOREIGN.sub("_", asked) or "call"
        number = 1
        while clean in self._used:
            number += 1
            clean = f"{stem}_{number}"
        self._used.add(clean)
        self._ids[asked] = clean
        return clean

    def _image(self, source: Inline | Remote, param: str) -> JsonObject:
        match self._here(source, param):
            case Remote(url=url):
                return {"type": "image", "source": {"type": "url", "url": url}}
            case Inline(media_type=kind, data=data):
                kind = "image/jpeg" if kind == "image/jpg" else kind
                if kind not in _PICTURES:
                    raise wrong(param, f"Claude takes jpeg, png, gif and webp, not {kind!r}")
                return {
                    "type": "image",
                    "source": {"type": "base64", "media_type": kind, "data": data},
                }

    def _document(self, file: File) -> JsonObject:
        source = file.source
        if isinstance(source, Uploaded):
            raise wrong(file.param, "this provider does not have the file: send file_data")
        made: JsonObject
        match self._here(source, file.param):
            case Remote(url=url):
                made = {"type": "url", "url": url}
            case Inline(media_type="application/pdf" as kind, data=data):
                made = {"type": "base64", "media_type": kind, "data": data}
            case Inline(media_type=kind) as inline if kind.startswith("image/"):
                return self._image(inline, file.param)
            case Inline(media_type=kind, data=data) if kind.startswith("text/") or kind in _TEXTUAL:
                made = {
                    "type": "text",
                    "media_type": "text/plain",
                    "data": _text(data, file.param),
                }
            case Inline(media_type=kind):
                raise wrong(file.param, f"Claude takes PDF, text and pictures, not {kind!r}")
        title: JsonObject = {"title": file.filename} if file.filename else {}
        return {"type": "document", "source": made, **title}

    def _here(self, source: Inline | Remote, param: str) -> Inline | Remote:
        """The source as the provider can take it: fetched by us, or an address it fetches."""
        if isinstance(source, Inline):
            return source
        fetched = self.media.get(source.url)
        if fetched is not None:
            return Inline(fetched.media_type, base64.b64encode(fetched.data).decode())
        if self.fetches and source.url.lower().startswith("https://"):
            return source
        raise unfetched(param)


def unfetched(param: str) -> ApiError:
    """The 400 for an address nobody fetches."""
    return wrong(param, "this address is not fetched for this provider: send a data URI")


def addresses(turns: Sequence[Turn], *, fetches: bool) -> tuple[str, ...]:
    """The http(s) URLs of pictures and documents that the provider will not fetch itself."""
    found: list[str] = []
    for turn in turns:
        for block in turn.blocks:
            inner = block.content if isinstance(block, ToolResult) else (block,)
            for part in inner:
                match part:
                    case Image(source=Remote(url=url)) | File(source=Remote(url=url)):
                        address = url.lower()
                        if address.startswith("http:") or (
                            address.startswith("https:") and not fetches
                        ):
                            found.append(url)
                    case _:
                        pass
    return tuple(dict.fromkeys(found))


def system(parts: Sequence[Text]) -> Json:
    """The `system` field: one text, or blocks where a cache hint needs them; None for nothing."""
    kept = [part for part in parts if not _blank(part)]
    if not kept:
        return None
    if any(part.cache is not None for part in kept):
        return [_hinted({"type": "text", "text": part.text}, part.cache) for part in kept]
    return "\n\n".join(part.text for part in kept)


def _unspaced(turn: Turn) -> Turn:
    """The last assistant turn, to be continued: it may not end in white space."""
    last = turn.blocks[-1]
    if not isinstance(last, Text):
        return turn
    return replace(turn, blocks=(*turn.blocks[:-1], replace(last, text=last.text.rstrip())))


def _blank(part: Text) -> bool:
    return not part.text.strip()


def _hinted(block: JsonObject, cache: JsonObject | None) -> JsonObject:
    return block if cache is None else {**block, "cache_control": cache}


def _text(data: str, param: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except ValueError:  # neither base64 nor UTF-8
        raise wrong(param, "is not text in UTF-8 and base64") from None
