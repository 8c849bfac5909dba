"""Signatures: AWS's published vectors, and botocore on requests nobody thought of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from botocore import auth  # type: ignore[import-untyped] # ships no types
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped] # as above
from botocore.credentials import Credentials  # type: ignore[import-untyped] # as above
from hypothesis import example, given
from hypothesis import strategies as st

from uniapi.config.types import Secret
from uniapi.engines.sigv4 import Signer

ACCESS, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = 1440938160.0  # 2015-08-30T12:36:00Z, the suite's own time
HOST = "https://example.amazonaws.com"
FORM = "application/x-www-form-urlencoded"


def signer(service: str = "service", token: str | None = None) -> Signer:
    session = Secret(token) if token is not None else None
    return Signer(Secret(ACCESS), Secret(SECRET), "us-east-1", service, session)


# From the signature version 4 test suite, under the names it has there.
SUITE = {
    "get-vanilla": (
        ("GET", f"{HOST}/", [], b""),
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-vanilla-query-order-key-case": (
        ("GET", f"{HOST}/?Param2=value2&Param1=value1", [], b""),
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-utf8": (
        ("GET", f"{HOST}/\u1234", [], b""),
        "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
    ),
    "get-space": (
        ("GET", f"{HOST}/example space/", [], b""),
        "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
    ),
    "get-header-value-trim": (
        ("GET", f"{HOST}/", [("My-Header1", " value1"), ("My-Header2", ' "a   b   c"')], b""),
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    "post-vanilla": (
        ("POST", f"{HOST}/", [], b""),
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    "post-x-www-form-urlencoded": (
        ("POST", f"{HOST}/", [("Content-Type", FORM)], b"Param1=value1"),
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
}


@pytest.mark.parametrize("name", SUITE)
def test_the_published_vectors(name: str) -> None:
    asked, signature = SUITE[name]
    headers = dict(signer().sign(*asked, NOW))
    assert headers["x-amz-date"] == "20150830T123600Z"
    scope = f"Credential={ACCESS}/20150830/us-east-1/service/aws4_request"
    assert headers["authorization"].startswith(f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=")
    assert headers["authorization"].endswith(f", Signature={signature}")


def test_the_example_of_the_user_guide() -> None:
    url = "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08"
    headers = [("content-type", f"{FORM}; charset=utf-8")]
    signed = dict(signer("iam").sign("GET", url, headers, b"", NOW))
    assert signed["authorization"].endswith(
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


def by_botocore(
    url: str, headers: dict[str, str], body: bytes, now: float, token: str | None
) -> str:
    """The signature botocore's own signer computes for the same request."""
    theirs: Any = auth.SigV4Auth(Credentials(ACCESS, SECRET, token), "service", "us-east-1")
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    request: Any = AWSRequest("POST", url, headers=headers, data=body)
    request.context["timestamp"] = stamp
    request.headers["X-Amz-Date"] = stamp
    if token is not None:
        request.headers["X-Amz-Security-Token"] = token
    canonical = theirs.canonical_request(request)
    return str(theirs.signature(theirs.string_to_sign(request, canonical), request))


WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)


@given(
    path=st.lists(st.text(min_size=1, max_size=30), max_size=4),
    query=st.dictionaries(WORDS, WORDS, max_size=3),
    header=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
    body=st.binary(max_size=100),
    now=st.integers(0, 4_000_000_000),
    token=st.none() | WORDS,
    port=st.sampled_from(["", ":443", ":8443"]),
)
# A name that begins with another comes after it, though "=" comes after a digit.
@example(path=[], query={"0": "0", "00": "0"}, header="", body=b"", now=0, token=None, port="")
def test_any_request_is_signed_as_botocore_signs_it(
    path: list[str],
    query: dict[str, str],
    header: str,
    body: bytes,
    now: int,
    token: str | None,
    port: str,
) -> None:
    # Segments of dots alone are taken out by every client before they are asked for.
    segments = [quote(part, safe="") for part in path if part.strip(".")]
    pairs = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in query.items())
    url = f"{HOST}{port}/{'/'.join(segments)}" + (f"?{pairs}" if pairs else "")
    ours = dict(signer(token=token).sign("POST", url, [("x-amz-meta", header)], body, now))
    theirs = by_botocore(url, {"x-amz-meta": header}, body, now, token)
    assert ours["authorization"].endswith(f"Signature={theirs}")
    assert ours.get("x-amz-security-token") == token


def test_a_date_that_was_passed_on_does_not_stand_beside_ours() -> None:
    plain = signer().sign("GET", f"{HOST}/", [], b"", NOW)
    assert signer().sign("GET", f"{HOST}/", [("X-Amz-Date", "20000101T000000Z")], b"", NOW) == plain


def test_a_host_header_that_will_be_sent_is_the_one_signed() -> None:
    plain = dict(signer().sign("GET", f"{HOST}/", [], b"", NOW))
    named = dict(
        signer().sign("GET", "https://proxy:99/", [("host", "example.amazonaws.com")], b"", NOW)
    )
    assert named["authorization"] == plain["authorization"]


def test_an_ipv6_host_is_signed_in_brackets() -> None:
    bare = dict(signer().sign("GET", "http://[::1]:8080/", [], b"", NOW))
    told = dict(signer().sign("GET", "http://x/", [("host", "[::1]:8080")], b"", NOW))
    assert bare["authorization"] == told["authorization"]


def test_a_signer_does_not_show_its_secrets() -> None:
    shown = repr(signer(token="session-token-value"))
    assert SECRET not in shown
    assert "session-token-value" not in shown
