"""Service accounts: the signature, the assertion, the token, and where Vertex lives."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniapi import codec
from uniapi.config.types import Provider, Secret
from uniapi.engines import google_auth
from uniapi.engines.google_rsa import private_key
from uniapi.errors import ApiError, Kind

# Made for this test by `openssl genrsa 2048`; it opens nothing.
PKCS8 = """\
-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQCXXSh/Y9P5NMN1
Xk7jy5AbwWEPDXL0+vg+2m+lBmPRIIcKcvaXWb/26w5byYR77IXxg47XDEyk5BM+
0qN38h+hC1lzPyP2+jR1xfyFL74VnPurFVAsHudoPnlBfuqoP29Bc4farFfFI2dx
YF/JVuYc65RSai+/Rj3kj7KKRx+7lw+MS11EE6uuxvuSfAUhr5QII3Ku9gfLsTfR
C1l4Y469+5eCwhFOOhz1CZs2v+vSH6DZWSDfn4hBO2GpgvOiuNvhwpP6Kdh6qjE4
YFgW47YhdIeovcQnA4uXrUoXpXwkvsmOlABzuvHaGhXRAnE1ORAh02sQUxDjUp/K
7nQnVP4/AgMBAAECggEAGXUfHxHcsIDJ0P8sGI7/rVNgbiYua/qb7wJRHbnN5vno
DH9abwk2yqItF430nN0iiAS+7PdSGreLbxkBSmasICtm/4WimGLrmNVUS9hESaFO
CK+8fLcz52n+feAJOoP0w9bZBhPPbUYvmzeA1L2rVTjgCN54Klz3gu4SMsSUlzmm
FxsYftBzFBrlmwatJ85mbI58GkKlmjb2RCkckEWRdI0LzU+urgk6Rnj/NL7YbExu
4h9dCs06dQJ637NMDZ1azUc515TtZoaDsezaIepR31aomTcxW0deQsr6YIsA1W4F
J3cAh8A7pfoA4O+IqSioZCrdcOYgFZWOs3UXuu84pQKBgQDR5xyZqseR0YOFe/j8
XNQL9Buifh+mIuIdAxJw+d+ly8Kwxl1eq2HU07cZpzo3B9l8VEowGMhZYmPR+Yvp
P43O4dlhfgwVcAGKD9arxLV/oi/Rpvzb9kKdk1boeHYv4j19uIBkhcZZSW5D5Tgu
WNuJta6R/ytaIhJ7782R1Tk4owKBgQC4mvKYxgq8c4IPWluX9ugXTycGNPoyrZGU
351cWx3yKfCF+KnFEmXSFVTt0cJpvAdWYg1edzHrAzDjYBD3NJScgVU0C55fOIHi
i/DNqo24TJoTpGqNz2ZfqnNFAgLHK1FtVsaJTAjisfYELo2SSV2SBBDWPTBIzUQs
tFXkKqBxtQKBgD0BBT/n8X6AvM/DuxZlSD99H7b3Hu2i/8JczTRGeuhtstS7ohFM
j+9R5Mow3ut1fZDz0mfuG/RWcxpog3Azx1wUKaB7CLoGRnxApCxhzDofAfTVqnGn
Pa8cTkrcD8VU5HgwcihE9OOoQsK60LwvmQaJ5gWKeqgEdQjOJhm3NZ0vAoGAIAkb
onFzuYJeBqYKkROS8UCWKBiXdqXyRqCLoVRanQS0LbuaUo2/x7ZV97NYBptPtqjr
YwJSUlNKb5rjNtMUGxjCnXaKtEGNILBiSH6Ze2snrdLxfsyIGn/s4wPXUZLt3Yia
iYb9X8G8TLt7a/B5YXZ9KYCS2X9tnkhpQ2A2WaUCgYEAk4k0OpXG9M2jvBg++028
xVDzbeoYhtXNpXTQBSEUFXjmGgHYsjEOoKKdtjRiH4oPySe7UnJE0u+FIQmHSFKE
MLWOzCZ7qF/nYwRY4UMil9KyCbSIILpdN9/IVvV8nZqTCxgTZO9s9bUIIzfouD2r
jP2PxAro44BK0axSv9vhOqk=
-----END PRIVATE KEY-----
"""
# The same by `openssl rsa -traditional`.
PKCS1 = """\
-----BEGIN RSA PRIVATE KEY-----
MIIEowIBAAKCAQEAl10of2PT+TTDdV5O48uQG8FhDw1y9Pr4PtpvpQZj0SCHCnL2
l1m/9usOW8mEe+yF8YOO1wxMpOQTPtKjd/IfoQtZcz8j9vo0dcX8hS++FZz7qxVQ
LB7naD55QX7qqD9vQXOH2qxXxSNncWBfyVbmHOuUUmovv0Y95I+yikcfu5cPjEtd
RBOrrsb7knwFIa+UCCNyrvYHy7E30QtZeGOOvfuXgsIRTjoc9QmbNr/r0h+g2Vkg
35+IQTthqYLzorjb4cKT+inYeqoxOGBYFuO2IXSHqL3EJwOLl61KF6V8JL7JjpQA
c7rx2hoV0QJxNTkQIdNrEFMQ41Kfyu50J1T+PwIDAQABAoIBABl1Hx8R3LCAydD/
LBiO/61TYG4mLmv6m+8CUR25zeb56Ax/Wm8JNsqiLReN9JzdIogEvuz3Uhq3i28Z
AUpmrCArZv+Fophi65jVVEvYREmhTgivvHy3M+dp/n3gCTqD9MPW2QYTz21GL5s3
gNS9q1U44AjeeCpc94LuEjLElJc5phcbGH7QcxQa5ZsGrSfOZmyOfBpCpZo29kQp
HJBFkXSNC81Prq4JOkZ4/zS+2GxMbuIfXQrNOnUCet+zTA2dWs1HOdeU7WaGg7Hs
2iHqUd9WqJk3MVtHXkLK+mCLANVuBSd3AIfAO6X6AODviKkoqGQq3XDmIBWVjrN1
F7rvOKUCgYEA0eccmarHkdGDhXv4/FzUC/Qbon4fpiLiHQMScPnfpcvCsMZdXqth
1NO3Gac6NwfZfFRKMBjIWWJj0fmL6T+NzuHZYX4MFXABig/Wq8S1f6Iv0ab82/ZC
nZNW6Hh2L+I9fbiAZIXGWUluQ+U4LljbibWukf8rWiISe+/NkdU5OKMCgYEAuJry
mMYKvHOCD1pbl/boF08nBjT6Mq2RlN+dXFsd8inwhfipxRJl0hVU7dHCabwHVmIN
Xncx6wMw42AQ9zSUnIFVNAueXziB4ovwzaqNuEyaE6Rqjc9mX6pzRQICxytRbVbG
iUwI4rH2BC6NkkldkgQQ1j0wSM1ELLRV5CqgcbUCgYA9AQU/5/F+gLzPw7sWZUg/
fR+29x7tov/CXM00RnrobbLUu6IRTI/vUeTKMN7rdX2Q89Jn7hv0VnMaaINwM8dc
FCmgewi6BkZ8QKQsYcw6HwH01apxpz2vHE5K3A/FVOR4MHIoRPTjqELCutC8L5kG
ieYFinqoBHUIziYZtzWdLwKBgCAJG6Jxc7mCXgamCpETkvFAligYl3al8kagi6FU
Wp0EtC27mlKNv8e2VfezWAabT7ao62MCUlJTSm+a4zbTFBsYwp12irRBjSCwYkh+
mXtrJ63S8X7MiBp/7OMD11GS7d2ImomG/V/BvEy7e2vweWF2fSmAktl/bZ5IaUNg
NlmlAoGBAJOJNDqVxvTNo7wYPvtNvMVQ823qGIbVzaV00AUhFBV45hoB2LIxDqCi
nbY0Yh+KD8knu1JyRNLvhSEJh0hShDC1jswme6hf52MEWOFDIpfSsgm0iCC6XTff
yFb1fJ2akwsYE2TvbPW1CCM36Lg9q4z9j8QK6OOAStGsUr/b4Tqp
-----END RSA PRIVATE KEY-----
"""
# `openssl genpkey -algorithm EC`: a key, but not RSA.
ELLIPTIC = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgC8lifNBnhXU+Csli
h/q66bMhS515WyHY4FSyTvorCQOhRANCAARG4pUxPifbu2ayzSCogelseydqBFNc
jlAquxMeUENQWnIJ6MpOUTrOJyg8rtNheQJ23w/GOFlsBGYwJKYXeBuN
-----END PRIVATE KEY-----
"""
# `printf hello | openssl dgst -sha256 -sign`.
HELLO = bytes.fromhex(
    "081a3cf159c536aa487776173fd0978825fede104f33742298d5ad23a59ef160676d9625162a715f57aba4376e70"
    "8baa1c256ef120fbd30381c8fd2ea819b3b46f2c59ee4b2a7c5ff00b49189b2ccdb1fe79fb03339a43af6fe6b47e"
    "5216c59d14ab739b437549ea73974314e58477275200c11fafb9b879ee69f58205a25fa145cc90c3a2739e202cd6"
    "c08ee2cdff6d8e895a721883cef73259807f20d1fd737ae41af7c1435d590489d08670b95e37ffbf83dfd7dfa1f7"
    "7a793b068b95a5942bc1172de2301d95f2db1b0502918a0030f9ae52787b6a0aca0c478542ebf2e128e18f09e984"
    "34e1ea566e318c2615d2760a2545bcd8551bb481b50a334c895e"
)
N = private_key(PKCS8).n


def opened(signature: bytes) -> bytes:
    """The padded digest inside a signature, by the public key."""
    return pow(int.from_bytes(signature, "big"), 65537, N).to_bytes(256, "big")


@pytest.mark.parametrize(
    "pem",
    [PKCS8, PKCS1, PKCS8.replace("\n", "\\n"), "\n\n" + PKCS8.replace("\n", "\r\n"), f" {PKCS8} "],
    ids=["pkcs8", "pkcs1", "escaped", "windows", "padded"],
)
def test_a_signature_is_the_one_openssl_makes(pem: str) -> None:
    assert private_key(pem).sign(b"hello") == HELLO


@given(st.binary(max_size=300))
def test_every_signature_holds_the_digest_of_its_message(message: bytes) -> None:
    digest = opened(private_key(PKCS8).sign(message))
    assert digest.startswith(b"\x00\x01\xff")
    assert digest.endswith(hashlib.sha256(message).digest())
    assert len(digest) == 256


@pytest.mark.parametrize(
    "pem",
    [
        "",
        "sk-123",
        ELLIPTIC,
        PKCS8.replace("PRIVATE", "ENCRYPTED PRIVATE"),
        PKCS8.replace("PRIVATE", "PUBLIC"),
        "-----BEGIN PRIVATE KEY-----\nyour-key\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nZmFrZQ==\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----",
    ],
)
def test_what_is_no_rsa_key_is_refused_in_words_without_it(pem: str) -> None:
    with pytest.raises(ValueError, match="the private key is") as raised:
        private_key(pem)
    assert "MIIE" not in str(raised.value)


@given(st.integers(0, 1200), st.integers(0, 255))
def test_a_damaged_key_never_signs_wrongly(place: int, value: int) -> None:
    lines = PKCS8.strip().split("\n")
    der = bytearray(base64.b64decode("".join(lines[1:-1])))
    der[place % len(der)] = value
    pem = "\n".join([lines[0], base64.b64encode(der).decode(), lines[-1]])
    try:
        signature = private_key(pem).sign(b"hello")
    except ValueError:
        return
    assert signature == HELLO


def account(**more: str | None) -> Provider:
    return Provider(
        "v",
        project_id="proj",
        client_email="bot@proj.iam.gserviceaccount.com",
        private_key=Secret(PKCS8),
        **more,  # type: ignore[arg-type]  # text fields of a provider
    )


def unpadded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_grant_is_a_signed_assertion_for_an_hour() -> None:
    call = google_auth.grant(account(), 1_700_000_000.9)
    assert call is not None
    assert (call.method, call.url) == ("POST", "https://oauth2.googleapis.com/token")
    assert dict(call.headers)["content-type"] == "application/x-www-form-urlencoded"
    form = parse_qs(call.body.decode(), strict_parsing=True)
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    signing, _, signature = form["assertion"][0].rpartition(".")
    head, claims = (codec.loads(unpadded(part)) for part in signing.split("."))
    assert head == {"alg": "RS256", "typ": "JWT"}
    assert claims == {
        "iss": "bot@proj.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": 1_700_000_000,
        "exp": 1_700_003_600,
    }
    assert opened(unpadded(signature)).endswith(hashlib.sha256(signing.encode()).digest())


def test_another_token_uri_is_asked_and_named_as_the_audience() -> None:
    call = google_auth.grant(account(token_uri="https://tokens.example/t"), 0)
    assert call is not None
    assert call.url == "https://tokens.example/t"
    claims = parse_qs(call.body.decode())["assertion"][0].split(".")[1]
    assert b'"aud":"https://tokens.example/t"' in unpadded(claims)


def test_without_an_account_there_is_no_grant() -> None:
    assert google_auth.grant(Provider("v", project_id="p"), 0) is None
    assert google_auth.grant(Provider("v", private_key=Secret(PKCS8)), 0) is None
    assert google_auth.grant(Provider("v", client_email="a@b"), 0) is None


def test_a_key_that_cannot_sign_is_the_configurations_fault() -> None:
    provider = Provider("v", client_email="a@b", private_key=Secret("secret stuff"))
    with pytest.raises(ApiError) as raised:
        google_auth.grant(provider, 0)
    assert (raised.value.status, raised.value.code) == (500, "bad_private_key")
    assert "secret stuff" not in str(raised.value)


def test_a_token_comes_with_its_seconds() -> None:
    body = b'{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}'
    assert google_auth.granted(body) == (Secret("ya29.x"), 3599.0)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"access_token":"","expires_in":1}', b'{"access_token":"x"}', b"<html>"],
)
def test_what_is_no_token_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(ValueError, match="no access token"):
        google_auth.granted(body)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"error":"invalid_grant","error_description":"Invalid JWT Signature."}', Kind.KEY),
        (503, b'{"error":"internal","error_description":"Later."}', Kind.SERVER),
        (400, b'{"error":{"code":400,"message":"m"}}', None),
        (400, b"<html>", None),
    ],
)
def test_a_refused_assertion_is_trouble_with_the_account(
    status: int, body: bytes, kind: Kind | None
) -> None:
    failure = google_auth.refused(status, {}, body)
    assert (failure.kind if failure else None) is kind


@pytest.mark.parametrize(
    ("provider", "key", "shown"),
    [
        (account(), "anything", [("authorization", "Bearer anything")]),
        (Provider("v", project_id="p"), "ya29.t", [("authorization", "Bearer ya29.t")]),
        (Provider("v"), "AQ.key", [("x-goog-api-key", "AQ.key")]),
        (Provider("v"), None, []),
    ],
)
def test_tokens_are_borne_and_keys_are_shown(
    provider: Provider, key: str | None, shown: list[tuple[str, str]]
) -> None:
    found = google_auth.authorization(provider, None if key is None else Secret(key))
    assert list(found) == shown


WHERE = "projects/proj/locations"


@pytest.mark.parametrize(
    ("region", "base_url", "start"),
    [
        (None, None, f"https://aiplatform.googleapis.com/v1/{WHERE}/global/"),
        ("global", None, f"https://aiplatform.googleapis.com/v1/{WHERE}/global/"),
        (" US-East5 ", None, f"https://us-east5-aiplatform.googleapis.com/v1/{WHERE}/us-east5/"),
        ("eu", None, f"https://aiplatform.eu.rep.googleapis.com/v1/{WHERE}/eu/"),
        (
            "us-east5",
            "https://aiplatform.googleapis.com/",
            f"https://us-east5-aiplatform.googleapis.com/v1/{WHERE}/us-east5/",
        ),
        (
            None,
            "https://us-east5-aiplatform.googleapis.com/v1beta1",
            f"https://us-east5-aiplatform.googleapis.com/v1beta1/{WHERE}/us-east5/",
        ),
        (
            None,
            "https://aiplatform.us.rep.googleapis.com",
            f"https://aiplatform.us.rep.googleapis.com/v1/{WHERE}/us/",
        ),
        (
            "us-east5",
            "http://127.0.0.1:9000",
            f"http://127.0.0.1:9000/v1/{WHERE}/us-east5/",
        ),
        (
            None,
            "https://p.example/x/v1/projects/old/locations/eu/",
            f"https://p.example/x/v1/{WHERE}/global/",
        ),
        (
            None,
            "https://gateway.ai.cloudflare.com/v1/acct/gw/",
            f"https://gateway.ai.cloudflare.com/v1/acct/gw/google-vertex-ai/v1/{WHERE}/global/",
        ),
        (
            None,
            "https://gateway.ai.cloudflare.com/v1/acct/gw/google-vertex-ai/v1beta1",
            f"https://gateway.ai.cloudflare.com/v1/acct/gw/google-vertex-ai/v1beta1/{WHERE}/global/",
        ),
    ],
)
def test_the_region_makes_the_host_unless_the_address_does(
    region: str | None, base_url: str | None, start: str
) -> None:
    provider = account(region=region, base_url=base_url)
    url = google_auth.model_url(provider, "anthropic", "claude-x@20250929", "rawPredict")
    assert url == f"{start}publishers/anthropic/models/claude-x@20250929:rawPredict"


def test_express_mode_has_no_project() -> None:
    url = google_auth.model_url(Provider("v"), "google", "gemini-x", "generateContent")
    assert url == (
        "https://aiplatform.googleapis.com/v1/publishers/google/models/gemini-x:generateContent"
    )


@pytest.mark.parametrize("region", ["evil.example/", "a b", "x" * 65, "us@host"])
def test_a_region_cannot_lead_to_another_host(region: str) -> None:
    with pytest.raises(ApiError) as raised:
        google_auth.model_url(account(region=region), "google", "m", "generateContent")
    assert raised.value.code == "bad_region"


@pytest.mark.parametrize(
    ("provider", "claim"),
    [
        (Provider("v", project_id="p"), 3),
        (Provider("v", project_id="p", base_url="https://proxy.example"), 3),
        (Provider("v", base_url="https://aiplatform.googleapis.com/"), 3),
        (Provider("v", base_url="https://us-east5-aiplatform.googleapis.com"), 3),
        (Provider("v", base_url="https://aiplatform.eu.rep.googleapis.com"), 3),
        (Provider("v", base_url="https://gateway.ai.cloudflare.com/v1/a/g/google-vertex-ai"), 2),
        (Provider("v", keys=(Secret("AQ.x"),)), 2),
        (Provider("v", base_url="https://api.openai.com/v1", keys=(Secret("AQ.x"),)), 0),
        (Provider("v", base_url="https://myaiplatform.googleapis.com.evil.example/"), 0),
        (Provider("v", project_id="p", base_url="https://x.example/v1/chat/completions"), 0),
        (Provider("v"), 0),
    ],
)
def test_a_project_or_googles_host_is_vertex(provider: Provider, claim: int) -> None:
    assert google_auth.speaks_vertex(provider) == claim
