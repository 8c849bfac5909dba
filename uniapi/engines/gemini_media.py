"""Pictures, sound and files as Gemini takes them: within the request, or by an address it reads.

Gemini fetches no web pages: what is behind an http(s) address is brought by us, except where
Google has it already (the Files API, YouTube; on Vertex also Cloud Storage).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from uniapi.codec import JsonObject
from uniapi.conversation import (
    Audio,
    Block,
    Conversation,
    File,
    Image,
    Inline,
    Remote,
    ToolResult,
    Uploaded,
)
from uniapi.engines.base import Media
from uniapi.errors import ApiError

_FILES: Final = "https://generativelanguage.googleapis.com/v1beta/"
_YOUTUBE: Final = frozenset({"youtube.com", "www.youtube.com", "m.youtube.com", "youtu.be"})
_UNKNOWN: Final = "application/octet-stream"
_BY_ENDING: Final[Mapping[str, str]] = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "json": "application/json",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "gif": "image/gif",
    "wav": "audio/wav",
    "mp3": "audio/mp3",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "mp4": "video/mp4",
    "mov": "video/mov",
    "webm": "video/webm",
}


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where media come from.

    Attributes:
        vertex: whether Cloud Storage can be read, and the Files API cannot.
        fetched: what was behind the addresses of `fetched_by_us`.
    """

    vertex: bool
    fetched: Mapping[str, Media]

    def part(self, block: Image | Audio | File) -> JsonObject:
        """The part that carries a block.

        Raises:
            ApiError: 400 naming the parameter, for an address or id that means nothing to Google.
        """
        if isinstance(block, Audio):
            return _inline(f"audio/{block.format.lower()}", block.data)
        match block.source:
            case Inline(media_type=kind, data=data):
                if kind == _UNKNOWN and isinstance(block, File):
                    kind = _by_ending(block.filename or "") or kind
                return _inline(kind, data)
            case Remote(url=url):
                return self._remote(url, block)
            case Uploaded(file_id=identity):
                return self._uploaded(identity, block.param)

    def _remote(self, url: str, block: Image | File) -> JsonObject:
        if url.lower().startswith("gs://"):
            if not self.vertex:
                raise _wrong(block.param, "Cloud Storage can be read on Vertex only")
            return _file(url, _by_ending(url) or _usual(block))
        if _is_google(url):
            return _file(url, "video/mp4" if _is_youtube(url) else None)
        media = self.fetched.get(url)
        if media is None:
            raise _wrong(block.param, "what is behind the URL could not be fetched")
        kind = media.media_type.partition(";")[0].strip().lower()
        if kind in {"", _UNKNOWN}:
            kind = _by_ending(urlsplit(url).path) or _usual(block)
        return _inline(kind, base64.b64encode(media.data).decode())

    def _uploaded(self, identity: str, param: str) -> JsonObject:
        if identity.startswith("files/") and not self.vertex:
            return _file(_FILES + identity, None)
        if identity.startswith("gs://") and self.vertex:
            return _file(identity, _by_ending(identity) or _UNKNOWN)
        if identity.startswith(_FILES) or _is_youtube(identity):
            return _file(identity, None)
        raise _wrong(param, "not a file of Google's: send file_data, a data URI")


def fetched_by_us(conversation: Conversation) -> tuple[str, ...]:
    """The addresses in a request that have to be fetched for Gemini, each once."""
    blocks = [block for turn in conversation.turns for block in turn.blocks]
    return tuple(dict.fromkeys(_addresses(blocks)))


def _addresses(blocks: Iterable[Block]) -> Iterable[str]:
    for block in blocks:
        match block:
            case ToolResult(content=content):
                yield from _addresses(content)
            case Image(source=Remote(url=url)) | File(source=Remote(url=url)):
                if not (url.lower().startswith("gs://") or _is_google(url)):
                    yield url
            case _:
                pass


def _is_google(url: str) -> bool:
    return url.startswith(_FILES) or _is_youtube(url)


def _is_youtube(url: str) -> bool:
    try:
        return (urlsplit(url).hostname or "") in _YOUTUBE
    except ValueError:  # brackets that hold no address
        return False


def _inline(kind: str, data: str) -> JsonObject:
    return {"inlineData": {"mimeType": kind, "data": data}}


def _file(uri: str, kind: str | None) -> JsonObject:
    """A reference; what the Files API holds knows its own type."""
    return {"fileData": {"fileUri": uri} if kind is None else {"fileUri": uri, "mimeType": kind}}


def _by_ending(name: str) -> str | None:
    return _BY_ENDING.get(name.rpartition(".")[2].lower())


def _usual(block: Image | File) -> str:
    return "image/jpeg" if isinstance(block, Image) else "application/pdf"


def _wrong(param: str, said: str) -> ApiError:
    return ApiError(400, f"{param}: {said}", code="invalid_request", param=param)
