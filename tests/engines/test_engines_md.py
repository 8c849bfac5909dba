"""ENGINES.md says what the cases show."""

from __future__ import annotations

from tests.kit.engines_md import PATH, render
from uniapi.engines import registry

MAKE = "python -m tests.kit.engines_md"


def test_the_table_is_what_the_cases_show() -> None:
    assert PATH.read_text() == render(), f"write it anew with: {MAKE}"


def test_it_says_how_it_is_made_and_leaves_no_engine_out() -> None:
    text = PATH.read_text()
    assert MAKE in text
    for engine in registry.ENGINES:
        assert f"| {engine.names[0]} " in text


def test_what_every_engine_must_do_every_engine_does() -> None:
    """The promises of the front page; a new engine without its cases fails here."""
    promised = (
        "streamed",
        "whole",
        "several tools called at once",
        "usage",
        "system and developer turns",
        "tool results",
        "pictures (data)",
        "a bad key",
        "too many requests",
        "a context too long",
    )
    for line in PATH.read_text().splitlines():
        label, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if label in promised:
            assert set(cells) == {"yes"}, line
