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


@pytest.mark.parametrize(
    "text", [b"[1e400]", b"-1e999", b"9" * 400 + b".5", b'"\\ud800"', b'{"\\uDFFFx":1}']
)
def test_what_could_not_be_written_is_refused_by_both(text: bytes) -> None:
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


PIECES = st.sampled_from(
    ["\\ud83d", "\\ude00", "\\uD83D", "\\\\", "\\n", "ude00", "a", "\\u00e9", "😀"]
)


@given(st.lists(PIECES))
def test_half_a_pair_is_mended_and_nothing_else_is_touched(pieces: list[str]) -> None:
    text = '"' + "".join(pieces) + '"'
    lenient = json.loads(text)
    mended = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in lenient)
    assert codec.loads_mended(text.encode()) == mended
    assert codec.loads(codec.dumps(mended)) == mended
    assert read(codec.loads, text.encode()) == (lenient if lenient == mended else ValueError)
    assert read(codec.pure_loads, text.encode()) == read(codec.loads, text.encode())


@pytest.mark.parametrize("text", [b'"\xff\\ud800"', b"{\\ud800", b'["\\ud800", 1e400]', b"1e400"])
def test_mending_makes_no_json_of_what_is_none(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - every kind of it
        codec.loads_mended(text)
