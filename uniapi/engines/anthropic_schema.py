"""JSON Schemas as Anthropic's structured outputs take them.

The grammar behind `output_config.format` and strict tools knows a part of JSON Schema and refuses
the rest. As in Anthropic's own SDKs, what it does not know moves into the description, where the
model still reads it, and every object is closed.
"""

from __future__ import annotations

from typing import Final

from uniapi import codec
from uniapi.codec import Json, JsonObject

_KEPT: Final = frozenset(
    {"$ref", "type", "enum", "const", "title", "description", "default", "required"}
)
_TYPING: Final = frozenset({"type", "$ref", "enum", "const", "anyOf", "allOf"})
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)


def closed(schema: JsonObject) -> JsonObject | None:
    """The schema in the part of the language that is enforced.

    None when it cannot be said there: an object that may hold anything, or a place without type.
    """
    try:
        return _closed({name: value for name, value in schema.items() if name != "$schema"})
    except _UnsayableError:
        return None


class _UnsayableError(ValueError):
    """The schema allows what the grammar cannot."""


def _closed(schema: Json) -> JsonObject:
    if not isinstance(schema, dict):
        raise _UnsayableError
    made: JsonObject = {}
    told: JsonObject = {}  # for the description
    for name, value in schema.items():
        if name in _KEPT:
            made[name] = value
        elif (inner := _nested(name, value)) is not None:
            made.update(inner)
        elif name != "additionalProperties":
            told[name] = value
        elif value is not False:
            raise _UnsayableError
    if made.get("type") == "object" or "properties" in made:
        if not made.get("properties") and schema.get("additionalProperties") is not False:
            raise _UnsayableError  # closed and without properties, it could only be empty
        made["additionalProperties"] = False
    elif not made.keys() & _TYPING:
        raise _UnsayableError
    return _with_words(made, told) if told else made


def _with_words(made: JsonObject, told: JsonObject) -> JsonObject:
    said, extra = made.get("description"), codec.dumps(told).decode()
    return {**made, "description": f"{said}\n\n{extra}" if isinstance(said, str) else extra}


def _nested(name: str, value: Json) -> JsonObject | None:
    """A keyword that holds schemas, or a value that only some are known of; None for others."""
    match name, value:
        case (("$defs" | "definitions" | "properties"), dict()):
            return {name: {each: _closed(inner) for each, inner in value.items()}}
        case "items", _:
            return {name: _closed(value)}
        case (("anyOf" | "allOf"), list()):
            return {name: [_closed(each) for each in value]}
        case "oneOf", list():
            return {"anyOf": [_closed(each) for each in value]}
        case "format", str() if value in _FORMATS:
            return {name: value}
        case "minItems", 0 | 1:
            return {name: value}
        case _:
            return None
