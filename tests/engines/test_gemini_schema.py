"""JSON Schema in OpenAPI's subset: what is said in other words, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniapi import codec
from uniapi.engines.gemini_schema import subset

ALLOWED = {
    *("type", "format", "title", "description", "nullable", "enum", "items", "properties"),
    *("required", "anyOf", "default", "example", "propertyOrdering", "pattern"),
    *("minItems", "maxItems", "minProperties", "maxProperties", "minLength", "maxLength"),
    *("minimum", "maximum"),
}


@pytest.mark.parametrize(
    ("given_schema", "made"),
    [
        ({"type": "string", "$schema": "x", "additionalProperties": False}, {"type": "string"}),
        ({"type": ["string", "null"]}, {"type": "string", "nullable": True}),
        ({"type": "STRING"}, {"type": "string"}),
        (
            {"type": ["string", "integer"]},
            {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        ),
        ({"const": "a"}, {"type": "string", "enum": ["a"]}),
        ({"enum": ["a", None]}, {"type": "string", "nullable": True, "enum": ["a"]}),
        ({"type": "integer", "enum": [1, 2]}, {"type": "integer"}),
        ({"type": "string", "format": "uri"}, {"type": "string"}),
        ({"type": "string", "format": "date-time"}, {"type": "string", "format": "date-time"}),
        ({"type": "integer", "format": "int64"}, {"type": "integer", "format": "int64"}),
        ({"type": "array"}, {"type": "array", "items": {"type": "string"}}),
        ({"items": {"type": "null"}}, {"type": "array", "items": {"nullable": True}}),
        (
            {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}], "description": "d"},
            {"type": "integer", "minimum": 1, "nullable": True, "description": "d"},
        ),
        (
            {"oneOf": [{"type": "integer"}, {"type": "string"}]},
            {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        ),
        (
            {"properties": {"a": True, "b": {"type": "string"}}, "required": ["b", "gone", {}]},
            {
                "type": "object",
                "properties": {"a": {}, "b": {"type": "string"}},
                "required": ["b"],
            },
        ),
        (
            {
                "allOf": [{"$ref": "#/$defs/a~1b"}, {"properties": {"y": {"type": "number"}}}],
                "required": ["y"],
                "$defs": {"a/b": {"properties": {"x": {"type": "string"}}, "required": ["x"]}},
            },
            {
                "type": "object",
                "properties": {"y": {"type": "number"}, "x": {"type": "string"}},
                "required": ["y", "x"],
            },
        ),
        ({"$ref": "#/nowhere"}, {}),
        ({"$ref": "https://elsewhere.example/s", "type": "string"}, {"type": "string"}),
    ],
)
def test_a_schema_is_said_in_the_words_there_are(
    given_schema: dict[str, Any], made: dict[str, Any]
) -> None:
    found = subset(given_schema)
    if "required" in made:
        assert sorted(found.pop("required")) == sorted(made.pop("required"))  # type: ignore[arg-type, type-var]  # names
    assert found == made


def test_a_schema_that_holds_itself_is_cut_off_where_it_recurs() -> None:
    tree: Any = {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"left": {"$ref": "#/$defs/node"}, "name": {"type": "string"}},
            }
        },
    }
    assert subset(tree) == {
        "type": "object",
        "properties": {"left": {"type": "object"}, "name": {"type": "string"}},
    }


def test_references_that_multiply_end_somewhere() -> None:
    defs: Any = {
        f"d{n}": {"properties": {k: {"$ref": f"#/$defs/d{n + 1}"} for k in "abcdefgh"}}
        for n in range(12)
    }
    assert len(codec.dumps(subset({"$ref": "#/$defs/d0", "$defs": defs}))) < 1_000_000


def names(schema: Any) -> set[str]:
    found = set(schema)
    for child in [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]:
        found |= names(child)
    return found | (names(schema["items"]) if "items" in schema else set())


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5))
WORDS = st.sampled_from(
    [
        *("type", "format", "enum", "const", "properties", "required", "items"),
        *("anyOf", "oneOf", "allOf", "$ref", "$defs", "x"),
    ]
)
SCHEMAS = st.recursive(
    LEAVES | st.sampled_from(["object", "array", "string", "null", "#", "#/properties/x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=25,
)


@given(st.dictionaries(WORDS, SCHEMAS, max_size=6))
def test_whatever_the_schema_only_known_words_come_out(schema: dict[str, Any]) -> None:
    before = codec.dumps(schema)
    assert names(subset(schema)) <= ALLOWED
    assert codec.dumps(schema) == before
