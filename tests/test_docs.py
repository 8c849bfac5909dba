"""Every command in the documentation is run by a test, or the page says why it is not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.kit.docs import ROOT, SHELL, Block, blocks, pages, read

_READERS = {"commands", "script"}
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_COMMAND = re.compile(r"^(\$ |curl |docker |uniapi |make |pip |python3? |git |sudo |systemctl )")


def calls(path: Path) -> set[tuple[str, str]]:
    """The (page, heading) that a test reads commands from, as words or as the file's constants."""
    tree = ast.parse(path.read_text())
    known: dict[str, str] = {}
    for top in tree.body:
        match top:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(word)))
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(word)))
            ):
                known[name] = word
            case _:
                pass

    def word_of(node: ast.expr) -> str:
        match node:
            case ast.Constant(value=str(word)):
                return word
            case ast.Name(id=name):
                return known.get(name, "")
            case _:
                return ""

    found: set[tuple[str, str]] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="run_by"), args=[page, ast.Name(id="__file__")]):
                found.add((word_of(page), ""))  # tests/deploy/pages.py: all that name this file
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[page, heading]):
                if name in _READERS:
                    found.add((word_of(page), word_of(heading)))
            case _:
                pass
    return found


def wrong_with(block: Block) -> str | None:
    """What is wrong with what a block says of itself; None when nothing is."""
    if block.not_run:
        return None
    if not block.run_by:
        return "says neither who runs it nor why nobody does (see tests/kit/docs.py)"
    path = ROOT / block.run_by
    if not path.is_file() or not path.name.startswith("test_"):
        return f"is run by {block.run_by}, which is no test"
    if {(block.page, block.heading), (Path(block.page).name, "")} & calls(path):
        return None
    text = " ".join(path.read_text().split())
    missing = [line for line in block.commands if line not in text]
    return f"is not run by {block.run_by}: {missing[0]}" if missing else None


@pytest.mark.parametrize("page", pages())
def test_every_command_is_run_by_a_test_or_marked(page: str) -> None:
    shell = [block for block in blocks(page) if block.language in SHELL]
    said = [f"{block.place} {wrong}" for block in shell if (wrong := wrong_with(block))]
    assert said == []


@pytest.mark.parametrize("page", pages())
def test_no_command_hides_in_a_block_without_a_language(page: str) -> None:
    assert [
        block.place
        for block in blocks(page)
        if not block.language and any(_COMMAND.match(line) for line in block.text.splitlines())
    ] == []


@pytest.mark.parametrize("page", pages())
def test_links_between_pages_lead_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    targets = _LINK.findall((ROOT / page).read_text())
    assert [to for to in targets if "://" not in to and not (folder / to).exists()] == []


_PAGE = """
## One
<!-- run by tests/test_docs.py -->
```sh
echo one   # says one
echo \\
  two
```
## Two
<!-- not run: nobody can -->
```sh
halt
```
```sh
bare
```
"""


def test_a_page_is_read_as_its_reader_reads_it() -> None:
    one, two, bare = read("p.md", _PAGE)
    assert (one.heading, one.run_by, one.commands) == (
        "One",
        "tests/test_docs.py",
        ["echo one", "echo two"],
    )
    assert (two.heading, two.not_run, two.line) == ("Two", "nobody can", 11)
    assert (bare.run_by, bare.not_run) == ("", "")


def test_a_block_that_nobody_runs_is_found() -> None:
    one, two, bare = read("p.md", _PAGE)
    assert wrong_with(two) is None
    assert wrong_with(one) is None  # its commands stand in this file, in the test above
    assert "neither" in (wrong_with(bare) or "")
    gone = Block("p.md", "One", "sh", "echo one\n", 3, run_by="tests/test_gone.py")
    assert "no test" in (wrong_with(gone) or "")
    drifted = Block("p.md", "One", "sh", "echo t" + "hree\n", 3, run_by="tests/test_docs.py")
    assert "not run by" in (wrong_with(drifted) or "")
