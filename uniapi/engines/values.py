"""Reading a provider's JSON, where a field may be missing or of any type."""

from __future__ import annotations

from typing import Final

from uniapi.codec import JsonObject

_MOST: Final = 2**53  # what every reader of JSON can count to


def text(value: JsonObject, name: str) -> str:
    """The text of a field; empty when it is none."""
    found = value.get(name)
    return found if isinstance(found, str) else ""


def number(value: JsonObject, name: str) -> int:
    """The whole number of a field that counts something; 0 when it is none, or cannot be right."""
    found = value.get(name)
    return int(found) if isinstance(found, int | float) and 0 <= found <= _MOST else 0
