"""What a test finds in the log."""

from __future__ import annotations

from structlog.typing import EventDict


def lines(logs: list[EventDict], event: str = "request.done") -> list[EventDict]:
    """The lines of this event, in order."""
    return [line for line in logs if line["event"] == event]


def line(logs: list[EventDict], event: str = "request.done") -> EventDict:
    """The one line of this event."""
    (found,) = lines(logs, event)
    return found
