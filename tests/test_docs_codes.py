"""The troubleshooting page knows every error code there is, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.docs import ROOT, blocks, pages
from uniapi.config.problems import Severity
from uniapi.config.read import read
from uniapi.errors import Kind

_PAGE = ROOT / "conf" / "troubleshooting.md"
_THIRD = {"ApiError", "LimitReached"}  # calls whose third argument is the code
_FOURTH = {"Failure"}


def emitted(path: Path) -> Iterator[str]:
    """The codes that are written in a module as such."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.keyword(arg="code", value=ast.Constant(value=str(word))):
                yield word
            case ast.Call(func=ast.Name(id=name), args=[_, _, ast.Constant(value=str(word)), *_]):
                if name in _THIRD:
                    yield word
            case ast.Call(
                func=ast.Name(id=name), args=[_, _, _, ast.Constant(value=str(word)), *_]
            ) if name in _FOURTH:
                yield word
            case ast.AnnAssign(
                target=ast.Name(id="code" | "CODE"), value=ast.Constant(value=str(word))
            ):
                yield word
            case ast.AnnAssign(
                target=ast.Name(id="_CODES"), value=ast.Call(args=[ast.Dict() as all_])
            ):
                yield from (one.value for one in all_.values if isinstance(one, ast.Constant))  # type: ignore[misc] # a dict of words
            case _:
                pass


def known() -> set[str]:
    modules = [path for path in (ROOT / "uniapi").rglob("*.py") if "demo" not in path.parts]
    found = {word for path in modules for word in emitted(path)}
    return found | {kind.value for kind in Kind}


def listed() -> list[str]:
    section = _PAGE.read_text().partition("## Error codes")[2]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [word for cell in cells for word in re.findall(r"`(\w+)`", cell)]


def test_every_error_code_has_an_entry_and_every_entry_is_one() -> None:
    page = listed()
    assert sorted(known() - set(page)) == []
    assert sorted(set(page) - known()) == []
    assert len(page) == len(set(page))


@pytest.mark.parametrize("page", pages())
def test_a_whole_configuration_on_a_page_is_one(page: str) -> None:
    for block in blocks(page):
        if block.language == "yaml" and block.text.startswith(("providers:", "# api.yaml")):
            variables = dict.fromkeys(re.findall(r"\$\{(\w+)\}", block.text), "http://one.test/v1")
            report = read(block.text, name=block.place, env=variables)
            wrong = [p.what for p in report.problems if p.severity is Severity.ERROR]
            assert wrong == [], block.place
