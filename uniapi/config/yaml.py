"""YAML to a tree of lines and texts; the only file that knows strictyaml.

strictyaml's own front door (`dirty_load`) forgets which scalars were quoted, and its messages quote
the file, keys included. The same loader asked one storey lower, for the composed nodes, keeps the
quotes and every line, and does half the work. Tags, anchors and flow style are judged by the
loader as in `dirty_load(..., allow_flow_style=True)`; duplicate keys, merge keys and all wording
are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from strictyaml import YAMLError
from strictyaml.parser import StrictYAMLLoader
from strictyaml.ruamel.nodes import MappingNode, ScalarNode, SequenceNode
from strictyaml.ruamel.reader import ReaderError

from uniapi.config.problems import Sink, shown
from uniapi.config.slips import Slip, explain

MAX_SIZE = 1_000_000  # bytes of a configuration; the parser takes 0.25 ms a line
_MAX_DEPTH = 40  # levels; the seeds use 5

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value, as text.

    Attributes:
        text: without its quotes.
        line: from 1.
        quoted: in quotes or a block scalar, hence a string whatever it looks like.
        unset: a variable in it has no value, which has been complained of already.
    """

    text: str
    line: int
    quoted: bool = False
    unset: bool = False

    @property
    def null(self) -> bool:
        """Nothing was written: empty, `~` or `null` without quotes."""
        return not self.quoted and not self.unset and self.text in _NULLS


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list; `flow` when written `[a, b]`."""

    items: tuple[Node, ...]
    line: int
    flow: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A key and its value."""

    key: Scalar
    value: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values in file order; keys are unique."""

    entries: tuple[Entry, ...]
    line: int


Node: TypeAlias = Scalar | Sequence | Mapping


class _Loader(StrictYAMLLoader):  # type: ignore[misc] # strictyaml ships no types
    """The strict loader with flow style allowed, as `dirty_load` builds it."""

    label = ""
    allow_flow_style = True


def parse(text: str, sink: Sink) -> Node | None:
    """The tree of one YAML document; None when the sink was told why there is none.

    A byte order mark is accepted. An empty document is a null scalar.
    """
    if len(text) > MAX_SIZE:
        sink.error(1, "the file is larger than 1 MB", "remove what is not configuration")
        return None
    try:
        root = _Loader(text.removeprefix("\ufeff")).get_single_node()
        tree = Scalar("", 1) if root is None else _Tree(sink).node(root, 0)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        sink.error(
            line,
            "a character that text may not hold (a control character, or half of a pair)",
            "delete it, and save the file as UTF-8",
        )
        return None
    except YAMLError as error:
        slip = _slip(error, text)
        sink.error(slip.line, slip.what, slip.fix)
        return None
    except RecursionError:
        sink.error(1, "the brackets are nested too deeply", "this is not a configuration")
        return None
    except Exception:  # noqa: BLE001 - any text is a report: the parser's own bugs are no exception
        sink.error(1, "the YAML parser gave up on this file", "simplify it until it reads")
        return None
    return None if sink.failed else tree


def _slip(error: Any, text: str) -> Slip:  # noqa: ANN401 - a ruamel MarkedYAMLError, untyped
    problem, context = error.problem_mark, error.context_mark
    return explain(
        problem=str(error.problem or ""),
        context=str(error.context or ""),
        at=(problem.line, problem.column) if problem else None,
        since=(context.line, context.column) if context else None,
        lines=text.removeprefix("\ufeff").splitlines(),
    )


class _Tree:
    """Turns composed nodes into ours, refusing what only looks like YAML we mean."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink

    def node(self, node: Any, depth: int) -> Node:  # noqa: ANN401 - ruamel nodes are untyped
        line = node.start_mark.line + 1
        if depth > _MAX_DEPTH:
            raise RecursionError
        match node:
            case ScalarNode():
                return Scalar(self._text(str(node.value), line), line, node.style is not None)
            case SequenceNode():
                items = tuple(self.node(item, depth + 1) for item in node.value)
                return Sequence(items, line, flow=bool(node.flow_style))
            case MappingNode():
                return Mapping(self._entries(node, depth), line)
            case _:
                raise TypeError(type(node).__name__)

    def _text(self, text: str, line: int) -> str:
        """The text; an escape can hold what the file itself may not."""
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            self.sink.error(
                line,
                'half of a character, such as "\\ud83d" without what follows it',
                "write the character itself, or both halves",
            )
        return text

    def _entries(self, node: Any, depth: int) -> tuple[Entry, ...]:  # noqa: ANN401 - as above
        entries: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            key = self.node(key_node, depth + 1)
            value = self.node(value_node, depth + 1)
            if not isinstance(key, Scalar):
                self.sink.error(
                    key.line,
                    "a key must be plain text, not a list or a map",
                    "write `key: value`; a value with brackets or braces goes in quotes",
                )
            elif key.text == "<<" and not key.quoted:
                self.sink.error(
                    key.line,
                    "merge keys (`<<`) are not supported",
                    "write the keys out where they are needed",
                )
            elif key.text in entries:
                first = entries[key.text].key.line
                self.sink.error(
                    key.line,
                    f"duplicate key {shown(key.text)}: it is already on line {first}",
                    "keep one of the two; several values of one key are a list",
                )
            else:
                entries[key.text] = Entry(key, value)
        return tuple(entries.values())
