"""The entries of `api_keys:`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from uniapi.config import yaml
from uniapi.config.fields import At, choice, entries, flag, number, text, token
from uniapi.config.limits import rates, span
from uniapi.config.policies import hedge
from uniapi.config.problems import Sink, mask, shown
from uniapi.config.rules import LinedRule, Names, cycle, rules, weight
from uniapi.config.section import Section
from uniapi.config.types import (
    Algorithm,
    AutoRetry,
    ClientKey,
    KeyPreferences,
    Secret,
)


@dataclass(frozen=True, slots=True)
class LinedKey:
    """A client key and where its parts stand, for the cross-checks.

    Attributes:
        key: the key.
        line: of its entry.
        rules: its rules with their lines; empty when the file names none.
        algorithm: the line of its SCHEDULING_ALGORITHM, or of its entry.
        moderation: the line of its ENABLE_MODERATION, or of its entry.
    """

    key: ClientKey
    line: int
    rules: tuple[LinedRule, ...]
    algorithm: int
    moderation: int


def clients(
    sections: Sequence[Section], providers: frozenset[str], sink: Sink
) -> tuple[LinedKey, ...]:
    """All client keys; the sink is told of doubles and of cycles among nested keys."""
    secrets: dict[Secret, Section] = {}
    for section in sections:
        found = section.require("api", token, "sk-… (what your clients send)")
        if found is None:
            continue
        if found in secrets:
            section.at.error(
                section.node,
                f"the key {mask(found.reveal())} is already on line {secrets[found].node.line}",
                "give every client its own key, or join the two entries",
            )
            continue
        secrets[found] = section
    names = Names(providers, tuple(secrets))
    keys = tuple(_client(s, key, names, only=len(sections) == 1) for key, s in secrets.items())
    _refuse_cycles(keys, sink)
    return keys


def _client(section: Section, key: Secret, names: Names, *, only: bool) -> LinedKey:
    found = section.get("model", lambda node, at: rules(node, at, names)) or ()
    found = _weighted(found, section.read("weights", _weights, {}))
    role = section.get("role", text)
    preferences = section.section("preferences")
    client = ClientKey(
        secret=key,
        role=role,
        # The text need only contain the word, and a single key is the owner's.
        admin=only or "admin" in (role or ""),
        preferences=_preferences(preferences),
    )
    if found:
        client = replace(client, rules=tuple(rule.rule for rule in found))
    return LinedKey(
        client,
        section.node.line,
        found,
        algorithm=_line(preferences, "SCHEDULING_ALGORITHM", section.node.line),
        moderation=_line(preferences, "ENABLE_MODERATION", section.node.line),
    )


def _line(section: Section, key: str, default: int) -> int:
    node = section.node_of(key, key.lower())
    return default if node is None else node.line


def _preferences(section: Section) -> KeyPreferences:
    return KeyPreferences(
        algorithm=section.read(
            "SCHEDULING_ALGORITHM",
            choice(Algorithm),
            Algorithm.FIXED_PRIORITY,
            "scheduling_algorithm",
        ),
        auto_retry=section.read("AUTO_RETRY", _auto_retry, AutoRetry(), "auto_retry"),
        rate_limit=section.get("rate_limit", rates),
        moderation=section.read("ENABLE_MODERATION", flag, False, "enable_moderation"),
        credits=section.get("credits", _credits),
        created_at=section.get("created_at", _timestamp),
        deadline=section.get("deadline", span),
        hedge=section.get("hedge", hedge),
        rescue=section.get("rescue", flag),
    )


def _auto_retry(node: yaml.Node, at: At) -> AutoRetry | None:
    value = text(node, at)
    if value is None:
        return None
    if value.isascii() and value.isdigit() and len(value) <= 4:
        return AutoRetry(enabled=int(value) > 0, count=int(value) or None)
    match value.lower():
        case "true" | "yes" | "on":
            return AutoRetry()
        case "false" | "no" | "off":
            return AutoRetry(enabled=False)
        case _:
            at.error(node, "neither true, false nor a number", "write true, false or 2")
            return None


def _credits(node: yaml.Node, at: At) -> float | None:
    """Dollars; a negative number is no limit, as in the seeds' program."""
    value = number(node, at)
    return None if value is None or value < 0 else value


def _timestamp(node: yaml.Node, at: At) -> datetime | None:
    value = text(node, at)
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        at.error(node, f"{shown(value)} is not a date", "write 2025-01-31T12:00:00+00:00")
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _weights(node: yaml.Node, at: At) -> dict[str, int]:
    """The `weights:` map beside the rules, as later versions of the seeds' program write it."""
    found: dict[str, int] = {}
    for entry in entries(node, at):
        value = weight(entry.value)
        if value is None:
            at.error(entry.value, "a weight must be a positive whole number", "write rule: 5")
        else:
            found[entry.key.text.strip()] = value
    return found


def _weighted(found: tuple[LinedRule, ...], weights: dict[str, int]) -> tuple[LinedRule, ...]:
    return tuple(
        replace(r, rule=replace(r.rule, weight=weights[r.rule.text]))
        if r.rule.weight is None and r.rule.text in weights
        else r
        for r in found
    )


def _refuse_cycles(keys: Sequence[LinedKey], sink: Sink) -> None:
    found = cycle({k.key.id: k.rules for k in keys})
    if found is None:
        return
    names = {k.key.id: mask(k.key.secret.reveal()) for k in keys}
    steps = [f"{names[key]} (line {line})" for key, line in found]
    sink.error(
        max(line for _, line in found),
        f"nested keys lead in a circle: {' -> '.join([*steps, names[found[0][0]]])}",
        "remove one of these rules",
    )
