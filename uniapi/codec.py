"""JSON in and out, hardened: what a stranger sends may be any bytes at all.

With orjson (the extra `fast`) it does what it can, and the standard library what it
refuses: deep nesting, a byte order mark, numbers beyond 64 bits on their way out. What is read
and written is the same (a law holds them to it) but for whole numbers beyond 64 bits that come
in, which orjson makes floats. `UNIAPI_PURE=1` leaves it alone.
"""

from __future__ import annotations

import json
import math
import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NoReturn, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = "dict[str, Json]"

_BLANK: Final = " \t\n\r"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


class _Huge(float):
    """A number no float can hold. orjson would write a plain infinity as null; this it refuses."""


def _held(digits: str) -> float:
    number = float(digits)
    return _Huge(number) if math.isinf(number) else number


def _scanner(**options: Any) -> Any:  # noqa: ANN401 - untyped in the standard library
    decoder: Any = json.JSONDecoder(parse_constant=_refuse_constant, **options)
    return decoder.scan_once


_SCAN: Final = _scanner()
_SCAN_HELD: Final = _scanner(parse_float=_held)
_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
)


def pure_loads(data: bytes | bytearray | str, scan: Any = _SCAN) -> Json:  # noqa: ANN401 - untyped in the standard library
    """As `loads`, by the standard library's scanner without its two searches for blanks."""
    text = data if isinstance(data, str) else data.decode()
    if text[:1] not in {"{", "["}:
        text = text.removeprefix("\ufeff").lstrip(_BLANK)
    try:
        value, end = scan(text, 0)
    except StopIteration:
        raise ValueError("Expecting value") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if end != len(text) and text[end:].strip(_BLANK):
        raise ValueError("something follows the JSON")
    parsed: Json = value
    return parsed


def pure_dumps(value: Json) -> bytes:
    """As `dumps`, by the standard library."""
    try:
        return _ENCODER.encode(value).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None


_PURE: Final = bool(os.environ.get("UNIAPI_PURE"))
# An optional extra, whose types are not here when it is not.
_orjson: Final[Any] = None if _PURE or find_spec("orjson") is None else import_module("orjson")


def loads(data: bytes | bytearray | str) -> Json:
    """Parse one JSON text.

    Raises:
        ValueError: for everything that is not JSON in UTF-8: bad syntax, bad UTF-8, NaN and
            Infinity, nesting deeper than the interpreter's stack, integers of over 4,300 digits
            (CPython's own limit).
    """
    if _orjson is None:
        return pure_loads(data)
    try:
        value: Json = _orjson.loads(data)
    except ValueError:
        return pure_loads(data, _SCAN_HELD)
    return value


def dumps(value: Json) -> bytes:
    """Write compact UTF-8 JSON.

    Raises:
        ValueError: for NaN, Infinity, a lone surrogate or nesting beyond the stack.
    """
    if _orjson is None:
        return pure_dumps(value)
    try:
        written: bytes = _orjson.dumps(value)
    except TypeError:
        return pure_dumps(value)
    return written


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
