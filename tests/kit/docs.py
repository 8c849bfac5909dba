"""The commands of the documentation, read from the page itself: a test that runs them cannot drift.

A shell block says in a comment on the line above its fence who runs it, or why nobody does:

    <!-- run by tests/deploy/test_deploy_pyz.py -->
    <!-- not run: it needs a docker daemon -->

`tests/test_docs.py` holds every page to it, and the named test to reading the block with
`commands(page, heading)` or `script(page, heading)`, or to having its commands word for word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SHELL: Final = frozenset({"sh", "bash", "shell", "console", "zsh", "fish"})

_FENCE: Final = re.compile(r"(`{3,}|~{3,})\s*(\w*)")
_HEADING: Final = re.compile(r"#{1,6}\s+(.*?)\s*#*")
_MARK: Final = re.compile(r"<!--\s*(run by|not run:)\s*(.+?)\s*-->")
_COMMENT: Final = re.compile(r"(^|\s{2,})#\s.*$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: from the root of the repository.
        heading: the nearest one above, as text.
        language: after the fence; empty without one.
        text: between the fences.
        line: of the fence, from 1.
        run_by: the test that runs it, when the line above says so.
        not_run: the reason why nobody does, when the line above says so.
    """

    page: str
    heading: str
    language: str
    text: str
    line: int
    run_by: str = ""
    not_run: str = ""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """One a line; lines that end in a backslash are joined, comments are left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        bare = (" ".join(_COMMENT.sub("", line).split()) for line in lines)
        return [line for line in bare if line]


def pages() -> list[str]:
    """Every page that tells its reader what to type."""
    return ["README.md", *sorted(f"conf/{path.name}" for path in (ROOT / "conf").glob("*.md"))]


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return read(page, (ROOT / page).read_text())


def read(page: str, text: str) -> list[Block]:
    """The fenced blocks of a text."""
    found: list[Block] = []
    heading, above = "", ""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        at += 1
        if (fence := _FENCE.fullmatch(line)) is None:
            if title := _HEADING.fullmatch(line):
                heading = title[1]
            above = line
            continue
        begin = at
        while at < len(lines) and lines[at].strip() != fence[1]:
            at += 1
        mark = _MARK.fullmatch(above)
        said = {mark[1]: mark[2]} if mark else {}
        inside = "".join(f"{inner}\n" for inner in lines[begin:at])
        found.append(
            Block(
                page, heading, fence[2], inside, begin,
                said.get("run by", ""), said.get("not run:", ""),
            )
        )  # fmt: skip
        above, at = "", at + 1
    return found


def run_blocks(page: str, heading: str) -> list[Block]:
    """The blocks under a heading that a test runs.

    Raises:
        LookupError: there are none.
    """
    found = [one for one in blocks(page) if one.heading == heading and one.run_by]
    if not found:
        raise LookupError(f"{page} has no block under {heading!r} that a test runs")
    return found


def commands(page: str, heading: str) -> list[str]:
    """The commands under a heading, one a line, without comments."""
    return [line for block in run_blocks(page, heading) for line in block.commands]


def script(page: str, heading: str) -> str:
    """The blocks under a heading as they stand, for a shell."""
    return "".join(block.text for block in run_blocks(page, heading))


def snippet(page: str, heading: str, language: str) -> str:
    """The one block of another language under a heading."""
    (block,) = (one for one in blocks(page) if (one.heading, one.language) == (heading, language))
    return block.text
