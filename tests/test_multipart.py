"""A form is read beyond doubt or not at all, and changed in no more than was asked for."""

from __future__ import annotations

import httpx
import pytest

from uniapi.multipart import MAX_PARTS, MAX_TEXT, parse

TYPE = "multipart/form-data; boundary=B"
ONE = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--B--\r\n'


def test_what_httpx_sends_is_read() -> None:
    files: list[tuple[str, tuple[str, bytes, str]]] = [
        ("file", ("Grüße.mp3", b"\xff\xfb--\r\n", "audio/mpeg")),
        ("image[]", ("a.png", b"", "image/png")),
    ]
    sent = httpx.Request("POST", "http://x", data={"model": "m", "n": "2"}, files=files)
    form = parse(sent.headers["content-type"], sent.read())
    assert list(form.texts()) == [("model", "m"), ("n", "2")]
    sound, picture = form.named("file")[0], form.named("image[]")[0]
    assert (form.data(sound), sound.content_type) == (b"\xff\xfb--\r\n", "audio/mpeg")
    assert (form.data(picture), picture.filename) == (b"", "a.png")


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Disposition: form-data; name="model"',
        b"content-disposition: form-data; name=model",
        b'Content-Type: text/plain; charset=utf-8\r\nContent-Disposition:form-data;name="model"',
        b'Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: 8bit',
    ],
)
def test_the_ways_clients_name_a_field(head: bytes) -> None:
    form = parse(TYPE, b"--B\r\n" + head + b"\r\n\r\nm\r\n--B--\r\n")
    assert list(form.texts()) == [("model", "m")]


@pytest.mark.parametrize(
    ("told", "filename"),
    [
        (b'; filename="a.mp3"', "a.mp3"),
        (b'; filename=""', ""),
        (b'; filename="a \\"b\\".mp3"', 'a \\"b\\".mp3'),
        (b"; filename=a.mp3; filename*=utf-8''a.mp3", "a.mp3"),
        (b"; filename*=utf-8''a%20b.mp3", ""),
    ],
)
def test_what_has_a_file_name_is_a_file(told: bytes, filename: str) -> None:
    form = parse(TYPE, ONE.replace(b'"model"', b'"model"' + told))
    assert form.parts[0].filename == filename
    assert list(form.texts()) == []


@pytest.mark.parametrize(
    "kind",
    [
        TYPE,
        'multipart/form-data; boundary="B"',
        "Multipart/Form-Data;boundary=B",
        "multipart/form-data; boundary=B;",
    ],
)
def test_the_ways_clients_write_the_boundary(kind: str) -> None:
    assert parse(kind, ONE).boundary == "B"


@pytest.mark.parametrize(
    ("boundary", "shown"),
    [("abc-1", "abc-1"), ("a:b", '"a:b"'), ("a=b", '"a=b"'), ("(a)", '"(a)"')],
)
def test_a_boundary_is_quoted_where_it_must_be(boundary: str, shown: str) -> None:
    body = ONE.replace(b"--B", b"--" + boundary.encode())
    form = parse(f'multipart/form-data; boundary="{boundary}"', body)
    assert form.content_type == f"multipart/form-data; boundary={shown}"
    assert parse(form.content_type, body) == form


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/mixed; boundary=B",
        "multipart/form-data; boundary=B; boundary=C",
        "multipart/form-data; boundary=" + "B" * 71,
        "multipart/form-data; boundary=B\xff",
    ],
)
def test_a_type_without_one_boundary_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="boundary"):
        parse(kind, ONE)


HEAD = b'Content-Disposition: form-data; name="model"'
DOUBTFUL = {
    "nothing": b"",
    "no parts": b"--B--\r\n",
    "a preamble": b"hello\r\n" + ONE,
    "a blank line first": b"\r\n" + ONE,
    "an epilogue": ONE + b"hello",
    "no end": ONE.removesuffix(b"--\r\n"),
    "an end without its line": ONE.removesuffix(b"\r\n--B--\r\n"),
    "an end on the line of the data": ONE.replace(b"m\r\n--B--", b"mm--B--"),
    "blanks after a boundary": ONE.replace(b"--B\r\n", b"--B \r\n"),
    "a longer boundary": ONE.replace(b"--B\r\n", b"--BC\r\n"),
    "lines without CR": ONE.replace(b"\r\n", b"\n"),
    "a boundary in a part": ONE.replace(b"\r\nm\r\n", b"\r\nm--B\r\n\r\n"),
    "a boundary after a lone LF": ONE.replace(b"\r\nm\r\n", b"\r\nm\n--B\r\nx\r\n"),
    "no blank line": ONE.replace(b"\r\n\r\nm", b"\r\nm"),
    "no data line": b"--B\r\n" + HEAD + b"\r\n\r\n--B--\r\n",
    "no headers": ONE.replace(HEAD, b""),
    "no disposition": ONE.replace(HEAD, b"X-A: b"),
    "two dispositions": ONE.replace(HEAD, HEAD + b"\r\n" + HEAD),
    "two names": ONE.replace(HEAD, HEAD + b'; name="n"'),
    "no name": ONE.replace(b'; name="model"', b""),
    "another disposition": ONE.replace(b"form-data", b"attachment"),
    "an extended name": ONE.replace(b'name="model"', b"name*=utf-8''model"),
    "an escaped name": ONE.replace(b'"model"', b'"mo\\del"'),
    "a folded header": ONE.replace(b"; name", b";\r\n name"),
    "a header without colon": ONE.replace(HEAD, HEAD + b"\r\nhello"),
    "a header that is not UTF-8": ONE.replace(HEAD, HEAD + b"\r\nx: \xff"),
    "a coding": ONE.replace(HEAD, HEAD + b"\r\ncontent-transfer-encoding: base64"),
    "a huge head": ONE.replace(HEAD, HEAD + b"\r\nx: " + b"y" * 9000),
    "too many parts": ONE.removesuffix(b"--B--\r\n") * (MAX_PARTS + 1) + b"--B--\r\n",
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_refused_is_a_body_with(name: str) -> None:
    with pytest.raises(ValueError, match=r"^(it|a part)"):
        parse(TYPE, DOUBTFUL[name])


def test_the_line_after_the_end_may_be_missing() -> None:
    assert len(parse(TYPE, ONE.removesuffix(b"\r\n")).parts) == 1


def test_a_value_that_would_end_its_part_is_not_put_there() -> None:
    with pytest.raises(ValueError, match="boundary"):
        parse(TYPE, ONE).with_text("model", "x\r\n--B--")


def test_what_is_long_or_no_text_is_no_text_field() -> None:
    long = parse(TYPE, ONE.replace(b"\r\nm\r\n", b"\r\n" + b"m" * (MAX_TEXT + 1) + b"\r\n"))
    assert list(long.texts()) == []
    binary = parse(TYPE, ONE.replace(b"\r\nm\r\n", b"\r\n\xff\r\n"))
    assert list(binary.texts()) == []
