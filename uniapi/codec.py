"""JSON in and out, hardened: what a stranger sends may be any bytes at all.

With orjson (the extra `fast`) it does what it can, and the standard library what it
refuses: deep nesting, a byte order mark, numbers beyond 64 bits on their way out. What is read
and written is the same (a law holds them to it) but for whole numbers beyond 64 bits that come
in, which orjson makes floats. `UNIAPI_PURE=1` leaves it alone.

What is read can be written again: a number no float can hold and half a surrogate pair are legal
JSON, and refused, since they would surface as an error where nobody thinks of one.
"""

from __future__ import annotations

import json
import math
import os
import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NoReturn, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = "dict[str, Json]"

_BLANK: Final = " \t\n\r"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


_DECODER: Final[Any] = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_SCAN: Final[Any] = _DECODER.scan_once
_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
)
# Half of a pair, or a pair: what can be lone begins like this.
_HALF: Final = re.compile(r"\\u[dD][89a-fA-F]")
# An escape that is whole, kept as it is, or (the group) half a pair alone.
_ESCAPE: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)


def pure_loads(data: bytes | bytearray | str) -> Json:
    """As `loads`, by the standard library's scanner without its two searches for blanks."""
    text = data if isinstance(data, str) else data.decode()
    if text[:1] not in {"{", "["}:
        text = text.removeprefix("\ufeff").lstrip(_BLANK)
    try:
        value, end = _SCAN(text, 0)
    except StopIteration:
        raise ValueError("Expecting value") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if end != len(text) and text[end:].strip(_BLANK):
        raise ValueError("something follows the JSON")
    parsed: Json = value
    if "\\u" in text and _HALF.search(text) is not None:
        pure_dumps(parsed)  # what has half a pair in it cannot be written
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
        ValueError: for everything that is not JSON in UTF-8, and for what could not be written
            again: bad syntax, bad UTF-8, half a surrogate pair (UnicodeError), NaN, Infinity and
            numbers no float can hold, nesting deeper than the interpreter's stack, integers of
            over 4,300 digits (CPython's own limit).
    """
    if _orjson is None:
        return pure_loads(data)
    try:
        value: Json = _orjson.loads(data)
    except ValueError:
        return pure_loads(data)
    return value


def loads_mended(data: bytes) -> Json:
    r"""As `loads`, with U+FFFD for half a surrogate pair.

    For what providers send: some cut a character in two, `"\ud83d"` in one chunk, the rest in
    the next, which is no reason to give up the answer.

    Raises:
        ValueError: as `loads`.
    """
    try:
        return loads(data)
    except ValueError:
        text = data.decode()
        if _HALF.search(text) is None:
            raise
        return loads(_ESCAPE.sub(lambda found: r"\ufffd" if found[1] else found[0], text))


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
