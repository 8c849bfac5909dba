"""Logging: one JSON object a line for machines, readable colours on a terminal.

A log line is never worth a request: a sink that is gone or full is ignored.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

# Without the variables of each frame: among them are headers, and with them keys.
_TRACEBACKS: Final = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, default=repr)


class _Sink:
    """Writes lines to a stream; a broken stream is nobody's problem."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # the terminal closed, the disk is full: the request goes on

    debug = info = warning = error = critical = exception = msg


def _one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Foreign text cannot forge a line: control characters become spaces."""
    return {name: _tame(value) for name, value in event.items()}


def _tame(value: object) -> object:
    if isinstance(value, str) and not value.isprintable():
        return "".join(c if c.isprintable() or c == "\n" else " " for c in value)
    return value


def _written(event: EventDict, **_: object) -> str:
    """One line of JSON. Made by an encoder that is there already: making one is 5 us a line."""
    return _ENCODER.encode(event)


def configure(*, level: str = "info", stream: TextIO | None = None) -> None:
    """Set up structlog for the process.

    Args:
        level: debug, info, warning or error.
        stream: standard error unless given; a terminal gets colours, anything else JSON.
    """
    out = stream if stream is not None else sys.stderr
    pretty = out.isatty()
    threshold = getattr(logging, level.upper())
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if pretty else "iso", utc=not pretty),
    ]
    if pretty:
        plain = structlog.dev.plain_traceback  # prettier ones show variables, and so keys
        processors += [
            _one_line,
            structlog.dev.ConsoleRenderer(pad_event_to=16, exception_formatter=plain),
        ]
    else:
        processors += [
            structlog.processors.ExceptionRenderer(_TRACEBACKS),
            structlog.processors.JSONRenderer(_written),
        ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _Sink(out),
        cache_logger_on_first_use=True,
    )
