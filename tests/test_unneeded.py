"""What our libraries import and nobody here uses is imported when somebody does."""

from __future__ import annotations

import subprocess
import sys

import pytest

START = "from uniapi.unneeded import put_off; put_off(); import sys\n"


def ran(program: str) -> str:
    """What a program prints in a process of its own."""
    command = [sys.executable, "-c", START + program]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)  # noqa: S603 - this interpreter
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_start_imports_none_of_it() -> None:
    gone = ("asyncio.base_events", "dateutil.parser._parser", "click", "uniapi.demo")
    use = f"import uniapi.cli, uniapi.run; print([name for name in {gone} if name in sys.modules])"
    assert ran(use) == "[]"


@pytest.mark.parametrize(
    ("use", "told"),
    [
        ("import asyncio\nprint(asyncio.run(asyncio.sleep(0, 'slept')))", "slept"),
        ("from asyncio import run, sleep\nprint(run(sleep(0, 'slept')))", "slept"),
        ("import asyncio.events as events\nprint(events.__name__)", "asyncio.events"),
        ("import structlog\nprint(structlog.stdlib.asyncio.sleep.__module__)", "asyncio.tasks"),
        ("import dateutil.parser\nprint(dateutil.parser.parse('2026-11-22').day)", "22"),
        ("from dateutil import parser\nprint(parser.parse('2026-11-22').day)", "22"),
        ("import dateutil.tz\nprint(dateutil.tz.UTC)", "tzutc()"),
        ("import strictyaml as s\nprint(s.load('2026-11-22', s.Datetime()).data.day)", "22"),
    ],
)  # fmt: skip
def test_who_uses_it_finds_it_as_ever(use: str, told: str) -> None:
    assert ran(use) == told


def test_what_is_there_already_stays() -> None:
    use = "import asyncio; asyncio.run; put_off(); print(type(sys.modules['asyncio']))"
    assert ran(use) == "<class 'module'>"
