"""Providers that speak their own wire, on a socket: every golden case, answered as it is recorded.

The gateway is configured with the cases' own provider entries, their host replaced by this
server's. A header of the entry's own says which case is asked. The request has to be the case's
call, to the letter; else the answer is 422 and says what differs. A case that has no answer in
the form that is asked for gets that of the engine's `text`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit, urlunsplit

from botocore.auth import SigV4Auth  # type: ignore[import-untyped] # it has no types
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped] # it has no types
from botocore.credentials import Credentials  # type: ignore[import-untyped] # it has no types

from tests.kit.golden import WIRE, Case
from tests.kit.serving import serving
from tests.kit.variants import COUSINS
from uniapi import codec
from uniapi.codec import JsonObject
from uniapi.engines.base import Call
from uniapi.engines.google_rsa import private_key
from uniapi.errors import ApiError

KEYS: Final = Path(__file__).resolve().parent.parent / "fixtures" / "keys"
SERVICE_ACCOUNT: Final = (KEYS / "service_account.pem").read_text()
CASE: Final = "x-golden-case"
KINDS: Final = {
    "json": "application/json",
    "sse": "text/event-stream",
    "eventstream": "application/vnd.amazon.eventstream",
}
_PIECE: Final = 61  # bytes a write: no character, line or frame is safe from being cut
# What HTTP and every client adds.
_OWN: Final = {"host", "content-length", "user-agent", CASE}
_PROOF: Final = {"authorization", "x-amz-date"}  # of a moment: they are checked apart


def key_of(case: Case) -> str:
    """The client's key that may ask this case and nothing else."""
    return f"sk-client-{case.name.replace('/', '-')}"


def upstream_key(case: Case) -> str:
    """The provider's key; each has its own, so that one shown to another would be seen."""
    return str(case.ask["provider"].get("api") or f"up-{case.name.replace('/', '-')}")


@dataclass
class Site:
    """The server of many cases, and what it was asked.

    Attributes:
        url: scheme, host and port.
        wrong: what differed, one line a request.
        tokens: how many were granted.
    """

    cases: Mapping[str, Case]
    url: str = ""
    wrong: list[str] = field(default_factory=list)
    tokens: int = 0
    _calls: dict[tuple[str, bool], Call] = field(default_factory=dict)

    def config(self) -> JsonObject:
        """An api.yaml in which each case is a provider with a client key of its own."""
        return {
            "providers": [self._entry(case) for case in self.cases.values()],
            "api_keys": [
                {
                    "api": key_of(case),
                    "model": [f"{_label(case)}/*"],
                    "preferences": {"AUTO_RETRY": False},
                }
                for case in self.cases.values()
            ],
            "preferences": {"cooldown_period": 0},
        }

    def _entry(self, case: Case) -> JsonObject:
        given: JsonObject = case.ask["provider"]
        engine = case.engine.names[0]
        preferences = given.get("preferences")
        preferences = preferences if isinstance(preferences, dict) else {}
        own = preferences.get("headers")
        headers: JsonObject = {**(own if isinstance(own, dict) else {}), CASE: case.name}
        entry: JsonObject = {
            "api": upstream_key(case),
            "model": [case.ask["request"]["model"]],
            **given,
            "provider": _label(case),
            "engine": engine,
            "base_url": self._base_url(case),
            "preferences": {**preferences, "headers": headers},
        }
        if engine == "aws" and "aws_region" not in given:
            entry["aws_region"] = _region(case)
        if "private_key" in given:
            entry["private_key"] = SERVICE_ACCOUNT
            entry["token_uri"] = f"{self.url}/token/{case.name}"
        return entry

    def _base_url(self, case: Case) -> str:
        """The entry's own address at this server, or the one it implies."""
        given = urlsplit(str(case.ask["provider"].get("base_url", "")))
        here = urlsplit(self.url)
        path: str = given.path
        try:
            called = urlsplit(case.call().url).path
        except ApiError:
            called = ""
        if case.engine.names[0].startswith("vertex"):
            path = called.partition("/v1/p")[0]  # projects or publishers
        elif not given.netloc and case.engine.names[0] == "cloudflare":
            path = called
        return urlunsplit((here.scheme, here.netloc, path, given.query, ""))

    def answer(self, asked: Asked) -> Reply:
        """What the provider of the case says to a request."""
        if asked.path.startswith("/token/"):
            return self._grant(self.cases[unquote(asked.path.removeprefix("/token/"))], asked)
        case = self.cases[asked.headers[CASE]]
        found = []
        for stream in (True, False):
            call = self._call(case, stream=stream)
            said = list(_differences(case, call, asked))
            if not said:
                return _recorded(case, call)
            found.append("; ".join(said))
        return self._refuse(f"{case.name}: {min(found, key=len)}")

    def _call(self, case: Case, *, stream: bool) -> Call:
        call = self._calls.get((case.name, stream))
        if call is None:
            call = self._calls[case.name, stream] = case.call(stream=stream)
        return call

    def _grant(self, case: Case, asked: Asked) -> Reply:
        form = parse_qs(asked.body.decode())
        (assertion,) = form["assertion"]
        signing, _, signature = assertion.rpartition(".")
        claims = codec.loads(_unpadded(signing.partition(".")[2]))
        email, where = case.ask["provider"]["client_email"], f"{self.url}/token/{case.name}"
        match claims:
            case {"iss": str(issuer), "aud": str(audience)} if (issuer, audience) == (email, where):
                pass
            case _:
                return self._refuse(f"{case.name}: the assertion says {claims}")
        if not _signed(signing, _unpadded(signature)):
            return self._refuse(f"{case.name}: the assertion's signature")
        self.tokens += 1
        token = {"access_token": case.ask["token"], "expires_in": 3599, "token_type": "Bearer"}
        return Reply(200, "application/json", codec.dumps(token))

    def _refuse(self, said: str) -> Reply:
        self.wrong.append(said)
        return Reply(422, "application/json", codec.dumps({"error": {"message": said}}))


@dataclass(frozen=True)
class Asked:
    """One request as it came; `path` is still encoded."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """One response."""

    status: int
    kind: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def _label(case: Case) -> str:
    return case.name.replace("/", "-")


def _region(case: Case) -> str:
    """The region that the entry's host names."""
    return urlsplit(str(case.ask["provider"]["base_url"])).netloc.split(".")[1]


def _recorded(case: Case, call: Call) -> Reply:
    status = case.status
    if status is not None:
        kind = KINDS["json"]
        return Reply(status["status"], kind, case.body or b"", status.get("headers", {}))
    engine = case.name.partition("/")[0]
    home, _ = COUSINS.get(engine, (engine, ()))
    whole = call.framing == "json"
    for found in (case, Case(WIRE / engine / "text"), Case(WIRE / home / "text")):
        body = found.body if whole else found.stream
        if body is not None:
            return Reply(200, KINDS[call.framing], body)
    raise AssertionError(f"{home}/text is not recorded")


def _differences(case: Case, call: Call, asked: Asked) -> Iterator[str]:
    """In what a request is not the case's call; nothing when it is."""
    wanted = urlsplit(call.url)
    for name, ours, theirs in (
        ("method", asked.method, call.method),
        ("path", asked.path, wanted.path),
        ("query", sorted(parse_qsl(asked.query)), sorted(parse_qsl(wanted.query))),
        ("body", codec.loads(asked.body), codec.loads(call.body)),
    ):
        if ours != theirs:
            yield f"{name}: {ours!r}, not {theirs!r}"
    headers = {name: value.replace("KEY", upstream_key(case)) for name, value in call.headers}
    signed = "x-amz-date" in headers
    apart = _OWN | (_PROOF if signed else set())
    heard = {name: value for name, value in asked.headers.items() if name not in apart}
    wished = {name: value for name, value in headers.items() if name not in apart}
    if heard != wished:
        yield f"headers: {heard}, not {wished}"
    if signed and not _signed_by_aws(case, asked):
        yield "the signature is not AWS's"


def _signed_by_aws(case: Case, asked: Asked) -> bool:
    """Whether botocore's own signer makes the same signature of what arrived."""
    given = case.ask["provider"]
    proof = asked.headers["authorization"]
    _, _, rest = proof.partition("Credential=")
    region = rest.split("/")[2]
    names = rest.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    credentials = Credentials(given["aws_access_key"], given["aws_secret_key"])
    theirs: Any = SigV4Auth(credentials, "bedrock", region)
    # botocore encodes the path it is given once more, as this service wants.
    url = f"http://{asked.headers['host']}{asked.path}"
    headers = {name: asked.headers[name] for name in names if name != "host"}
    request: Any = AWSRequest(asked.method, url, headers=headers, data=asked.body)
    request.context["timestamp"] = asked.headers["x-amz-date"]
    canonical = theirs.canonical_request(request)
    signature = theirs.signature(theirs.string_to_sign(request, canonical), request)
    return proof.endswith(f"Signature={signature}")


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _signed(text: str, signature: bytes) -> bool:
    """Whether this is the service account's RS256 signature, by the public half of its key."""
    modulus = private_key(SERVICE_ACCOUNT).n
    opened = pow(int.from_bytes(signature), 65537, modulus).to_bytes(len(signature))
    return opened.endswith(hashlib.sha256(text.encode()).digest())


def _send(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
    handler.send_response(reply.status)
    handler.send_header("content-type", reply.kind)
    for name, value in reply.headers.items():
        handler.send_header(name, value)
    handler.send_header("transfer-encoding", "chunked")
    handler.end_headers()
    for start in range(0, len(reply.body), _PIECE):
        piece = reply.body[start : start + _PIECE]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


@contextmanager
def speaking(cases: Sequence[Case]) -> Iterator[Site]:
    """A server for these cases, on loopback."""
    site = Site({case.name: case for case in cases})

    def answer(handler: BaseHTTPRequestHandler) -> None:
        path, _, query = handler.path.partition("?")
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = handler.rfile.read(int(headers.get("content-length", "0")))
        _send(handler, site.answer(Asked(handler.command, path, query, headers, body)))

    with serving(answer, keep_alive=True) as port:
        site.url = f"http://127.0.0.1:{port}"
        yield site
