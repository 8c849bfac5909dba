"""The laws of forms: any parts survive, any bytes are a form or refused, a splice changes one."""

from __future__ import annotations

from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.kit.replies import form
from uniapi.multipart import parse

BOUNDARIES = st.text("abcXYZ0189-_:=", min_size=1, max_size=70)
NAMES = st.sampled_from(["model", "file", "image", "prompt", "x[]"])
DATA = st.binary(max_size=50) | st.sampled_from([b"", b"\r\n", b"--", b"\r\n--", b"\r\n\r\n"])
PARTS = st.lists(st.tuples(NAMES, DATA), min_size=1, max_size=6)


def header(boundary: str) -> str:
    return f'multipart/form-data; boundary="{boundary}"'


def clear(boundary: str, *values: bytes) -> bool:
    """Whether no value holds the boundary, as clients see to."""
    # A value that ends in a part of the delimiter can complete it with the line that follows.
    return all(f"--{boundary}".encode() not in value + b"\r\n" for value in values)


@given(BOUNDARIES, PARTS)
def test_any_parts_survive(boundary: str, parts: list[tuple[str, bytes]]) -> None:
    assume(clear(boundary, *(data for _, data in parts)))
    read = parse(header(boundary), form(boundary, *parts))
    assert [(part.name, read.data(part)) for part in read.parts] == parts
    assert parse(read.content_type, read.body) == read


@given(BOUNDARIES, PARTS, NAMES, st.text(max_size=20))
def test_a_new_value_changes_its_field_alone(
    boundary: str, parts: list[tuple[str, bytes]], name: str, value: str
) -> None:
    new = value.encode()
    assume(clear(boundary, new, *(data for _, data in parts)))
    read = parse(header(boundary), form(boundary, *parts))
    changed = [(field, new if field == name else data) for field, data in parts]
    assert read.with_text(name, value) == form(boundary, *changed)


@given(BOUNDARIES, PARTS, NAMES)
def test_a_field_taken_out_leaves_the_others(
    boundary: str, parts: list[tuple[str, bytes]], name: str
) -> None:
    kept = [(field, data) for field, data in parts if field != name]
    assume(clear(boundary, *(data for _, data in parts)) and kept)
    read = parse(header(boundary), form(boundary, *parts))
    assert read.without({name}).body == form(boundary, *kept)


PIECES = st.sampled_from(
    [
        b"--B",
        b"--B--",
        b"\r\n",
        b"\n",
        b"--",
        b'Content-Disposition: form-data; name="a"',
        b"; filename=x",
        b"x",
        b"\xff",
        b": ",
    ]
)


@given(st.lists(PIECES, max_size=14).map(b"".join) | st.binary(max_size=60))
@example(b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n--B--')
def test_any_bytes_are_a_form_or_refused(data: bytes) -> None:
    try:
        read = parse(header("B"), data)
    except ValueError:
        return
    assert data.count(b"--B") == len(read.parts) + 1
    assert read.with_text("no such name", "x") == data


@given(st.text(max_size=60))
def test_any_type_has_a_boundary_or_is_refused(kind: str) -> None:
    try:
        read = parse(f"multipart/form-data; boundary={kind}", b"")
    except ValueError:
        return
    raise AssertionError(read)
