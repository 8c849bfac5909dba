"""JSON Schema cut down to the OpenAPI subset that `parameters` and `responseSchema` take.

Only where plain JSON Schema is not taken (`/v1`, models before 2.5): there an unknown keyword is
a 400. What the subset has another word for is said in it; what it cannot say is left out, which
allows the model more than was asked, never less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from uniapi.codec import Json, JsonObject

Refs: TypeAlias = frozenset[str]

_KEPT: Final = frozenset(
    {
        *("title", "description", "default", "example", "nullable", "propertyOrdering"),
        *("minItems", "maxItems", "minProperties", "maxProperties"),
        *("minLength", "maxLength", "pattern", "minimum", "maximum"),
    }
)
_FORMATS: Final[Mapping[str, frozenset[str]]] = {
    "string": frozenset({"enum", "date-time"}),
    "number": frozenset({"float", "double"}),
    "integer": frozenset({"int32", "int64"}),
}
_MOST: Final = 5000  # nodes; references that are written out can multiply without end


def subset(schema: JsonObject) -> JsonObject:
    """The schema in the subset; references are written out, and cut off where they recur."""
    return _Writer(schema).node(schema, frozenset())


class _Writer:
    """Writes one schema; `refs` are the references being written out around a node."""

    def __init__(self, root: JsonObject) -> None:
        self._root = root
        self._left = _MOST

    def node(self, schema: JsonObject, refs: Refs) -> JsonObject:
        """One schema within the schema."""
        self._left -= 1
        if self._left < 0:
            return {}
        schema, refs = self._resolved(schema, refs)
        made: JsonObject = {name: value for name, value in schema.items() if name in _KEPT}
        kind = _type(schema, made)
        if kind:
            made["type"] = kind
        form = schema.get("format")
        if isinstance(form, str) and form in _FORMATS.get(kind, ()):
            made["format"] = form
        _enum(schema, made)
        self._children(schema, made, refs)
        if kind == "array":
            made.setdefault("items", {"type": "string"})  # an array must say what it holds
        return made

    def _resolved(self, schema: JsonObject, refs: Refs) -> tuple[JsonObject, Refs]:
        """The schema with its `$ref` and `allOf` written into it."""
        whole = dict(schema)
        while isinstance(ref := whole.pop("$ref", None), str):
            if ref in refs:
                return {"type": "object", **whole}, refs
            refs |= {ref}
            whole = {**self._target(ref), **whole}
        parts = whole.pop("allOf", None)
        for part in parts if isinstance(parts, list) else []:
            if isinstance(part, dict) and self._left > 0:
                self._left -= 1
                more, refs = self._resolved(part, refs)
                whole = _both(more, whole)
        return whole, refs

    def _target(self, ref: str) -> JsonObject:
        """What a local reference (`#/$defs/Name`) points to; nothing for any other."""
        found: Json = self._root
        for step in ref.removeprefix("#").strip("/").split("/"):
            if step:
                name = step.replace("~1", "/").replace("~0", "~")
                found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def _children(self, schema: JsonObject, made: JsonObject, refs: Refs) -> None:
        properties = schema.get("properties")
        if isinstance(properties, dict):
            shown: JsonObject = {
                name: self.node(child, refs) if isinstance(child, dict) else {}
                for name, child in properties.items()
            }
            made["properties"] = shown
            required = schema.get("required")
            named: list[Json] = [
                name
                for name in (required if isinstance(required, list) else [])
                if isinstance(name, str) and name in shown
            ]
            if named:
                made["required"] = named  # naming what is not a property is a 400
        items = schema.get("items")
        if isinstance(items, dict):
            made["items"] = self.node(items, refs)
        choices = schema.get("anyOf") or schema.get("oneOf")
        if isinstance(choices, list):
            _choice([self.node(each, refs) for each in choices if isinstance(each, dict)], made)


def _both(one: JsonObject, other: JsonObject) -> JsonObject:
    made = {**one, **other}
    for name in ("properties", "required"):
        match one.get(name), other.get(name):
            case dict(mine), dict(theirs):
                made[name] = {**mine, **theirs}
            case list(mine), list(theirs):
                made[name] = [*mine, *(each for each in theirs if each not in mine)]
            case _:
                pass
    return made


def _type(schema: JsonObject, made: JsonObject) -> str:
    """The one type; `null` among several becomes `nullable`, other mixtures `anyOf`."""
    given = schema.get("type")
    kinds = given if isinstance(given, list) else [given]
    words = [kind.lower() for kind in kinds if isinstance(kind, str)]
    named = [word for word in words if word != "null"]
    if len(named) < len(words):
        made["nullable"] = True
    if len(named) > 1:
        made["anyOf"] = [{"type": word} for word in named]
        return ""
    if named:
        return named[0]
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else ""


def _enum(schema: JsonObject, made: JsonObject) -> None:
    """`enum` and `const`, which the subset has for strings only."""
    values = schema.get("enum")
    if "const" in schema:
        values = [schema["const"]]
    if not isinstance(values, list):
        return
    if None in values:
        made["nullable"] = True
    said = [value for value in values if value is not None]
    if said and all(isinstance(value, str) for value in said):
        made.setdefault("type", "string")
        if made["type"] == "string":
            made["enum"] = list(said)


def _choice(choices: list[JsonObject], made: JsonObject) -> None:
    """`anyOf` without its null: that is `nullable`."""
    real: list[Json] = [choice for choice in choices if choice.keys() - {"nullable"}]
    if len(real) < len(choices):
        made["nullable"] = True
    match real:
        case [dict(only)]:
            made.update({**only, **made})
        case [_, *_]:
            made["anyOf"] = real
        case _:
            pass
