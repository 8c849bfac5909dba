"""`${NAME}` and `${NAME:-default}` in the values of a file; `$${` stands for a plain `${`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from uniapi.config import yaml
from uniapi.config.problems import Sink, shown, spoken

_REFERENCE: Final = re.compile(
    r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|\$\{", re.ASCII
)
_PRIVATE: Final = re.compile(r"(?i)key|secret|token|pass|auth|proxy")


def expand(node: yaml.Node, env: Mapping[str, str], sink: Sink) -> yaml.Node:
    """The tree with variables replaced, in values and in keys (a rule with a weight is a key).

    An unset variable without a default is an error. As in a shell, `:-` also replaces an empty
    value. What a variable holds is text: it can add no keys.
    """
    match node:
        case yaml.Scalar():
            return _scalar(node, env, sink)
        case yaml.Sequence():
            return replace(node, items=tuple(expand(item, env, sink) for item in node.items))
        case yaml.Mapping():
            entries = (
                yaml.Entry(_scalar(e.key, env, sink), expand(e.value, env, sink))
                for e in node.entries
            )
            return replace(node, entries=tuple(entries))


def _scalar(node: yaml.Scalar, env: Mapping[str, str], sink: Sink) -> yaml.Scalar:
    if "${" not in node.text:
        return node

    failed = False

    def value(match: re.Match[str]) -> str:
        nonlocal failed
        name, default = match["name"], match["default"]
        if name is None:
            if match[0] == "${":
                sink.error(
                    node.line,
                    "a `${` that begins no variable",
                    "write ${NAME} or ${NAME:-default}; a plain ${ is written $${",
                )
            return "${"
        found = env.get(name)
        if default is not None and not found:
            return default
        if found is None:
            failed = True
            sink.error(
                node.line,
                f"the environment variable {shown(name)} is not set",
                f"set it before the start, or write a default: ${{{spoken(name)}:-…}}",
            )
            return ""
        if _PRIVATE.search(name):
            sink.hide(found)
        return found

    text = _REFERENCE.sub(value, node.text)
    return replace(node, text=text, unset=failed)
