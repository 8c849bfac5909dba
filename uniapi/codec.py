"""JSON in and out, hardened: what a stranger sends may be any bytes at all."""

from __future__ import annotations

import json
from typing import Final, NoReturn, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = "dict[str, Json]"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
)


def loads(data: bytes | bytearray | str) -> Json:
    """Parse one JSON text.

    Raises:
        ValueError: for everything that is not JSON in UTF-8: bad syntax, bad UTF-8, NaN and
            Infinity, nesting deeper than the interpreter's stack, integers of over 4,300 digits
            (CPython's own limit).
    """
    text = data if isinstance(data, str) else data.decode("utf-8-sig")
    try:
        value: Json = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def dumps(value: Json) -> bytes:
    """Write compact UTF-8 JSON.

    Raises:
        ValueError: for NaN, Infinity, a lone surrogate or nesting beyond the stack.
    """
    try:
        return _ENCODER.encode(value).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None


def deeper(value: Json, limit: int) -> bool:
    """Whether the value nests more than `limit` levels of lists and objects."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            child
            for parent in level
            if isinstance(parent, list | dict)
            for child in (parent if isinstance(parent, list) else parent.values())
            if isinstance(child, list | dict)
        ]
        if not level:
            return False
    return True
