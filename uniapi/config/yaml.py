"""YAML to a tree of lines and texts; the only file that knows strictyaml.

strictyaml's own front door (`dirty_load`) forgets which scalars were quoted, and its messages quote
the file, keys included. The same loader asked one storey lower, for the composed nodes, keeps the
quotes and every line, and does half the work. Tags and flow style are judged by the loader as in
`dirty_load(..., allow_flow_style=True)`; duplicate keys and all wording are ours.

strictyaml refuses anchors; the program these files were written for does not. Here an alias is
written out, with the lines of what it stands for, and a merge key (`<<`) adds the keys that a map
has not, after its own, as ruamel does. What that may add to a file is bounded, and so is depth.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from strictyaml import YAMLError
from strictyaml.exceptions import AnchorTokenDisallowed
from strictyaml.parser import StrictYAMLLoader
from strictyaml.ruamel.events import AliasEvent, NodeEvent, ScalarEvent
from strictyaml.ruamel.nodes import MappingNode, ScalarNode, SequenceNode
from strictyaml.ruamel.reader import ReaderError

from uniapi.config.problems import Sink, shown
from uniapi.config.slips import Slip, explain

MAX_SIZE = 1_000_000  # bytes of a configuration; the parser takes 0.25 ms a line
_MAX_DEPTH = 40  # levels; the seeds use 5
_ITEM = 16  # characters that a value counts for besides its own, about what its line has

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value, as text.

    Attributes:
        text: without its quotes.
        line: from 1.
        quoted: in quotes or a block scalar, hence a string whatever it looks like.
        unset: a variable in it has no value, which has been complained of already.
        lends: it is a key of the top level, and aliases elsewhere stand for what is under it.
    """

    text: str
    line: int
    quoted: bool = False
    unset: bool = False
    lends: bool = False

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


class _RefusedError(Exception):
    """The parser could go on, and we do not let it."""

    def __init__(self, line: int, what: str, fix: str) -> None:
        super().__init__(what)
        self.slip = Slip(line, what, fix)


def _too_deep(line: int) -> _RefusedError:
    return _RefusedError(line, "the brackets are nested too deeply", "this is not a configuration")


class _Loader(StrictYAMLLoader):  # type: ignore[misc] # strictyaml ships no types
    """The strict loader with flow style allowed, as `dirty_load` builds it, and with anchors.

    Attributes:
        written: what the file has, in the measure of `_weight`.
        unused: the lines of anchors that no alias has stood for, by name.
        used: the lines of the others.
    """

    label = ""
    allow_flow_style = True

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.written = 0
        self.unused: dict[str, int] = {}
        self.used: set[int] = set()
        self._depth = 0

    def check_token(self, *choices: type) -> bool:
        """Whether the next token is one of these; an anchor may be."""
        try:
            return bool(super().check_token(*choices))
        except AnchorTokenDisallowed:  # raised when it is one of them
            return True

    def fetch_flow_collection_start(self, TokenClass: type, to_push: str) -> None:  # noqa: N803 - its name there
        """Open a bracket, unless too many are: over thousands the scanner takes seconds."""
        if self.flow_level >= _MAX_DEPTH:
            raise _too_deep(self.get_mark().line + 1)
        super().fetch_flow_collection_start(TokenClass, to_push)

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 - untyped, as below
        """The next node: for an alias the very node it stands for."""
        match self.peek_event():
            case AliasEvent(anchor=name):
                if name in self.unused:
                    self.used.add(self.unused.pop(name))
            case NodeEvent(anchor=name, start_mark=mark) as event:
                if self._depth > _MAX_DEPTH:
                    raise _too_deep(mark.line + 1)
                self.written += _weight(event)
                if name is not None:
                    self.anchors.pop(name, None)  # given again: it warned, quoting the file
                    self.unused[name] = mark.line + 1
            case _:
                pass  # the parser's own complaint follows
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _weight(node: Any) -> int:  # noqa: ANN401 - a node or its event
    match node:
        case ScalarNode(value=text) | ScalarEvent(value=text):
            return _ITEM + len(text)
        case _:
            return _ITEM


def parse(text: str, sink: Sink) -> Node | None:
    """The tree of one YAML document; None when the sink was told why there is none.

    A byte order mark is accepted. An empty document is a null scalar.
    """
    if len(text) > MAX_SIZE:
        sink.error(1, "the file is larger than 1 MB", "remove what is not configuration")
        return None
    try:
        loader = _Loader(text.removeprefix("\ufeff"))
        root = loader.get_single_node()
        tree = Scalar("", 1) if root is None else _Tree(sink, loader.written).node(root, 0)
    except _RefusedError as error:
        sink.error(error.slip.line, error.slip.what, error.slip.fix)
        return None
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
    except Exception:  # noqa: BLE001 - any text is a report: the parser's own bugs are no exception
        sink.error(1, "the YAML parser gave up on this file", "simplify it until it reads")
        return None
    for line in loader.unused.values():
        sink.warning(
            line,
            "an anchor (&name) that no alias stands for",
            "remove it; a text that starts with & goes in quotes",
        )
    return None if sink.failed else _lending(tree, loader.used)


def _lending(root: Node, used: Iterable[int]) -> Node:
    """The tree, with a mark on the keys of its top under which one of these lines is."""
    if not isinstance(root, Mapping):
        return root
    starts = sorted(entry.key.line for entry in root.entries)
    lends = {starts[at - 1] for line in used if (at := bisect_right(starts, line))}
    entries = (
        replace(entry, key=replace(entry.key, lends=True)) if entry.key.line in lends else entry
        for entry in root.entries
    )
    return replace(root, entries=tuple(entries))


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
    """Turns composed nodes into ours, refusing what only looks like YAML we mean.

    `written` is what the file has without its aliases, in the measure of `_weight`.
    """

    def __init__(self, sink: Sink, written: int) -> None:
        self._sink = sink
        self._left = written + MAX_SIZE  # what aliases add is no more than a file may have
        self._open: set[int] = set()
        self._said: set[tuple[int, str]] = set()

    def node(self, node: Any, depth: int) -> Node:  # noqa: ANN401 - ruamel nodes are untyped
        """The tree of a node.

        Raises:
            _RefusedError: aliases make it too deep, too large, or endless.
        """
        line = node.start_mark.line + 1
        if depth > _MAX_DEPTH:
            raise _too_deep(line)
        self._left -= _weight(node)
        if self._left < 0:
            raise _RefusedError(
                line,
                "with every alias (*name) written out the file would be larger than 1 MB",
                "let fewer aliases stand for what holds aliases itself",
            )
        if id(node) in self._open:
            raise _RefusedError(
                line,
                "an alias (*name) inside what it stands for",
                "write out what is meant there",
            )
        match node:
            case ScalarNode():
                return Scalar(self._text(str(node.value), line), line, node.style is not None)
            case SequenceNode() | MappingNode():
                self._open.add(id(node))
                whole = self._collection(node, line, depth)
                self._open.discard(id(node))
                return whole
            case _:
                raise TypeError(type(node).__name__)

    def _collection(self, node: Any, line: int, depth: int) -> Node:  # noqa: ANN401 - as above
        if isinstance(node, MappingNode):
            return Mapping(self._entries(node, depth), line)
        items = tuple(self.node(item, depth + 1) for item in node.value)
        return Sequence(items, line, flow=bool(node.flow_style))

    def _text(self, text: str, line: int) -> str:
        """The text; an escape can hold what the file itself may not."""
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            self._error(
                line,
                'half of a character, such as "\\ud83d" without what follows it',
                "write the character itself, or both halves",
            )
        return text

    def _entries(self, node: Any, depth: int) -> tuple[Entry, ...]:  # noqa: ANN401 - as above
        """The keys a map has, in its order, then those it has by `<<`."""
        entries: dict[str, Entry] = {}
        merged: Entry | None = None
        for key_node, value_node in node.value:
            key = self.node(key_node, depth + 1)
            value = self.node(value_node, depth + 1)
            if not isinstance(key, Scalar):
                self._error(
                    key.line,
                    "a key must be plain text, not a list or a map",
                    "write `key: value`; a value with brackets or braces goes in quotes",
                )
                continue
            merging = key.text == "<<" and not key.quoted
            first = merged if merging else entries.get(key.text)
            if first is not None:
                self._error(
                    key.line,
                    f"duplicate key {shown(key.text)}: it is already on line {first.key.line}",
                    "keep one of the two; several values of one key are a list",
                )
            elif merging:
                merged = Entry(key, value)
            else:
                entries[key.text] = Entry(key, value)
        for entry in self._merged(merged):
            entries.setdefault(entry.key.text, entry)
        return tuple(entries.values())

    def _merged(self, merge: Entry | None) -> Iterator[Entry]:
        """What `<<` brings: the entries of one map, or of several of which the first counts."""
        if merge is None:
            return
        value = merge.value
        for one in value.items if isinstance(value, Sequence) else (value,):
            if not isinstance(one, Mapping):
                self._error(
                    merge.key.line,
                    "`<<` takes a map, or a list of maps",
                    "write <<: *name, where &name stands before a map",
                )
                return
            yield from one.entries

    def _error(self, line: int, what: str, fix: str) -> None:
        """Say it once, however many aliases stand for where it is."""
        if (line, what) not in self._said:
            self._said.add((line, what))
            self._sink.error(line, what, fix)
