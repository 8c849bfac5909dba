"""The parser's complaints in words a person can act on.

The text of a line is looked at, to tell one slip from another, but never repeated: it may be a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Position: TypeAlias = tuple[int, int]
"""Line and column, both from 0."""


@dataclass(frozen=True, slots=True)
class Slip:
    """Where (line from 1), what, and the way out."""

    line: int
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class _Complaint:
    problem: str
    at: Position
    since: Position
    lines: Sequence[str]

    def text(self, line: int) -> str:
        return self.lines[line] if line < len(self.lines) else ""

    @property
    def before(self) -> str:
        """The line up to where the parser stopped."""
        line, column = self.at
        return self.text(line)[:column]


_Words: TypeAlias = tuple[str, str]


def _tab(_: _Complaint) -> _Words:
    return (
        "a tab; YAML counts spaces only",
        "replace every tab with spaces, two for each level",
    )


def _reserved(slip: _Complaint) -> _Words:
    character = "`" if "'`'" in slip.problem else "@" if "'@'" in slip.problem else "%"
    example = "'@cf/meta/llama-3.1-8b-instruct'" if character == "@" else f"'{character}…'"
    return (
        f"a value may not start with {character} unless it is in quotes",
        f"put it in quotes: {example}",
    )


def _star(_: _Complaint) -> _Words:
    return (
        "a bare * is a YAML alias, not a wildcard",
        "write all, or '*' in quotes; a text that starts with * goes in quotes too",
    )


def _nameless(_: _Complaint) -> _Words:
    return (
        "an alias (*name) that stands for nothing: no &name comes before it",
        "put &name before the value it stands for; a text that starts with * goes in quotes",
    )


def _ampersand(_: _Complaint) -> _Words:
    return (
        "a bare & names nothing",
        "a text that starts with & goes in quotes",
    )


def _misplaced(_: _Complaint) -> _Words:
    return (
        "a value has one anchor (&name) or is one alias (*name), and nothing else comes with it",
        "write one of them; a text that starts with & or * goes in quotes",
    )


def _tag(_: _Complaint) -> _Words:
    return (
        "tags (!name) are not supported",
        "leave the tag out; a text that starts with ! goes in quotes",
    )


def _second_colon(slip: _Complaint) -> _Words:
    if re.match(r"\s*(-\s+)*[^\s#].*?:\s", slip.before):
        return (
            "a second `: ` in one line: `key: a: b` is not YAML",
            "put the value in quotes: key: 'a: b'; a map under a key starts on the next line",
        )
    return (
        "this key is not lined up with the ones around it, or the line above it has no value",
        "start it in the same column as its sisters, with a space after every colon",
    )


def _indentation(_: _Complaint) -> _Words:
    return (
        "bad indentation: this line fits no level above it",
        "start it in the same column as the lines it belongs with; use two spaces for each level",
    )


def _leftover(_: _Complaint) -> _Words:
    return (
        "text after a value that had already ended",
        "check the quotes and brackets here and just above; a quote inside '…' is written twice",
    )


def _inline_list(_: _Complaint) -> _Words:
    return (
        "a list may not start behind its key",
        "put every `- item` on a line of its own below the key, or write key: [a, b]",
    )


def _no_colon(_: _Complaint) -> _Words:
    return (
        "a line without a colon where a `key: value` was expected",
        "write key: value, with a space after the colon, or `- item` in a list",
    )


def _open_quote(_: _Complaint) -> _Words:
    return ("a quote is opened here and never closed", "close it with the same kind of quote")


def _open_bracket(slip: _Complaint) -> _Words:
    if "${" in slip.text(slip.since[0]) + slip.text(slip.at[0]):
        return (
            "a bare ${…} inside [ ] or { }",
            'put it in quotes: ["${NAME}"], or write the list with one `- item` a line',
        )
    return (
        "a [ or { that opens here is not closed properly",
        "close it, with commas between the items; a text with brackets goes in quotes",
    )


def _stray_bracket(_: _Complaint) -> _Words:
    return ("a closing bracket that closes nothing", "remove it, or put the text in quotes")


def _escape(_: _Complaint) -> _Words:
    return (
        'a backslash in "…" that is no escape',
        "use single quotes '…', or write the backslash twice",
    )


def _documents(_: _Complaint) -> _Words:
    return (
        "a second YAML document (after --- or ...)",
        "keep one document: remove this line, or the other document",
    )


def _unknown(_: _Complaint) -> _Words:
    return ("this is not YAML", "compare the line with conf/api.example.yaml; check the quotes")


_PROBLEM, _SINCE = False, True
_TABLE: Final[Sequence[tuple[str, bool, Callable[[_Complaint], _Words]]]] = (
    (r"found character '\\t'", _PROBLEM, _tab),
    (r"found character '[@`%]'", _PROBLEM, _reserved),
    (r"scanning an alias", _SINCE, _star),
    (r"undefined alias '[:,\]}]", _PROBLEM, _star),
    (r"undefined alias", _PROBLEM, _nameless),
    (r"scanning an anchor", _SINCE, _ampersand),
    (r"found '<(anchor|alias)>'", _PROBLEM, _misplaced),
    (r"\btag\b|directive", _PROBLEM, _tag),
    (r"mapping values are not allowed", _PROBLEM, _second_colon),
    (r"sequence entries are not allowed", _PROBLEM, _inline_list),
    (r"quoted scalar \| found unexpected|found unexpected end of stream", _SINCE, _open_quote),
    (r"unknown escape|expected escape sequence|hexadecimal", _PROBLEM, _escape),
    (r"could not find expected ':'", _SINCE, _no_colon),
    (r"parsing a flow", _SINCE, _open_bracket),
    (r"found '[\]}]'|node content, but found '[\]},]'", _PROBLEM, _stray_bracket),
    (r"found '<scalar>'", _PROBLEM, _leftover),
    (r"expected <block end>|indentation", _PROBLEM, _indentation),
    (r"another document|document start", _PROBLEM, _documents),
)
"""Pattern over `context | problem`, whether the start of the construct is to blame, the words."""


def explain(
    *,
    problem: str,
    context: str,
    at: Position | None,
    since: Position | None,
    lines: Sequence[str],
) -> Slip:
    """The parser's complaint as a slip.

    Args:
        problem: what the parser met.
        context: what it was doing.
        at: where it stopped.
        since: where the construct began that it could not finish.
        lines: the file, for telling slips apart.
    """
    stop = at or since or (0, 0)
    start = since or stop
    last = max(len(lines) - 1, 0)
    for pattern, blame_start, words in _TABLE:
        if re.search(pattern, f"{context} | {problem}"):
            slip = _Complaint(problem, stop, start, lines)
            line = (start if blame_start else stop)[0]
            return Slip(min(line, last) + 1, *words(slip))
    return Slip(min(stop[0], last) + 1, *_unknown(_Complaint(problem, stop, start, lines)))
