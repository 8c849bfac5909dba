"""The commands of a page that one test file runs, as their reader would paste them."""

from __future__ import annotations

from pathlib import Path

from tests.kit.docs import ROOT, blocks

CONF = ROOT / "conf"


def run_by(page: str, test: str) -> list[str]:
    """The blocks of `conf/page` that name `test` (its `__file__`) as the one that runs them."""
    name = str(Path(test).resolve().relative_to(ROOT))
    found = [block.text for block in blocks(f"conf/{page}") if block.run_by == name]
    assert found, (page, name)
    return found
