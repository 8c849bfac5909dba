"""Google Cloud's side of both Vertex engines: whose provider it is, its addresses, its tokens."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from uniapi import __version__, codec
from uniapi.codec import JsonObject
from uniapi.config.types import Provider, Secret
from uniapi.engines import failures
from uniapi.engines.base import Call
from uniapi.engines.google_rsa import private_key
from uniapi.engines.urls import host_of
from uniapi.errors import ApiError, Failure, Kind

Publisher: TypeAlias = Literal["google", "anthropic"]

HOST: Final = "aiplatform.googleapis.com"
TOKEN_URI: Final = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
DEFAULT_REGION: Final = "global"
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFETIME: Final = 3600  # seconds; the longest Google allows
_MULTI_REGIONS: Final = ("us", "eu")  # their hosts are named the other way round
_GATEWAY: Final = "gateway.ai.cloudflare.com"
_SEGMENT: Final = "google-vertex-ai"
_VERSION: Final = re.compile(r"/v1(?:beta1)?$")
_BEYOND: Final = re.compile(r"/(?:projects|publishers)(?:/.*)?$")
_REGION: Final = re.compile(r"[a-z0-9-]{1,64}")
_REGIONAL: Final = re.compile(
    r"(?P<one>[a-z0-9-]+)-aiplatform\.googleapis\.com"
    r"|aiplatform\.(?P<many>[a-z0-9-]+)\.rep\.googleapis\.com"
)
_ACCESS_TOKEN: Final = "ya29."  # noqa: S105 - how Google's access tokens begin
_EXPRESS: Final = "AQ."


def is_claude(model: str) -> bool:
    """Whether a model on Vertex is Anthropic's: a Vertex provider serves both publishers."""
    return "claude" in model.lower()


def speaks_vertex(provider: Provider) -> int:
    """How surely a provider is Vertex, whichever publisher: the claim of `Engine.claims`.

    A Google Cloud project or Google's host says so for sure, the segment of Cloudflare's gateway
    by path. Vertex's OpenAI-format endpoint is the gpt engine's.
    """
    path = urlsplit(provider.base_url or "").path.rstrip("/")
    if path.endswith("/chat/completions"):
        return 0
    host = host_of(provider)
    if provider.project_id or host == HOST or _REGIONAL.fullmatch(host):
        return 3
    if _SEGMENT in path.split("/") or f"/{HOST}" in path:
        return 2
    express = any(key.reveal().startswith(_EXPRESS) for key in provider.keys)
    return 2 if express and provider.base_url is None else 0


def model_url(provider: Provider, publisher: Publisher, model: str, verb: str) -> str:
    """The address of a model's method, such as `streamGenerateContent` or `rawPredict`.

    Without a project the short form of express mode is used.

    Raises:
        ApiError: 500 when `region` cannot be one: it becomes part of a host name.
    """
    where = f"publishers/{publisher}/models/{quote(model, safe='@')}:{verb}"
    if provider.project_id:
        project = quote(provider.project_id, safe=":")
        where = f"projects/{project}/locations/{region_of(provider)}/{where}"
    return root(provider) + "/" + where


def listing_url(provider: Provider, publisher: Publisher) -> str:
    """The address that lists a publisher's models; v1beta1 alone has it."""
    url = _VERSION.sub("/v1beta1", root(provider))
    return f"{url}/publishers/{publisher}/models?{urlencode({'pageSize': 1000})}"


def listing_auth(provider: Provider, key: Secret | None) -> tuple[tuple[str, str], ...]:
    """As `authorization`, for a listing: who asks names the project that pays for asking."""
    shown = authorization(provider, key)
    if provider.project_id:
        return (*shown, ("x-goog-user-project", provider.project_id))
    return shown


def listed(body: bytes) -> Iterator[str]:
    """The names in a publisher's listing, without the publisher's.

    Raises:
        ValueError: when it is no listing.
    """
    match codec.loads_mended(body):
        case {"publisherModels": list(entries)}:
            for entry in entries:
                match entry:
                    case {"name": str(name)}:
                        yield name.rpartition("/")[2]
                    case _:
                        pass
        case dict() as empty if not empty.keys() - {"nextPageToken"}:
            pass
        case _:
            raise ValueError("not a list of models")


def region_of(provider: Provider) -> str:
    """The provider's region: its own, else that of a regional host, else `global`.

    Raises:
        ApiError: 500 for what cannot be a region.
    """
    region = (provider.region or "").strip().lower()
    if not region:
        found = _REGIONAL.fullmatch(host_of(provider))
        return (found["one"] or found["many"]) if found else DEFAULT_REGION
    if not _REGION.fullmatch(region):
        said = "the provider's region must be like global or us-central1"
        raise ApiError(500, said, code="bad_region")
    return region


def root(provider: Provider) -> str:
    """Scheme, host and version, without a slash at the end.

    Google's host without a region stands for the host of the region. Any other replaces it, with
    the path a proxy needs; Cloudflare's gateway gets its segment.
    """
    parts = urlsplit(provider.base_url or "")
    host = host_of(provider)
    path = _BEYOND.sub("", parts.path.rstrip("/"))
    if host == _GATEWAY and _SEGMENT not in path.split("/"):
        path = f"{path}/{_SEGMENT}"
    found = _VERSION.search(path)
    version = found.group() if found else "/v1"
    if not host or host == HOST:
        return f"https://{_google_host(region_of(provider))}{version}"
    return urlunsplit((parts.scheme, parts.netloc, path.removesuffix(version) + version, "", ""))


def _google_host(region: str) -> str:
    if region == DEFAULT_REGION:
        return HOST
    if region in _MULTI_REGIONS:
        return f"aiplatform.{region}.rep.googleapis.com"
    return f"{region}-{HOST}"


def authorization(provider: Provider, key: Secret | None) -> tuple[tuple[str, str], ...]:
    """How the key or token is shown; nothing when there is none."""
    if key is None:
        return ()
    value = key.reveal()
    if has_account(provider) or value.startswith(_ACCESS_TOKEN):
        return (("authorization", f"Bearer {value}"),)
    return (("x-goog-api-key", value),)


def has_account(provider: Provider) -> bool:
    """Whether there is a service account, so that tokens are used and no keys."""
    return bool(provider.client_email and provider.private_key)


def grant(provider: Provider, now: float) -> Call | None:
    """The call that trades a signed assertion for an access token (RFC 7523).

    Args:
        provider: with a service account; without one keys are used, and there is no call.
        now: unix seconds.

    Raises:
        ApiError: 500 when the private key cannot sign.
    """
    if provider.private_key is None or not provider.client_email:
        return None
    where = provider.token_uri or TOKEN_URI
    issued = int(now)
    claims: JsonObject = {
        "iss": provider.client_email,
        "scope": _SCOPE,
        "aud": where,
        "iat": issued,
        "exp": issued + _LIFETIME,
    }
    signing = f"{_part({'alg': 'RS256', 'typ': 'JWT'})}.{_part(claims)}"
    try:
        signature = private_key(provider.private_key.reveal()).sign(signing.encode())
    except ValueError as error:
        raise ApiError(500, f"the provider cannot be used: {error}", "bad_private_key") from None
    assertion = f"{signing}.{_base64url(signature)}"
    return Call(
        method="POST",
        url=where,
        headers=(
            ("content-type", "application/x-www-form-urlencoded"),
            ("accept-encoding", "identity"),
            ("user-agent", f"uniapi/{__version__}"),
        ),
        body=urlencode({"grant_type": _GRANT, "assertion": assertion}).encode(),
    )


def granted(body: bytes) -> tuple[Secret, float]:
    """The token in the answer to `grant`, and the seconds it is good for.

    Raises:
        ValueError: when it is not a token.
    """
    match failures.parsed(body):
        case {"access_token": str(token), "expires_in": int(seconds)} if token and seconds > 0:
            return Secret(token), float(seconds)
        case _:
            raise ValueError("the answer holds no access token")


def refused(status: int, headers: Mapping[str, str], body: bytes) -> Failure | None:
    """What the token endpoint's refusal means; None when the body is not OAuth's error shape.

    A refused assertion is trouble with the account, whatever the status: RFC 6749 says 400.
    """
    match failures.parsed(body):
        case {"error": str(code), "error_description": str(said)}:
            kind = Kind.SERVER if status >= 500 else Kind.KEY
            message = f"no token for the service account: {said}"
            return Failure(kind, message, status, code, retry_after=failures.retry_after(headers))
        case _:
            return None


def _part(value: JsonObject) -> str:
    return _base64url(codec.dumps(value))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
