"""Typed readers for the fields of a file: each takes a node and gives a value, or complains.

A reader answers None when there is no value or when it has told the sink what is wrong with it;
nothing is raised, so that one pass finds every problem.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias, TypeVar

from uniapi.codec import Json
from uniapi.config import yaml
from uniapi.config.bounds import ByModel
from uniapi.config.keys import closest
from uniapi.config.problems import Sink, shown, spoken
from uniapi.config.types import Secret

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_HIDDEN_ADDRESS: Final = "email protected"
"""What a web page's e-mail protection leaves of an address: `[email protected]`."""


@dataclass(frozen=True, slots=True)
class At:
    """Where a reader is: a dotted path for people, and the sink to tell.

    Attributes:
        path: such as `providers[0].preferences.proxy`.
        sink: collects problems.
    """

    path: str
    sink: Sink

    def key(self, name: str) -> At:
        """The place of a key below; a name from the file is masked when it looks like a secret."""
        return At(f"{self.path}.{spoken(name)}" if self.path else name, self.sink)

    def item(self, which: int | str) -> At:
        """The place of an item below, by number from 0 or by name."""
        label = which if isinstance(which, int) else spoken(which)
        return At(f"{self.path}[{label}]", self.sink)

    def error(self, node: yaml.Node, what: str, fix: str) -> None:
        """Note an error at this path and the node's line."""
        self.sink.error(node.line, f"{self.path}: {what}", fix)

    def warning(self, node: yaml.Node, what: str, fix: str) -> None:
        """Note a warning at this path and the node's line."""
        self.sink.warning(node.line, f"{self.path}: {what}", fix)


Reader: TypeAlias = Callable[[yaml.Node, At], T | None]


def absent(node: yaml.Node | None) -> bool:
    """Whether nothing was written: no key, or a key with an empty value."""
    return node is None or (isinstance(node, yaml.Scalar) and node.null)


def kind(node: yaml.Node) -> str:
    """What a node is, for a sentence."""
    match node:
        case yaml.Scalar():
            return "a single value"
        case yaml.Sequence():
            return "a list"
        case yaml.Mapping():
            return "a map"


def text(node: yaml.Node, at: At) -> str | None:
    """A single value as text, without spaces around it; numbers are text too."""
    match node:
        case yaml.Scalar():
            return None if node.unset else node.text.strip()
        case yaml.Sequence((yaml.Scalar(text="email protected"),), flow=True):
            at.warning(
                node,
                "the address was hidden by the web page it was copied from",
                "write the real e-mail address",
            )
            return f"[{_HIDDEN_ADDRESS}]"
        case _:
            at.error(node, f"one value is expected, this is {kind(node)}", "write one value")
            return None


def secret(node: yaml.Node, at: At) -> Secret | None:
    """A single value that is never shown again."""
    if isinstance(node, yaml.Scalar):
        at.sink.hide(node.text)
    value = text(node, at)
    return Secret(value) if value else None


def token(node: yaml.Node, at: At) -> Secret | None:
    """A secret that goes into a header: one line of it."""
    found = secret(node, at)
    if found is not None and any(c < " " or c == "\x7f" for c in found.reveal()):
        at.error(node, "a key is one line of plain characters", "write several keys as a list")
        return None
    return found


def flag(node: yaml.Node, at: At) -> bool | None:
    """`true` or `false`; also yes/no, on/off and 1/0."""
    value = text(node, at)
    match value and value.lower():
        case "true" | "yes" | "on" | "1":
            return True
        case "false" | "no" | "off" | "0":
            return False
        case None:
            return None
        case _:
            at.error(node, "neither true nor false", "write true or false")
            return None


def number(node: yaml.Node, at: At) -> float | None:
    """A decimal number."""
    value = text(node, at)
    if value is None:
        return None
    if not re.fullmatch(r"[-+]?(\d{1,15}(\.\d*)?|\.\d+)", value, re.ASCII):
        at.error(node, "not a number", "write a number, such as 60 or 2.5")
        return None
    return float(value)


def items(node: yaml.Node, at: At) -> tuple[yaml.Node, ...]:
    """The items of a list; a single value is a list of one; empty items are skipped."""
    match node:
        case yaml.Sequence():
            return tuple(item for item in node.items if not absent(item))
        case yaml.Scalar():
            return (node,)
        case yaml.Mapping():
            at.error(node, "a list is expected, this is a map", "start every line with `- `")
            return ()


def many(reader: Reader[T]) -> Reader[tuple[T, ...]]:
    """A list of what `reader` reads; a single value is a list of one."""

    def read(node: yaml.Node, at: At) -> tuple[T, ...]:
        values = (reader(item, at) for item in items(node, at))
        return tuple(value for value in values if value is not None)

    return read


def choice(options: type[E]) -> Reader[E]:
    """One of the values of an enumeration, in any case."""
    names = [option.value for option in options]

    def read(node: yaml.Node, at: At) -> E | None:
        value = text(node, at)
        if value is None:
            return None
        try:
            return options(value.lower())
        except ValueError:
            near = closest(value.lower(), names)
            fix = f"write {near}" if near else f"write one of {', '.join(names)}"
            at.error(node, f"{shown(value)} is not known here", fix)
            return None

    return read


def entries(node: yaml.Node, at: At) -> tuple[yaml.Entry, ...]:
    """The entries of a map; empty values are skipped."""
    if isinstance(node, yaml.Mapping):
        return tuple(entry for entry in node.entries if not absent(entry.value))
    at.error(
        node, f"a map is expected, this is {kind(node)}", "write `key: value` lines, indented below"
    )
    return ()


def named(node: yaml.Node, at: At, known: Sequence[str]) -> Iterator[tuple[str, yaml.Node]]:
    """The entries of a map with a few known keys; a warning for each of the others."""
    for entry in entries(node, at):
        name = entry.key.text.strip()
        if name in known:
            yield name, entry.value
            continue
        near = closest(name.lower(), known)
        fix = f"did you mean `{near}`?" if near else f"known here: {', '.join(known)}"
        at.warning(entry.key, f"unknown key {shown(name)}: ignored", fix)


def by_model(reader: Reader[T]) -> Reader[ByModel[T]]:
    """One value for all models, or a map from model names (and `default`) to values."""

    def read(node: yaml.Node, at: At) -> ByModel[T] | None:
        if not isinstance(node, yaml.Mapping):
            value = reader(node, at)
            return None if value is None else ByModel((), value)
        found: list[tuple[str, T]] = []
        default: T | None = None
        for entry in entries(node, at):
            name = entry.key.text.strip()
            value = reader(entry.value, at.key(name))
            if value is None:
                continue
            if name == "default":
                default = value
            else:
                found.append((name, value))
        return ByModel(tuple(found), default)

    return read


def json(node: yaml.Node) -> Json:
    """A free-form value as JSON.

    Bare `true`/`false`, `null`/`~`/nothing and decimal numbers are what they look like; everything
    else is a string, and so is everything in quotes.
    """
    match node:
        case yaml.Sequence():
            return [json(item) for item in node.items]
        case yaml.Mapping():
            return {entry.key.text: json(entry.value) for entry in node.entries}
        case yaml.Scalar():
            return node.text if node.quoted else _inferred(node.text)


def _inferred(value: str) -> Json:
    if value in {"", "~", "null", "Null", "NULL"}:
        return None
    if value in {"true", "True", "TRUE", "false", "False", "FALSE"}:
        return value.lower() == "true"
    if re.fullmatch(r"[-+]?\d{1,300}", value, re.ASCII):
        return int(value)
    if re.fullmatch(r"[-+]?(\d{1,300}\.\d*|\.\d+|\d{1,300})([eE][-+]?\d{1,2})?", value, re.ASCII):
        number = float(value)
        return number if abs(number) != float("inf") else value
    return value


def json_map(node: yaml.Node, at: At) -> Mapping[str, Json] | None:
    """A free-form map as JSON."""
    if not isinstance(node, yaml.Mapping):
        entries(node, at)
        return None
    return {entry.key.text: json(entry.value) for entry in node.entries}
