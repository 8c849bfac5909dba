"""The program starts again once with the other allocator, and never twice."""

from __future__ import annotations

import os
import sys

import pytest

from uniapi import __main__ as program


def started_again(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[list[str]]:
    calls: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _path, words: calls.append(words))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "uniapi", *arguments])
    monkeypatch.setattr(sys, "argv", ["uniapi", *arguments])
    with pytest.raises(SystemExit):
        program.run()
    return calls


def test_serving_takes_the_allocator_that_gives_memory_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PYTHONMALLOC", raising=False)
    words = started_again(monkeypatch, "serve", "--port", "nonsense")
    assert words == [[sys.executable, "-m", "uniapi", "serve", "--port", "nonsense"]]
    assert os.environ["PYTHONMALLOC"] == "malloc"
    monkeypatch.delenv("PYTHONMALLOC")


def test_a_choice_that_was_made_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONMALLOC", "pymalloc")
    assert started_again(monkeypatch, "serve", "--port", "nonsense") == []


def test_a_short_command_does_not_start_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONMALLOC", raising=False)
    assert started_again(monkeypatch, "--version") == []
