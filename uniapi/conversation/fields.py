"""Values of a stranger's JSON in the type they must have; the error names their place."""

from __future__ import annotations

from typing import Final

from uniapi.codec import Json, JsonObject
from uniapi.errors import ApiError

# 1e999 and integers of a thousand digits are legal JSON that nobody can calculate with.
_LARGEST: Final = 2**63


def wrong(param: str, said: str) -> ApiError:
    """The 400 that says what a parameter must be."""
    return ApiError(400, f"{param}: {said}", code="invalid_request", param=param)


def text(value: Json, param: str) -> str:
    """A string."""
    if isinstance(value, str):
        return value
    raise wrong(param, "must be text")


def maybe_text(value: Json, param: str) -> str | None:
    """A string, or None for null and absent."""
    return None if value is None else text(value, param)


def number(value: Json, param: str) -> float | None:
    """A number; None for null and absent."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(param, "must be a number")
    if abs(value) > _LARGEST:
        raise wrong(param, "is too large a number")
    return value


def count(value: Json, param: str, *, least: int | None = None) -> int | None:
    """A whole number of at least `least`; None for null and absent."""
    found = number(value, param)
    if found is None:
        return None
    if found != int(found) or (least is not None and found < least):
        floor = "" if least is None else f" of at least {least}"
        raise wrong(param, f"must be a whole number{floor}")
    return int(found)


def flag(value: Json, param: str) -> bool | None:
    """True or false; None for null and absent."""
    if value is None or isinstance(value, bool):
        return value
    raise wrong(param, "must be true or false")


def entries(value: Json, param: str) -> list[Json]:
    """A list; empty for null and absent."""
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise wrong(param, "must be a list")


def an_object(value: Json, param: str) -> JsonObject:
    """An object."""
    if isinstance(value, dict):
        return value
    raise wrong(param, "must be an object")


def maybe_object(value: Json, param: str) -> JsonObject | None:
    """An object; None for null and absent."""
    return None if value is None else an_object(value, param)
