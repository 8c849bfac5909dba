"""The turns of a conversation as Converse's messages.

Converse refuses blank texts, foreign characters in ids and document names, a document without a
word beside it, and media it would have to fetch. Media in the request become bytes here.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, assert_never

from uniapi.codec import Json, JsonObject
from uniapi.conversation import (
    Audio,
    Block,
    Conversation,
    File,
    Image,
    Inline,
    Refusal,
    Remote,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Turn,
    Uploaded,
)
from uniapi.conversation.reshape import alternating
from uniapi.engines import values
from uniapi.engines.anthropic_thinking import usable
from uniapi.engines.base import Media
from uniapi.engines.bedrock_models import Model
from uniapi.errors import ApiError

_IMAGES: Final = {"png": "png", "jpeg": "jpeg", "jpg": "jpeg", "gif": "gif", "webp": "webp"}
_AUDIOS: Final = {
    "mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "mkv", "mka", "m4a", "mpeg", "mpga", "pcm",
    "webm",
}  # fmt: skip
_VIDEOS: Final = {
    "x-matroska": "mkv", "quicktime": "mov", "mp4": "mp4", "webm": "webm", "x-flv": "flv",
    "mpeg": "mpeg", "x-ms-wmv": "wmv", "3gpp": "three_gp",
}  # fmt: skip
_DOCUMENTS: Final = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_EXTENSIONS: Final = frozenset(_DOCUMENTS.values())
_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_NOT_IN_A_NAME: Final = re.compile(r"[^a-zA-Z0-9()\[\]-]+")
_NAME: Final = 100  # characters of a document's name; AWS allows 200 with what makes it unique
_EMPTY: Final = "(empty)"
_OPENING: Final = "(start)"


def remote(conversation: Conversation) -> Iterable[str]:
    """The addresses of media, which Converse does not fetch."""
    for turn in conversation.turns:
        for block in turn.blocks:
            parts = block.content if isinstance(block, ToolResult) else (block,)
            for part in parts:
                if isinstance(part, Image | File) and isinstance(part.source, Remote):
                    yield part.source.url


def cache_point(hint: JsonObject, model: Model) -> Json:
    """A prompt-cache hint as the block that follows what is to be cached."""
    point: JsonObject = {"type": "default"}
    ttl = values.text(hint, "ttl")
    if model.claude is not None and ttl in {"5m", "1h"}:
        point["ttl"] = ttl
    return {"cachePoint": point}


class Messages:
    """Writes the messages of one call.

    Attributes:
        notes: what was left out.
    """

    def __init__(self, model: Model, media: Mapping[str, Media]) -> None:
        self.notes: list[str] = []
        self._model = model
        self._media = media
        self._names: set[str] = set()  # of documents; they must differ within a request

    def write(self, turns: Iterable[Turn]) -> list[Json]:
        """The messages: alternating, the first one the user's, no block blank.

        Raises:
            ApiError: 400 naming the part, for media Converse cannot take.
        """
        kept = alternating(
            replace(turn, blocks=tuple(b for b in turn.blocks if self._sent(b, turn)))
            for turn in turns
        )
        if not kept or kept[0].role != "user":
            # "A conversation must start with a user message", says Converse otherwise.
            kept = (Turn("user", (Text(_OPENING),)), *kept)
        return [{"role": turn.role, "content": self._content(turn)} for turn in kept]

    def _sent(self, block: Block, turn: Turn) -> bool:
        match block:
            case Text(text=text) | Refusal(text=text):
                return bool(text.strip())
            case Thinking():
                # Bare thoughts are refused, and other families refuse Claude's.
                return self._model.claude is not None and usable(block)
            case Image() | File() | Audio():
                if turn.role == "assistant":
                    self.notes.append(block.param)  # taken from users only
                return turn.role == "user"
            case _:
                return True

    def _content(self, turn: Turn) -> list[Json]:
        content: list[Json] = []
        for block in turn.blocks:
            content.append(self._block(block))
            match block:
                case Refusal() | Thinking():
                    pass
                case hinted if hinted.cache is not None:
                    self._cache(content, hinted.cache)
                case _:
                    pass
        named = [b["document"] for b in content if isinstance(b, dict) and "document" in b]
        if named and not any(isinstance(b, Text) for b in turn.blocks):
            # A document needs a text beside it; its own name says nothing new.
            content += [{"text": d["name"]} for d in named[:1] if isinstance(d, dict)]
        return content

    def _cache(self, content: list[Json], hint: JsonObject) -> None:
        if self._model.caches:
            content.append(cache_point(hint, self._model))
        else:
            self.notes.append("cache_control")

    def _block(self, block: Block) -> Json:
        match block:
            case Text(text=text) | Refusal(text=text):
                return {"text": text}
            case Image() | File() | Audio():
                return self._medium(block)
            case Thinking(sealed=str(sealed)):
                return {"reasoningContent": {"redactedContent": sealed}}
            case Thinking(text=text, signature=signature):
                thought: JsonObject = {"text": text, "signature": signature}
                return {"reasoningContent": {"reasoningText": thought}}
            case ToolUse():
                use: JsonObject = {
                    "toolUseId": tool_id(block.id),
                    "name": block.name,
                    "input": block.arguments,
                }
                return {"toolUse": use}
            case ToolResult():
                content = [
                    self._block(part)
                    for part in block.content
                    if not isinstance(part, Text) or part.text.strip()
                ]
                result: JsonObject = {
                    "toolUseId": tool_id(block.id),
                    "content": content or [{"text": _EMPTY}],
                }
                return {"toolResult": result}
            case _:
                assert_never(block)

    def _medium(self, block: Image | File | Audio) -> Json:
        if isinstance(block, Audio):
            return _audio(block.format.lower(), block.data, block.param)
        media_type, data = self._bytes(block)
        kind, _, form = media_type.partition("/")
        if kind == "image" or isinstance(block, Image):
            if form not in _IMAGES or kind != "image":
                raise _refusal(
                    block.param, f"Bedrock takes png, jpeg, gif and webp, not {media_type}"
                )
            return {"image": {"format": _IMAGES[form], "source": {"bytes": data}}}
        if kind == "video" and form in _VIDEOS:
            return {"video": {"format": _VIDEOS[form], "source": {"bytes": data}}}
        if kind == "audio":
            return _audio(form.removeprefix("x-"), data, block.param)
        return self._document(block, media_type, data)

    def _document(self, file: File, media_type: str, data: str) -> Json:
        _, _, extension = (file.filename or "").lower().rpartition(".")
        form = _DOCUMENTS.get(media_type) or (extension if extension in _EXTENSIONS else None)
        if form is None:
            raise _refusal(
                file.param, f"Bedrock takes {', '.join(sorted(_EXTENSIONS))}, not {media_type}"
            )
        stem = (file.filename or "").rpartition(".")[0] or file.filename or ""
        name = base = _NOT_IN_A_NAME.sub(" ", stem).strip()[:_NAME].strip() or "document"
        number = 2
        while name in self._names:
            name, number = f"{base} {number}", number + 1
        self._names.add(name)
        return {"document": {"format": form, "name": name, "source": {"bytes": data}}}

    def _bytes(self, block: Image | File) -> tuple[str, str]:
        """The media type and base64 of what the block holds or points to."""
        match block.source:
            case Inline(media_type=media_type, data=data):
                return media_type, data
            case Remote(url=url) if url in self._media:
                found = self._media[url]
                media_type = found.media_type.partition(";")[0].strip().lower()
                return media_type, base64.b64encode(found.data).decode()
            case Remote():
                raise _refusal(block.param, "Bedrock does not fetch this address: send a data URI")
            case Uploaded():
                raise _refusal(block.param, "Bedrock keeps no uploaded files: send a data URI")


def tool_id(given: str) -> str:
    """The id as it is where AWS's pattern allows it, else one made from it, always the same."""
    if _ID.fullmatch(given):
        return given
    return f"call_{hashlib.sha256(given.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def _audio(form: str, data: str, param: str) -> Json:
    if form not in _AUDIOS:
        raise _refusal(param, f"Bedrock does not take {form} audio")
    return {"audio": {"format": form, "source": {"bytes": data}}}


def _refusal(param: str, said: str) -> ApiError:
    return ApiError(400, said, code="unsupported_value", param=param)
