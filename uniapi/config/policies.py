"""The settings that are rules of their own: hedging, timeout policies, refusals."""

from __future__ import annotations

import re
from typing import Final

from uniapi.config import yaml
from uniapi.config.bounds import Hedge, TimeoutPolicy, TimeoutRule
from uniapi.config.fields import At, Reader, entries, items, many, named, text
from uniapi.config.keys import closest
from uniapi.config.limits import size, span
from uniapi.config.problems import shown
from uniapi.config.section import Section
from uniapi.config.types import Refusals, RefuseRule
from uniapi.duration import parse_duration

PHASES: Final = ("connect", "first_byte", "idle", "total")
_UNTIMED: Final = ("write", "pool")  # of the seeds' program; here `first_byte` runs meanwhile
TIMEOUT_FIELDS: Final = (
    "endpoint",
    "stream",
    "request_type",
    "method",
    "engine",
    "provider",
    "model",
    "request_model",
    "upstream_model",
    "role",
)
REFUSE_FIELDS: Final = (
    "endpoint",
    "request_model",
    "upstream_model",
    "reasoning_effort",
    "request_type",
)
REQUEST_TYPES: Final = ("compaction",)

Match = tuple[tuple[str, tuple[str, ...]], ...]


def hedge(node: yaml.Node, at: At) -> Hedge | None:
    """`5s`, `p90`, `off`, or `{after: 5s, budget: 10%}`."""
    if not isinstance(node, yaml.Mapping):
        return _after(node, at)
    after: Hedge | None = None
    budget = Hedge().budget
    for name, value in named(node, at, ("after", "budget")):
        here = at.key(name)
        if name == "after":
            after = _after(value, here)
        else:
            budget = _share(value, here, budget)
    if after is None:
        if not at.sink.failed:
            at.error(node, "`after` is missing", "write {after: 5s} or {after: p90}")
        return None
    return Hedge(after.after, after.percentile, budget if after.budget else 0.0)


def _after(node: yaml.Node, at: At) -> Hedge | None:
    value = text(node, at)
    if value is None:
        return None
    if value.lower() in {"off", "false", "no"}:
        return Hedge(budget=0.0)
    percentile = re.fullmatch(r"[pP]([1-9]\d?)", value, re.ASCII)
    if percentile is not None:
        return Hedge(percentile=int(percentile[1]))
    seconds = parse_duration(value)
    if seconds:
        return Hedge(after=seconds)
    at.error(node, f"{shown(value)} is not a delay", "write 5s, p90 (of the usual wait), or off")
    return None


def _share(node: yaml.Node, at: At, default: float) -> float:
    value = text(node, at)
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,9})?|\.\d{1,9})\s*(%?)", value or "", re.ASCII)
    share = float(match[1]) / (100 if match[2] else 1) if match is not None else -1.0
    if 0 <= share <= 1:
        return share
    if value is not None:
        at.error(node, "not a share of the requests", "write 10% or 0.1")
    return default


def timeout_policy(node: yaml.Node, at: At) -> TimeoutPolicy | None:
    """`{default: {idle: 30}, rules: [{match: {model: o1*}, timeout: {first_byte: 120}}]}`."""
    default: tuple[tuple[str, float], ...] = ()
    rules: tuple[TimeoutRule, ...] = ()
    for name, value in named(node, at, ("default", "rules")):
        here = at.key(name)
        if name == "default":
            default = _phases(value, here)
        else:
            rules = tuple(
                _timeout_rule(item, here.item(i)) for i, item in enumerate(items(value, here))
            )
    return TimeoutPolicy(default, rules)


def _timeout_rule(node: yaml.Node, at: At) -> TimeoutRule:
    match: Match = ()
    timeout: tuple[tuple[str, float], ...] = ()
    for name, value in named(node, at, ("match", "timeout")):
        here = at.key(name)
        if name == "match":
            match = _match(value, here, TIMEOUT_FIELDS)
        else:
            timeout = _phases(value, here)
    if not timeout:
        at.warning(node, "a rule without `timeout` changes nothing", "add timeout: {idle: 30}")
    return TimeoutRule(match, timeout)


def _phases(node: yaml.Node, at: At) -> tuple[tuple[str, float], ...]:
    found: list[tuple[str, float]] = []
    for name, value in named(node, at, (*PHASES, *_UNTIMED)):
        here = at.key(name)
        seconds = span(value, here)
        if name in _UNTIMED:
            here.warning(value, "not timed apart here: ignored", "`first_byte` has it in it")
        elif seconds is not None:
            found.append((name, seconds))
    return tuple(found)


def _match(node: yaml.Node, at: At, known: tuple[str, ...]) -> Match:
    """Field to patterns; an unknown field is kept, so that its rule never fits, and warned of."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for entry in entries(node, at):
        name = entry.key.text.strip()
        if name not in known:
            near = closest(name.lower(), known)
            at.warning(
                entry.key,
                f"unknown field {shown(name)}: this rule never fits",
                f"did you mean `{near}`?" if near else f"known here: {', '.join(known)}",
            )
        patterns = many(text)(entry.value, at.key(name))
        found.append((name, patterns or ()))
    return tuple(found)


def _refuse_rules(node: yaml.Node, at: At) -> tuple[RefuseRule, ...]:
    found = (_refuse_rule(item, at.item(i)) for i, item in enumerate(items(node, at)))
    return tuple(rule for rule in found if rule is not None)


def _refuse_rule(node: yaml.Node, at: At) -> RefuseRule | None:
    match: Match = ()
    reason = ""
    for name, value in named(node, at, ("match", "reason")):
        here = at.key(name)
        if name == "match":
            match = _match(value, here, REFUSE_FIELDS)
        else:
            reason = text(value, here) or ""
    if not match and isinstance(node, yaml.Mapping):
        at.error(
            node,
            "a rule without `match` would refuse everything",
            "write match: {request_model: o1*}; to switch a provider off, comment it out",
        )
        return None
    return RefuseRule(match, reason)


def _endpoints(node: yaml.Node, at: At) -> frozenset[str]:
    found: set[str] = set()
    for item in items(node, at):
        path = text(item, at)
        if path is None:
            continue
        if not path.startswith("/"):
            at.warning(
                item,
                f"{shown(path)} is not a path: it excludes nothing",
                "write a whole path, such as /v1/embeddings",
            )
        found.add(path.rstrip("/") or "/")
    return frozenset(found)


def _request_types(node: yaml.Node, at: At) -> frozenset[str]:
    found: set[str] = set()
    for item in items(node, at):
        name = text(item, at)
        if name is None:
            continue
        if name not in REQUEST_TYPES:
            at.warning(
                item,
                f"unknown request type {shown(name)}",
                f"known here: {', '.join(REQUEST_TYPES)}",
            )
        found.add(name)
    return frozenset(found)


def refusals(provider: Section, preferences: Section) -> Refusals:
    """What a provider is not asked: its own keys and its preferences together.

    Of two size limits the one in preferences counts.
    """
    limit = preferences.get("max_request_body_bytes", size)
    outer = provider.get("max_request_body_bytes", size)
    both = (provider, preferences)
    return Refusals(
        max_request_body_bytes=outer if limit is None else limit,
        exclude_endpoints=_union(both, "exclude_endpoints", _endpoints),
        only_request_types=_union(both, "only_request_types", _request_types),
        exclude_request_types=_union(both, "exclude_request_types", _request_types),
        rules=tuple(
            rule for s in both for rule in s.get("exclude_request_rules", _refuse_rules) or ()
        ),
    )


def _union(
    sections: tuple[Section, Section], key: str, reader: Reader[frozenset[str]]
) -> frozenset[str]:
    return frozenset(name for s in sections for name in s.get(key, reader) or ())
