"""multipart/form-data (RFC 7578), read strictly and changed where it must be.

Strictly, because somebody reads the same bytes after us: a body that two parsers could take for
two different forms would let a client ask for a model its key may not use. So: no preamble, no
epilogue, nothing but `form-data` with a quoted name, no name we read given twice. The body is
never taken apart: a part is its place in it, and a changed field is a splice.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

MAX_PARTS: Final = 200
MAX_TEXT: Final = 65_536  # bytes of a part that is read as a text field
_MAX_HEAD: Final = 8192  # bytes of a part's headers
_TYPE: Final = re.compile(
    r"""multipart/form-data[ \t]*;[ \t]*boundary=(?:"([^"\\]{1,70})"|([^\s";,]{1,70}))[ \t]*;?""",
    re.IGNORECASE,
)
# RFC 2046's bchars; a space is allowed inside, and never sent.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=?]{1,70}")
_QUOTED: Final = re.compile(r"[(),/:=?]")  # characters that no token may have
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_VALUE: Final = r"""(?:"((?:[^"\\]|\\.)*)"|([^\s";,=\\]+))"""  # most quote it, .NET does not
_DISPOSITION: Final = re.compile(
    rf"""form-data;[ ]?name={_VALUE}(?:;[ ]?filename={_VALUE})?(;[ ]?filename\*=[^\s";]+)?""",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form.

    Attributes:
        name: the field's name.
        filename: as sent; None for a field that is no file.
        content_type: as sent; None for none.
        start, end: where its data is in the body.
        head: where its delimiter begins.
    """

    name: str
    filename: str | None
    content_type: str | None
    start: int
    end: int
    head: int


@dataclass(frozen=True, slots=True)
class Form:
    """A parsed form.

    Attributes:
        boundary: without its dashes.
        body: all the bytes.
        parts: in the order they came.
    """

    boundary: str
    body: bytes
    parts: tuple[Part, ...]

    @property
    def content_type(self) -> str:
        """The header that belongs to the body."""
        quote = '"' if _QUOTED.search(self.boundary) else ""
        return f"multipart/form-data; boundary={quote}{self.boundary}{quote}"

    def named(self, name: str) -> tuple[Part, ...]:
        """The parts of this name."""
        return tuple(part for part in self.parts if part.name == name)

    def data(self, part: Part) -> bytes:
        """A part's bytes."""
        return self.body[part.start : part.end]

    def texts(self) -> Iterator[tuple[str, str]]:
        """Name and value of the fields that are short texts, in order."""
        for part in self.parts:
            if part.filename is None and part.end - part.start <= MAX_TEXT:
                try:
                    yield part.name, self.data(part).decode()
                except UnicodeDecodeError:
                    continue  # not a text

    def with_text(self, name: str, value: str) -> bytes:
        """The body with the value of every part of this name replaced.

        Raises:
            ValueError: when the value would end its part.
        """
        new = value.encode()
        if f"--{self.boundary}".encode() in new:
            raise ValueError("the value holds the boundary")
        pieces: list[bytes | memoryview] = []
        view, at = memoryview(self.body), 0
        for part in self.named(name):
            pieces += [view[at : part.start], new]
            at = part.end
        return b"".join([*pieces, view[at:]])

    def without(self, names: Collection[str]) -> Form:
        """The form without the fields of these names; itself when it has none."""
        if not any(part.name in names for part in self.parts):
            return self
        ends = [*(part.head for part in self.parts[1:]), _tail(self)]
        kept = [
            self.body[part.head : end]
            for part, end in zip(self.parts, ends, strict=True)
            if part.name not in names
        ]
        return parse(self.content_type, b"".join([*kept, self.body[_tail(self) :]]))


def parse(content_type: str, body: bytes) -> Form:
    """Read a form.

    Args:
        content_type: the request's header.
        body: all of it.

    Raises:
        ValueError: for everything that is not one form beyond doubt.
    """
    boundary = _boundary(content_type)
    delimiter = f"--{boundary}".encode()
    if not body.startswith(delimiter):
        raise ValueError("it does not begin with its boundary")
    parts: list[Part] = []
    head, at = 0, len(delimiter)
    while body[at : at + 2] == b"\r\n":
        if len(parts) == MAX_PARTS:
            raise ValueError(f"it has more than {MAX_PARTS} parts")
        blank = body.find(b"\r\n\r\n", at, at + _MAX_HEAD)
        start, following = blank + 4, body.find(delimiter, at)
        end = following - 2
        if blank < 0 or end < start or body[end:following] != b"\r\n":
            raise ValueError("a part is not whole")
        parts.append(_part(body[at + 2 : blank], start, end, head))
        head, at = following, following + len(delimiter)
    if not parts or body[at:] not in {b"--", b"--\r\n"}:
        raise ValueError("it does not end with its boundary")
    return Form(boundary, body, tuple(parts))


def _boundary(content_type: str) -> str:
    found = _TYPE.fullmatch(content_type.strip())
    boundary = (found[1] or found[2]) if found else ""
    if not _BOUNDARY.fullmatch(boundary):
        raise ValueError("its content-type has no usable boundary")
    return boundary


def _part(head: bytes, start: int, end: int, at: int) -> Part:
    """A part from its headers and its place."""
    try:
        text = head.decode()
    except UnicodeDecodeError:
        raise ValueError("a part's headers are not UTF-8") from None
    headers: dict[str, str] = {}
    for line in text.split("\r\n"):
        found = _HEADER.fullmatch(line)
        if found is None or found[1].lower() in headers:
            raise ValueError("a part's headers are malformed")
        headers[found[1].lower()] = found[2].strip(" \t")
    coding = headers.get("content-transfer-encoding", "binary").lower()
    if coding not in {"binary", "7bit", "8bit"}:
        raise ValueError(f"a part is in {coding[:40]}, which forms do not use")
    told = _DISPOSITION.fullmatch(headers.get("content-disposition", ""))
    if told is None or "\\" in (name := told[1] if told[1] is not None else told[2]):
        raise ValueError("a part has no readable content-disposition")
    filename = told[3] if told[3] is not None else told[4]
    if filename is None and told[5]:
        filename = ""  # given in the extended form alone: a file all the same
    return Part(name, filename, headers.get("content-type"), start, end, at)


def _tail(form: Form) -> int:
    """Where the closing delimiter begins."""
    return form.parts[-1].end + 2
