"""Which of the two files of HTTPS is wrong, and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from uniapi.server.bind import Bind, TlsError

TLS = Path(__file__).parents[1] / "fixtures" / "tls"
CERT, KEY = TLS / "localhost.pem", TLS / "localhost.key"
ENCRYPTED = """\
-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF

AAAA
-----END EC PRIVATE KEY-----
"""
RSA = (TLS.parent / "keys" / "service_account.pem").read_text(encoding="utf-8")
WEAK = """\
-----BEGIN CERTIFICATE-----
MIIBbzCCARmgAwIBAgIUWyL3u/AN4YBHesU/kqNOTYAvoU4wDQYJKoZIhvcNAQEL
BQAwDDEKMAgGA1UEAwwBeDAeFw0yNjExMjIwMjA3NDVaFw0yNjEyMDIwMjA3NDVa
MAwxCjAIBgNVBAMMAXgwXDANBgkqhkiG9w0BAQEFAANLADBIAkEAq3V8Y3SlfH1V
oEj8ja2rQGUU3yq1zaWXsvhxLwyfFkTgHYepiyCI8iNtZBq8rlKKK350jy9E49HF
1xbfJmv2QwIDAQABo1MwUTAdBgNVHQ4EFgQUZxi7ajyfqNPVXunlHstpc1hpRoUw
HwYDVR0jBBgwFoAUZxi7ajyfqNPVXunlHstpc1hpRoUwDwYDVR0TAQH/BAUwAwEB
/zANBgkqhkiG9w0BAQsFAANBAI/YgDv4sM7VWsQJiF6oahcRiBD18iTbbTSCBgLE
OJf6DcsKF3ZECXK3eFoe7SXMoaoqRnXlvbANLUoRYVRpYkg=
-----END CERTIFICATE-----
"""  # of 512 bits
ELLIPTIC = """\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIMWxKMiwEFodxQVxgJqW2Jgp9HyfAG5KPXvyjeeefx+uoAoGCCqGSM49
AwEHoUQDQgAEbYQbPVY4tqDAJaX4WBcOBSGxDtwI4cMM9BsWcr5yjxaS75kQW7On
rpOe1sH4VelJ23t94BnyDiivi25z7aOHUg==
-----END EC PRIVATE KEY-----
"""
Spoil = Callable[[str], str]


def said(cert: Path, key: Path) -> str:
    with pytest.raises(TlsError) as raised:
        Bind("localhost", 0, str(cert), str(key)).ssl_context()
    return str(raised.value)


def test_a_pair_that_fits_is_used() -> None:
    assert Bind("localhost", 0, str(CERT), str(KEY)).ssl_context() is not None


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda _: "junk", "{} holds no certificate in PEM form"),
        (lambda _: "", "{} holds no certificate in PEM form"),
        (lambda _: KEY.read_text(), "{} holds no certificate in PEM form"),
        (lambda pem: pem[:300], "the certificate in {} is cut or damaged"),
        (lambda pem: pem.replace("M", "A"), "the certificate in {} is cut or damaged"),
        (lambda pem: pem + pem[:300], "the certificate in {} is cut or damaged"),
    ],
    ids=["junk", "empty", "the-key", "cut", "damaged", "half-a-chain"],
)
def test_a_certificate_that_is_none_is_named(tmp_path: Path, spoil: Spoil, what: str) -> None:
    cert = tmp_path / "fullchain.pem"
    cert.write_text(spoil(CERT.read_text()))
    assert said(cert, KEY) == what.format(cert)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda _: "junk", "{} holds no private key in PEM form"),
        (lambda _: CERT.read_text(), "{} holds no private key in PEM form"),
        (lambda pem: pem[:120], "the private key in {} is cut or damaged"),
        (lambda pem: pem.replace("M", "A"), "the private key in {} is cut or damaged"),
        (lambda _: RSA, "{} is not the private key of the first certificate in {cert}"),
        (lambda _: ELLIPTIC, "{} is not the private key of the first certificate in {cert}"),
        (lambda _: ENCRYPTED, "{} is encrypted, and nobody is here to type its password"),
    ],
    ids=["junk", "the-certificate", "cut", "damaged", "another-kind", "another", "encrypted"],
)
def test_a_key_that_is_none_is_named(tmp_path: Path, spoil: Spoil, what: str) -> None:
    key = tmp_path / "private.pem"
    key.write_text(spoil(KEY.read_text()))
    heard = said(CERT, key)
    assert heard == what.format(key, cert=CERT)
    assert "None" not in heard


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone.pem"
    assert said(gone, KEY) == f"{gone} cannot be read: No such file or directory"
    assert said(CERT, gone) == f"{gone} cannot be read: No such file or directory"
    assert said(CERT, tmp_path) == f"{tmp_path} cannot be read: Is a directory"


def test_a_certificate_openssl_does_not_like_is_named(tmp_path: Path) -> None:
    cert = tmp_path / "weak.pem"
    cert.write_text(WEAK)
    assert said(cert, KEY) == f"{cert} is refused by OpenSSL: ee key too small"


def test_a_pipe_is_not_read_twice() -> None:
    """As a shell's `<(…)` gives one: what was in it is gone."""
    ours, theirs = os.pipe()
    try:
        os.write(theirs, b"junk")
    finally:
        os.close(theirs)
    pipe = Path(f"/dev/fd/{ours}")
    try:
        assert said(pipe, KEY) == f"{pipe} and {KEY} are no matching pair of PEM files"
    finally:
        os.close(ours)
