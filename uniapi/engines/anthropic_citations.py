"""Citations of text blocks as OpenAI's annotations."""

from __future__ import annotations

from dataclasses import dataclass, field

from uniapi.codec import Json, JsonObject


@dataclass(slots=True)
class Citations:
    """Collects what a block cites, then places it over the block's text.

    Attributes:
        annotations: `url_citation` entries; offsets count characters of the whole text. They go
            out in one piece, since the SDKs cannot join lists without indices.
    """

    annotations: list[JsonObject] = field(default_factory=list)
    _open: list[tuple[str, str]] = field(default_factory=list)

    def take(self, citation: Json) -> None:
        """A citation of the block that is open; one without an address has no annotation."""
        if not isinstance(citation, dict):
            return
        match citation:
            case {"type": "web_search_result_location", "url": str(url)}:
                self._add(url, citation.get("title"))
            case {"type": "search_result_location", "source": str(url)} if "://" in url:
                self._add(url, citation.get("title"))
            case _:
                pass

    def _add(self, url: str, title: Json) -> None:
        found = (url, title if isinstance(title, str) else "")
        if found not in self._open:
            self._open.append(found)

    def place(self, begin: int, end: int) -> None:
        """The block that was open covers these characters."""
        for url, title in self._open:
            cited: JsonObject = {
                "url": url,
                "title": title,
                "start_index": begin,
                "end_index": end,
            }
            self.annotations.append({"type": "url_citation", "url_citation": cited})
        self._open.clear()
