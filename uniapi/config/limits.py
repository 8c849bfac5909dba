"""The small grammars: durations, sizes, rate limits, timeouts."""

from __future__ import annotations

import re
from typing import Final

from uniapi.config import yaml
from uniapi.config.bounds import ByModel, RateLimit, RateLimits, Silence, Unit, Window
from uniapi.config.fields import At, absent, by_model, named, text
from uniapi.config.problems import shown
from uniapi.duration import parse_duration

_LONG: Final = {"h": 3600.0, "hr": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0}
_WINDOWS: Final = _LONG | {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "mo": 30 * 86400.0,
    "month": 30 * 86400.0,
    "y": 365 * 86400.0,
    "year": 365 * 86400.0,
}
_SIZES: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{0,9})?)\s*([kmgt]?)(i?)b?", re.ASCII)
_RATE = re.compile(r"(\d{1,15})\s*(requests?|tokens?)?\s*/\s*([a-z]+)", re.ASCII)


def duration(node: yaml.Node, at: At) -> float | None:
    """Seconds, zero allowed."""
    value = text(node, at)
    if value is None:
        return None
    seconds = parse_duration(value)
    if seconds is None:
        at.error(
            node,
            f"{shown(value)} is not a time",
            "write seconds (60, 2.5) or a number with a unit: 300ms, 5s, 2m, 1h",
        )
    return seconds


def span(node: yaml.Node, at: At) -> float | None:
    """Seconds, more than zero."""
    seconds = duration(node, at)
    if seconds == 0:
        at.error(node, "must be more than 0", "write a time, or leave the key out")
        return None
    return seconds


def retention(node: yaml.Node, at: At) -> float | None:
    """Seconds, an hour or more."""
    seconds = duration(node, at)
    if seconds is not None and seconds < _WINDOWS["h"]:
        at.error(
            node,
            "must be 1h or more",
            "write a time such as 7d; DISABLE_DATABASE=true keeps nothing",
        )
        return None
    return seconds


def size(node: yaml.Node, at: At) -> int | None:
    """Bytes from `1000`, `20MB` or `20MiB`."""
    value = text(node, at)
    if value is None:
        return None
    match = _SIZE.fullmatch(value.lower())
    number = 0
    if match is not None:
        number = int(float(match[1]) * (1024 if match[3] else 1000) ** _SIZES[match[2]])
    if match is None or number < 1 or (match[3] and not match[2]):
        at.error(node, f"{shown(value)} is not a size", "write bytes, or 20MB or 20MiB")
        return None
    return number


def parse_rate(value: str) -> RateLimit | None:
    """A rate limit such as `15/min,10/day`, `100000 tokens/min` or `4000/tpr`; None when wrong."""
    windows: list[Window] = []
    per_request: int | None = None
    for part in value.lower().split(","):
        match = _RATE.fullmatch(part.strip())
        if match is None or int(match[1]) < 1:
            return None
        count, unit, period = int(match[1]), match[2] or "", match[3]
        if period == "tpr":
            per_request = count
            continue
        seconds = _WINDOWS.get(period) or _WINDOWS.get(period.removesuffix("s"))
        if seconds is None:
            return None
        counted = Unit.TOKENS if unit.startswith("token") else Unit.REQUESTS
        windows.append(Window(count, seconds, counted))
    return RateLimit(tuple(windows), per_request)


def rate(node: yaml.Node, at: At) -> RateLimit | None:
    """One rate limit."""
    value = text(node, at)
    if value is None:
        return None
    limit = parse_rate(value)
    if limit is None:
        at.error(
            node,
            f"{shown(value)} is not a rate limit",
            "write a count and a unit (s min h d month year): 15/min, or 15/min,1500/day",
        )
    return limit


def rates(node: yaml.Node, at: At) -> RateLimits | None:
    """One rate limit for all models, or a map from model names to rate limits."""
    rules = by_model(rate)(node, at)
    if isinstance(node, yaml.Mapping):
        _warn_of_lost(node, at)
    return None if rules is None else RateLimits(isinstance(node, yaml.Mapping), rules)


def _warn_of_lost(node: yaml.Mapping, at: At) -> None:
    """To YAML `{m: 15/min,1500/day}` is two keys: m, and one named 1500/day without a value."""
    for entry in node.entries:
        if absent(entry.value) and parse_rate(entry.key.text) is not None:
            at.warning(
                entry.key,
                f"{shown(entry.key.text)} stands where a model is expected, and limits nothing",
                'inside { } quote it together with what stands before it: "15/min,1500/day"',
            )


def silence(node: yaml.Node, at: At) -> Silence | None:
    """A timeout: `10` for the first token and between tokens, or `{first, idle, total}`."""
    if not isinstance(node, yaml.Mapping):
        seconds = span(node, at)
        return None if seconds is None else Silence(first=seconds, idle=seconds)
    found: dict[str, float] = {}
    for name, value in named(node, at, ("first", "idle", "total")):
        seconds = span(value, at.key(name))
        if seconds is not None:
            found[name] = seconds
    return Silence(found.get("first"), found.get("idle"), found.get("total"))


def timeouts(node: yaml.Node, at: At) -> ByModel[Silence] | None:
    """`model_timeout`: a timeout for all models, or one for each.

    A map whose keys are all of `first`, `idle` and `total` is one timeout, not three models.
    """
    if isinstance(node, yaml.Mapping) and node.entries:
        names = {entry.key.text.strip() for entry in node.entries}
        if names <= {"first", "idle", "total"}:
            return ByModel((), silence(node, at))
    return by_model(silence)(node, at)
