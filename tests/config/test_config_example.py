"""The files people start from are true, and the full one is complete."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from uniapi.config.read import Report, known_keys

Reads = Callable[..., Report]
CONF = Path(__file__).parent.parent.parent / "conf"


@pytest.mark.parametrize("name", ["api.example.yaml", "api.minimal.yaml"])
def test_an_example_is_read_without_a_word(reads: Reads, name: str) -> None:
    report = reads((CONF / name).read_text(encoding="utf-8"))
    assert report.problems == ()
    assert report.config is not None


def _keys() -> list[tuple[str, str]]:
    lower = {"scheduling_algorithm", "auto_retry", "enable_moderation"}  # accepted, not shown
    doubles = {  # shown under the provider, which says that they may also stand here
        ("providers[].preferences", key)
        for key in known_keys()["providers[]"]
        if key in known_keys()["providers[].preferences"]
    }
    return [
        (scope, key)
        for scope, keys in known_keys().items()
        for key in keys
        if key not in lower and (scope, key) not in doubles
    ]


@pytest.mark.parametrize(("scope", "key"), _keys())
def test_every_key_the_reader_knows_is_in_the_full_example(scope: str, key: str) -> None:
    indent = {"": 0, "preferences": 2, "providers[]": 4, "api_keys[]": 4}.get(scope, 6)
    text = (CONF / "api.example.yaml").read_text(encoding="utf-8")
    top = scope.partition("[")[0]
    part = re.split(r"(?m)^(?=\w)", text)
    block = next((p for p in part if scope and p.startswith(f"{top}:")), text)
    dash = r"(?:  - )?" if indent == 4 else ""
    assert re.search(rf"(?m)^(?:{' ' * indent}|{dash}){re.escape(key)}:", block)


def test_the_examples_cover_every_scope() -> None:
    assert set(known_keys()) == {
        "",
        "providers[]",
        "providers[].preferences",
        "api_keys[]",
        "api_keys[].preferences",
        "preferences",
    }
