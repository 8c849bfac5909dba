"""Reading a provider's JSON, where a field may be missing or of any type."""

from __future__ import annotations

from math import isfinite

from uniapi.codec import JsonObject


def text(value: JsonObject, name: str) -> str:
    """The text of a field; empty when it is none."""
    found = value.get(name)
    return found if isinstance(found, str) else ""


def number(value: JsonObject, name: str) -> int:
    """The whole number of a field; 0 when it is none, or one that no integer is (1e999)."""
    found = value.get(name)
    return int(found) if isinstance(found, int | float) and isfinite(found) else 0
