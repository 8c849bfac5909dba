"""The places of an OpenAI-format server, found from the one URL the user wrote."""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from uniapi.config.types import Provider

_KNOWN: Final = (
    "/chat/completions",
    "/images/generations",
    "/images/edits",
    "/audio/transcriptions",
    "/audio/speech",
    "/moderations",
    "/embeddings",
    "/completions",
    "/responses",
    "/models",
)


def without_endpoint(path: str) -> str:
    """A path without the endpoint it ends in, when it ends in one."""
    return next((path.removesuffix(known) for known in _KNOWN if path.endswith(known)), path)


@lru_cache(1024)  # asked for every attempt, and of a configuration's few addresses
def place(base_url: str, endpoint: str) -> str:
    """The URL of `endpoint` (such as `chat/completions`) beside the one in `base_url`.

    A full URL of any endpoint is understood, with or without `/v1` (GitHub Models has none); a
    path that ends elsewhere is taken as the root of the API, and no path as a host whose API is
    under `/v1`. The query is kept: some gateways carry their version there.
    """
    parts = urlsplit(base_url)
    path = parts.path.rstrip("/")
    root = without_endpoint(path) if path else "/v1"
    return urlunsplit((parts.scheme, parts.netloc, f"{root}/{endpoint}", parts.query, ""))


def host_of(provider: Provider) -> str:
    """The lower-case host of a provider's base_url; empty when it has none."""
    return _host(provider.base_url or "")


@lru_cache(1024)
def _host(base_url: str) -> str:
    return (urlsplit(base_url).hostname or "").lower()
