"""AWS Signature Version 4: a request's proof that whoever sends it holds the secret key.

A request is put in canonical form, hashed, and signed with a key derived from the secret, the day,
the region and the service. Paths are encoded once more than on the wire, as every service but S3
does. Source: "Create a signed AWS API request" in the IAM user guide.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from uniapi.config.types import Secret

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs, and for which service where.

    Attributes:
        access_key: the key's id.
        secret_key: never leaves this machine.
        region: such as `us-east-1`.
        service: such as `bedrock`.
        session_token: comes with temporary credentials.
    """

    access_key: Secret
    secret_key: Secret
    region: str
    service: str
    session_token: Secret | None = None

    def sign(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        now: float,
    ) -> tuple[tuple[str, str], ...]:
        """The headers to add to the request: its date, the session token, the signature.

        Args:
            method: in capitals.
            url: exactly as it will be asked.
            headers: those to sign; none of them may change on the way. `host` is added as HTTP
                clients send it, unless it is there.
            body: exactly as it will be sent.
            now: unix seconds; AWS refuses what is more than some minutes off.
        """
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        own = [("x-amz-date", stamp)]
        if self.session_token is not None:
            own.append(("x-amz-security-token", self.session_token.reveal()))
        replaced = dict(own)
        given = [(name, value) for name, value in headers if name.lower() not in replaced]
        if not any(name.lower() == "host" for name, _ in given):
            given.append(("host", _host(url)))
        lines = _canonical_headers([*given, *own])
        signed = ";".join(name for name, _ in lines)
        parts = urlsplit(url)
        request = "\n".join(
            (
                method,
                quote(parts.path or "/", safe="/-_.~"),
                _canonical_query(parts.query),
                *(f"{name}:{value}" for name, value in lines),
                "",
                signed,
                hashlib.sha256(body).hexdigest(),
            )
        )
        scope = f"{stamp[:8]}/{self.region}/{self.service}/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        proof = _hmac(self._key(stamp[:8]), f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}").hex()
        credential = f"{self.access_key.reveal()}/{scope}"
        return (
            *own,
            (
                "authorization",
                f"{_ALGORITHM} Credential={credential}, SignedHeaders={signed}, Signature={proof}",
            ),
        )

    def _key(self, day: str) -> bytes:
        key = f"AWS4{self.secret_key.reveal()}".encode()
        for word in (day, self.region, self.service, "aws4_request"):
            key = _hmac(key, word)
        return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _host(url: str) -> str:
    """The `host` header: without a port that goes without saying."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    port = parts.port
    return host if port is None or port == _PORTS.get(parts.scheme) else f"{host}:{port}"


def _canonical_headers(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """By lower-case name, in order; the values of one name joined, runs of blanks made one."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.strip().lower(), []).append(" ".join(value.split()))
    return sorted((name, ",".join(values)) for name, values in found.items())


def _canonical_query(query: str) -> str:
    """The pairs in order of their encoded names, then values; each encoded the one right way."""
    pairs = sorted(
        (quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~"))
        for name, _, value in (pair.partition("=") for pair in query.split("&") if pair)
    )
    return "&".join(f"{name}={value}" for name, value in pairs)
