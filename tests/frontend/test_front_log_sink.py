"""Where log lines go: machines get JSON, people get colours, and a broken sink stops nobody."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
import structlog

from uniapi import log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Full(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def logger(stream: io.StringIO, level: str = "info") -> structlog.typing.FilteringBoundLogger:
    log.configure(stream=stream, level=level)
    made: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return made


def test_machines_get_one_json_object_a_line() -> None:
    out = io.StringIO()
    logger(out).info("request.done", model="m", said='a\n"b"\x1b[31m')
    (line,) = out.getvalue().splitlines()
    told = json.loads(line)
    assert (told["event"], told["level"], told["model"]) == ("request.done", "info", "m")
    assert told["timestamp"].endswith("Z")
    assert told["said"] == 'a\n"b"\x1b[31m'


def test_a_terminal_gets_one_readable_line_and_no_tricks() -> None:
    out = Terminal()
    logger(out).info("request.done", model="m", said="a\x1b]0;title\x07b\rc")
    text = out.getvalue()
    assert "request.done" in text
    assert "\x1b]0;" not in text
    assert "\x07" not in text
    assert "\r" not in text


def test_a_newline_in_foreign_text_cannot_forge_a_line_on_a_terminal() -> None:
    out = Terminal()
    logger(out).info("request.done", said="x\n00:00:00 [info     ] forged")
    assert len(out.getvalue().splitlines()) == 1


@pytest.mark.parametrize(("level", "events"), [("debug", 4), ("info", 3), ("error", 1)])
def test_the_level_says_how_much(level: str, events: int) -> None:
    out = io.StringIO()
    told = logger(out, level)
    told.debug("a")
    told.info("b")
    told.warning("c")
    told.error("d")
    assert len(out.getvalue().splitlines()) == events


def test_a_sink_that_is_full_or_gone_stops_nobody() -> None:
    logger(Full()).info("request.done")
    gone = io.StringIO()
    told = logger(gone)
    gone.close()
    told.info("request.done")


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "terminal"])
def test_a_traceback_shows_where_and_no_variables(stream: io.StringIO) -> None:
    try:
        _bug("sk-in-a-variable".upper())
    except RuntimeError:
        logger(stream).exception("request.crashed")
    assert "_bug" in stream.getvalue()
    assert "SK-IN-A-VARIABLE" not in stream.getvalue()


def _bug(secret: str) -> None:
    raise RuntimeError(f"a bug beside {len(secret)} letters")
