"""The grammar of a client key's `model:` list; after this file nobody sees `gemini/*`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from uniapi.config import yaml
from uniapi.config.fields import At, absent, items, text
from uniapi.config.problems import mask, shown, spoken
from uniapi.config.targets import AnyProvider, Everything, NestedKey, OneProvider, Rule, Target
from uniapi.config.types import Secret


@dataclass(frozen=True, slots=True)
class Names:
    """What a rule may refer to.

    Attributes:
        providers: the names of all providers.
        keys: the secrets of all client keys.
    """

    providers: frozenset[str]
    keys: Sequence[Secret]


@dataclass(frozen=True, slots=True)
class LinedRule:
    """A rule, the line it stands on, and its text for people (keys masked)."""

    rule: Rule
    line: int
    shown: str


def rules(node: yaml.Node, at: At, names: Names) -> tuple[LinedRule, ...]:
    """The rules of one key: strings, or maps from a rule to its weight."""
    found: list[LinedRule | None] = []
    for item in items(node, at):
        match item:
            case yaml.Mapping():
                found += [_rule(e.key, _weight(e, at), at, names) for e in item.entries]
            case _:
                found.append(_rule(item, None, at, names))
    return tuple(rule for rule in found if rule is not None)


def weight(node: yaml.Node) -> int | None:
    """A positive integer, or None when it is not one."""
    if isinstance(node, yaml.Scalar) and re.fullmatch(r"0*[1-9]\d{0,8}", node.text.strip()):
        return int(node.text)
    return None


def _weight(entry: yaml.Entry, at: At) -> int | None:
    if absent(entry.value):
        return None
    found = weight(entry.value)
    if found is None:
        at.error(
            entry.value,
            f"the weight of {shown(entry.key.text)} must be a positive whole number",
            "write a number behind the colon, such as `gcp1/*: 5`, or leave the colon out",
        )
    return found


def _rule(node: yaml.Node, value: int | None, at: At, names: Names) -> LinedRule | None:
    written = text(node, at)
    if not written:
        return None
    nested = _nested(written, names)
    if nested is not None:
        key, rest = nested
        masked = f"{mask(key.reveal())}/{rest}"
        _check_clash(node, at, names, key)
        inner = NestedKey(key.digest, None if rest == "*" else rest)
        return LinedRule(Rule(inner, value, f"{key.digest}/{rest}"), node.line, f'"{masked}"')
    target = _target(written)
    if target is None:
        at.error(
            node,
            f"{shown(written)} is not a rule",
            "write a model, provider/*, provider/model, <a/b> or all",
        )
        return None
    return LinedRule(Rule(target, value, spoken(written)), node.line, shown(written))


def _nested(written: str, names: Names) -> tuple[Secret, str] | None:
    """The client key a rule starts with, and what follows its slash."""
    for key in sorted(names.keys, key=lambda k: len(k.reveal()), reverse=True):
        secret = key.reveal()
        head, rest = written[: len(secret) + 1], written[len(secret) + 1 :].strip()
        # A key that looks like one wins over a provider's name, as in the program of the seeds.
        wins = secret.startswith("sk-") or secret not in names.providers
        if head == f"{secret}/" and rest and wins:
            return key, rest
    return None


def _check_clash(node: yaml.Node, at: At, names: Names, key: Secret) -> None:
    if key.reveal() in names.providers:
        at.warning(
            node,
            "this is both a client key and the name of a provider: the key is meant here",
            "give the provider another name",
        )


def _target(written: str) -> Target | None:
    if written in {"all", "*"}:
        return Everything()
    if written.startswith("<") and written.endswith(">"):
        name = written[1:-1].strip()
        return AnyProvider(name) if name else None
    provider, slash, model = (part.strip() for part in written.partition("/"))
    if not slash:
        return AnyProvider(written)
    if not provider or not model:
        return None
    return OneProvider(provider, None if model == "*" else model)


def cycle(keys: Mapping[str, Sequence[LinedRule]]) -> list[tuple[str, int]] | None:
    """The first cycle of nested keys: (key digest, line of the rule that leads on), in order."""
    done: set[str] = set()
    for start in keys:
        found = _descend(start, keys, done)
        if found is not None:
            return found
    return None


def _descend(
    start: str, keys: Mapping[str, Sequence[LinedRule]], done: set[str]
) -> list[tuple[str, int]] | None:
    """Depth first without recursion: a file may chain more keys than the stack has frames."""
    trail: list[tuple[str, int]] = []
    pending = [(start, _inner(keys.get(start, ())))]
    on_trail = {start}
    while pending:
        key, inner = pending[-1]
        if key in done or not inner:
            pending.pop()
            on_trail.discard(key)
            done.add(key)
            if trail:
                trail.pop()
            continue
        to, line = inner.pop(0)
        if to in on_trail:
            trail.append((key, line))
            first = next(i for i, (name, _) in enumerate(trail) if name == to)
            return trail[first:]
        if to not in done:
            trail.append((key, line))
            pending.append((to, _inner(keys.get(to, ()))))
            on_trail.add(to)
    return None


def _inner(found: Sequence[LinedRule]) -> list[tuple[str, int]]:
    return [(r.rule.target.key, r.line) for r in found if isinstance(r.rule.target, NestedKey)]
