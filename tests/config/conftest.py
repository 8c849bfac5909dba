"""Reading a file from a test, and a small valid file to spoil."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from uniapi.config.read import Report, read

FIXTURES = Path(__file__).parent.parent / "fixtures" / "config"


class Read(Protocol):
    def __call__(
        self, text: str, *, env: Mapping[str, str] | None = None, mode: int | None = None
    ) -> Report: ...


@pytest.fixture
def reads() -> Read:
    def reads(
        text: str, *, env: Mapping[str, str] | None = None, mode: int | None = None
    ) -> Report:
        return read(text, name="api.yaml", env=env or {}, mode=mode)

    return reads


@pytest.fixture
def fixture() -> Callable[[str], str]:
    return lambda name: (FIXTURES / name).read_text(encoding="utf-8")
