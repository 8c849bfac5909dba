"""A map of the file whose keys we know; what it is asked for is what a file may have."""

from __future__ import annotations

from typing import TypeVar

from uniapi.config import yaml
from uniapi.config.fields import At, Reader, absent, entries, items
from uniapi.config.keys import Keys

T = TypeVar("T")


def _label(node: yaml.Node, number: int) -> int | str:
    """What to call an item of a list of maps: a provider by its name, others by number."""
    match node:
        case yaml.Mapping((yaml.Entry(yaml.Scalar("provider"), yaml.Scalar(name)), *_)) if name:
            return name.strip()
        case _:
            return number


class Section:
    """A map of the file whose keys we know: hands out values, remembers what was asked for.

    Attributes:
        at: the path of the map, and the sink.
        node: the map itself, for its line; an absent section has an empty one.
    """

    def __init__(self, node: yaml.Node | None, at: At, scope: str, keys: Keys) -> None:
        self.at = at
        self._scope = scope
        self._keys = keys
        self.node = yaml.Mapping((), 1 if node is None else node.line)
        if isinstance(node, yaml.Mapping):
            self.node = node
        elif node is not None and not absent(node):
            entries(node, at)
        self._entries = {entry.key.text.strip(): entry for entry in self.node.entries}
        for name, entry in self._entries.items():
            if not entry.key.lends:
                keys.met(scope, name, entry.key.line)

    def node_of(self, key: str, *also: str) -> yaml.Node | None:
        """The value of a key (or another spelling of it), None when absent or empty."""
        self._keys.know(self._scope, key, *also)
        for name in (key, *also):
            entry = self._entries.get(name)
            if entry is not None and not absent(entry.value):
                return entry.value
        return None

    def get(self, key: str, reader: Reader[T], *also: str) -> T | None:
        """The value of a key as `reader` reads it, None when absent or wrong."""
        node = self.node_of(key, *also)
        return None if node is None else reader(node, self.at.key(key))

    def read(self, key: str, reader: Reader[T], default: T, *also: str) -> T:
        """As `get`, with a default for None."""
        value = self.get(key, reader, *also)
        return default if value is None else value

    def section(self, key: str) -> Section:
        """The map under a key; empty when absent."""
        node = self.node_of(key)
        scope = f"{self._scope}.{key}" if self._scope else key
        return Section(node, self.at.key(key), scope, self._keys)

    def sections(self, key: str) -> tuple[Section, ...]:
        """The maps of the list under a key."""
        node = self.node_of(key)
        path = self.at.key(key)
        if node is None:
            return ()
        if isinstance(node, yaml.Scalar):
            path.error(node, "a list is expected", "start every entry with `- `, indented below")
            return ()
        found: list[Section] = []
        for i, item in enumerate(items(node, path)):
            at = path.item(_label(item, i))
            if isinstance(item, yaml.Mapping):
                found.append(Section(item, at, f"{key}[]", self._keys))
            else:
                entries(item, at)  # says that a map is expected
        return tuple(found)

    def require(self, key: str, reader: Reader[T], example: str) -> T | None:
        """As `get`; absence is an error that shows an example, and so is an empty text."""
        node = self.node_of(key)
        if node is None or (
            isinstance(node, yaml.Scalar) and not node.unset and not node.text.strip()
        ):
            self.at.error(self.node, f"`{key}` is missing", f"write {key}: {example}")
            return None
        return reader(node, self.at.key(key))

    def unsupported(self, key: str, why: str, fix: str) -> None:
        """A key that means something elsewhere and nothing here."""
        self._keys.tolerate(self._scope, key)
        entry = self._entries.get(key)
        if entry is not None and not absent(entry.value):
            self.at.key(key).warning(entry.key, why, fix)
