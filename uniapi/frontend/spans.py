"""The span of time that a query string asks for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import Final

from uniapi.errors import ApiError
from uniapi.stats.queries import Span

_DAY: Final = 86_400.0  # seconds
_LATEST: Final = 253_402_300_799.0  # unix seconds; the end of the year 9999
_MOST_DAYS: Final = 36_500
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def span_of(given: Mapping[str, str], now: float, days: int) -> Span:
    """What `last_n_days`, or `start_datetime` and `end_datetime`, say; the latest `days` if none.

    Bounds are ISO 8601, in UTC unless they say otherwise, or unix seconds. The start is in it, the
    end is not. An end alone begins at 0; a start alone ends now.

    Raises:
        ApiError: 400 for one that cannot be read, or that excludes the other.
    """
    last, start, end = (given.get(n) for n in ("last_n_days", "start_datetime", "end_datetime"))
    if last is not None:
        if start is not None or end is not None:
            raise _bad("last_n_days", "give this, or start_datetime and end_datetime, not both")
        number = int(last) if last.isascii() and last.isdigit() and len(last) <= 5 else 0
        if not 0 < number <= _MOST_DAYS:
            raise _bad("last_n_days", f"not a whole number from 1 to {_MOST_DAYS}")
        return Span(now - number * _DAY, now)
    if start is None and end is None:
        return Span(now - days * _DAY, now)
    since = 0.0 if start is None else _moment("start_datetime", start)
    until = now if end is None else _moment("end_datetime", end)
    if until < since:
        raise _bad("end_datetime", "before the start")
    return Span(since, until)


def iso(at: float) -> str:
    """Unix seconds as ISO 8601 in UTC, to the second."""
    return (_EPOCH + timedelta(seconds=at)).isoformat(timespec="seconds")


def _moment(name: str, written: str) -> float:
    # A plus sign that was not encoded comes as a space.
    for text in (written, "+".join(written.rsplit(" ", 1))):
        try:
            at = _seconds(text)
        except (ValueError, OverflowError):
            continue
        if isfinite(at) and 0 <= at <= _LATEST:
            return at
    raise _bad(name, "neither ISO 8601, as 2025-01-31T12:00:00Z, nor unix seconds")


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _bad(name: str, why: str) -> ApiError:
    return ApiError(400, f"{name}: {why}", "invalid_request", param=name)
