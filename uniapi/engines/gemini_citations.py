"""Grounding as OpenAI's annotations: which words of the answer rest on which page.

Google counts bytes of UTF-8 where OpenAI counts characters. The metadata come late in a stream,
sometimes in several pieces, so nothing is said before the answer is whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from uniapi.codec import Json, JsonObject


@dataclass(frozen=True, slots=True)
class _Place:
    """A piece of the answer in bytes; the text itself when Google quotes it."""

    start: int
    end: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Source:
    url: str
    title: str


class Citations:
    """What was cited in one candidate as far as it has been read."""

    def __init__(self) -> None:
        self._sources: list[_Source | None] = []
        self._cited: dict[tuple[_Source, _Place], None] = {}

    def read(self, candidate: JsonObject) -> None:
        """Take in what a candidate of one event says."""
        match candidate.get("groundingMetadata"):
            case dict(metadata):
                self._grounding(metadata)
            case _:
                pass
        match candidate.get("citationMetadata"):
            case {"citationSources": list(found)} | {"citations": list(found)}:
                for each in found:
                    source = _source(each)
                    if source is not None and isinstance(each, dict):
                        self._cited[source, _place(each)] = None
            case _:
                pass

    def _grounding(self, metadata: JsonObject) -> None:
        chunks = metadata.get("groundingChunks")
        if isinstance(chunks, list) and chunks:
            # Supports that come later without chunks of their own mean these.
            self._sources = [_chunk_source(chunk) for chunk in chunks]
        supports = metadata.get("groundingSupports")
        for support in supports if isinstance(supports, list) else []:
            match support:
                case {"segment": dict(segment), "groundingChunkIndices": list(indices)}:
                    for source in self._named(indices):
                        self._cited[source, _place(segment)] = None
                case _:
                    pass

    def _named(self, indices: list[Json]) -> Iterator[_Source]:
        for index in indices:
            if isinstance(index, int) and 0 <= index < len(self._sources):
                source = self._sources[index]
                if source is not None:
                    yield source

    def annotations(self, text: str) -> list[Json]:
        """`url_citation` annotations for the answer `text`.

        Sources without a place, and places that are not in the text, cite the whole of it. The
        entries are numbered: the SDKs refuse lists in deltas whose entries are not.
        """
        data = text.encode()
        cited = [(source, _range(place, text, data)) for source, place in self._cited]
        if not cited:
            cited = [(source, (0, len(text))) for source in self._sources if source is not None]
        return [
            {
                "index": number,
                "type": "url_citation",
                "url_citation": {
                    "url": source.url,
                    "title": source.title,
                    "start_index": start,
                    "end_index": end,
                },
            }
            for number, (source, (start, end)) in enumerate(dict.fromkeys(cited))
        ]


def _chunk_source(chunk: Json) -> _Source | None:
    match chunk:
        case {"web": found} | {"retrievedContext": found} | {"maps": found}:
            return _source(found)
        case _:
            return None


def _source(value: Json) -> _Source | None:
    match value:
        case {"uri": str(url), "title": str(title)} if url:
            return _Source(url, title)
        case {"uri": str(url)} if url:
            return _Source(url, url)
        case _:
            return None


def _place(segment: JsonObject) -> _Place:
    start, end, text = (segment.get(name) for name in ("startIndex", "endIndex", "text"))
    return _Place(
        start if isinstance(start, int) else 0,  # zero is left out
        end if isinstance(end, int) else 0,
        text if isinstance(text, str) else "",
    )


def _range(place: _Place, text: str, data: bytes) -> tuple[int, int]:
    """The place in characters."""
    piece = data[place.start : place.end]
    if place.text and piece != place.text.encode():
        # Offsets count within a part of the answer; the quoted text says which.
        at = text.find(place.text)
        return (at, at + len(place.text)) if at >= 0 else (0, len(text))
    if not piece:
        return 0, len(text)
    start = len(data[: place.start].decode(errors="ignore"))
    return start, start + len(piece.decode(errors="ignore"))
