"""A key that nobody can sign with is told of while the file is read, with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniapi import codec
from uniapi.codec import JsonObject
from uniapi.config.pem import fault
from uniapi.config.read import Report
from uniapi.engines.google_rsa import private_key

Reads = Callable[..., Report]

KEYS = Path(__file__).parent.parent / "fixtures"
PEM = (KEYS / "keys" / "service_account.pem").read_text(encoding="utf-8")
ELLIPTIC = (KEYS / "tls" / "localhost.key").read_text(encoding="utf-8")
ONE_LINE = "".join(PEM.splitlines())
BODY = PEM.split("-----")[2]


@pytest.mark.parametrize(
    "pem",
    [
        PEM,
        ONE_LINE,
        f" {PEM} ",
        PEM.replace("\n", "\r\n"),
        PEM.replace("PRIVATE", "RSA PRIVATE"),
        f"{ELLIPTIC.replace('PRIVATE', 'EC PRIVATE')}\n{PEM}",
        "-----BEGIN PRIVATE KEY-----\nyour-key\n-----END PRIVATE KEY-----\n",
    ],
    ids=["whole", "one-line", "padded", "windows", "pkcs1", "second", "placeholder"],
)
def test_a_whole_key_and_a_placeholder_are_let_through(pem: str) -> None:
    assert fault(pem) is None


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        ("nonsense", "not a whole PEM key"),
        (PEM.rpartition("-----END")[0], "not a whole PEM key"),
        (PEM.replace("PRIVATE", "ENCRYPTED PRIVATE"), "no unencrypted private key"),
        (PEM.replace("PRIVATE KEY", "CERTIFICATE"), "no unencrypted private key"),
        (PEM.replace(BODY, BODY[:400]), "cut or damaged"),
        (PEM.replace(BODY, BODY[:401]), "cut or damaged"),
        (PEM.replace(BODY, BODY[40:]), "cut or damaged"),
        (PEM.replace(BODY, BODY.replace("\n", "n")), "cut or damaged"),
        (PEM.replace(BODY, f"MAAA{BODY}"), "cut or damaged"),
        (PEM.replace(BODY, "…" * 100), "cut or damaged"),
    ],
    ids=["nonsense", "no-end", "encrypted", "other", "cut", "odd", "headless", "n", "short", "…"],
)
def test_a_key_nobody_can_sign_with_is_told_of(pem: str, said: str) -> None:
    assert said in (fault(pem) or "")


@given(st.integers(min_value=0, max_value=len(BODY)), st.integers(min_value=1, max_value=300))
def test_a_fault_is_never_seen_in_a_key_that_signs(start: int, length: int) -> None:
    damaged = PEM.replace(BODY, BODY[:start] + BODY[start + length :])
    if fault(damaged) is not None:
        with pytest.raises(ValueError, match="the private key is"):
            private_key(damaged)


def test_the_check_names_the_line_and_does_not_show_the_key(reads: Reads) -> None:
    account: JsonObject = {
        "provider": "v",
        "project_id": "p",
        "client_email": "a@b.example",
        "model": ["m"],
        "private_key": PEM.replace(BODY, BODY[:400]),
    }
    line = codec.dumps(account).decode()
    report = reads(f"providers:\n  - {line}\napi_keys: [{{api: sk-own-key}}]\n")
    assert report.config is not None
    (warning,) = report.warnings
    assert (warning.line, warning.what) == (
        2,
        "providers[v].private_key: this key is cut or damaged",
    )
    assert BODY[10:20] not in str(report.problems)
