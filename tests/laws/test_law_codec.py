"""JSON is the same, whoever reads and writes it."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from uniapi import codec
from uniapi.codec import Json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def read(loads: object, data: bytes) -> object:
    """What it reads, or that it refuses."""
    assert callable(loads)
    try:
        return loads(data)
    except ValueError:
        return ValueError


def test_the_optional_package_is_the_one_in_use() -> None:
    assert orjson is codec._orjson


@given(VALUES)
def test_what_one_writes_the_other_reads(value: Json) -> None:
    assert codec.pure_loads(codec.dumps(value)) == value
    assert codec.loads(codec.pure_dumps(value)) == value
    assert json.loads(codec.pure_dumps(value)) == value


@given(VALUES, st.integers(0, 60), st.binary(max_size=3))
@example({"a": [1]}, 0, b"\xef\xbb\xbf")
@example([1.5], 60, b" \r\n")
@example([], 60, b"1")
def test_any_bytes_are_read_alike_or_refused_by_both(value: Json, at: int, noise: bytes) -> None:
    text = codec.pure_dumps(value)
    damaged = text[:at] + noise + text[at:]
    assert read(codec.loads, damaged) == read(codec.pure_loads, damaged)


@pytest.mark.parametrize(
    "text",
    [b"NaN", b"[Infinity]", b"-Infinity", b"", b" ", b"{", b'"\xff"', b"[1] 2", b"[" * 100_000],
)
def test_what_is_not_json_is_refused_by_both(text: bytes) -> None:
    assert read(codec.loads, text) is read(codec.pure_loads, text) is ValueError


@pytest.mark.parametrize("written", [codec.dumps, codec.pure_dumps])
def test_large_whole_numbers_and_depth_are_written(written: object) -> None:
    assert callable(written)
    assert written({"n": 2**70}) == b'{"n":1180591620717411303424}'
    deep: Json = []
    for _ in range(400):
        deep = [deep]
    assert written(deep) == b"[" * 401 + b"]" * 401
    with pytest.raises(ValueError, match="surrogates"):
        written("\ud800")


def test_what_is_too_large_for_a_float_never_becomes_null() -> None:
    for loads, written in ((codec.loads, codec.dumps), (codec.pure_loads, codec.pure_dumps)):
        with pytest.raises(ValueError, match="Out of range"):
            written(loads(b"[1e400]"))
