"""Azure OpenAI and Foundry: OpenAI's dialect behind deployments, versions and another header."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from uniapi.config.types import Provider, Secret
from uniapi.engines.base import Call, Recipient
from uniapi.engines.openai import OpenAI
from uniapi.engines.urls import host_of, without_endpoint

_VERSION: Final = "2024-10-21"  # the newest generally available data-plane version of its time
_HOSTS: Final = (
    ".openai.azure.com",
    ".services.ai.azure.com",
    ".cognitiveservices.azure.com",
    ".openai.azure.us",
    ".openai.azure.cn",
)
_CHAT: Final = "/chat/completions"


class Azure(OpenAI):
    """A bare endpoint (deployment = model), `/openai/v1`, Foundry's `/models`, or a full URL."""

    names: tuple[str, ...] = ("azure",)

    def claims(self, provider: Provider, upstream: str) -> int:  # noqa: ARG002 - by host only
        """Azure's own hosts; GitHub Models lives on another one and speaks plain OpenAI."""
        return 3 if f".{host_of(provider)}".endswith(_HOSTS) else 0

    def auth(self, key: Secret | None) -> tuple[tuple[str, str], ...]:
        """`api-key` in place of a bearer."""
        return (("api-key", key.reveal()),) if key is not None else ()

    def url(self, provider: Provider, upstream: str, endpoint: str = "chat/completions") -> str:
        """Where an endpoint of this deployment is; a version already given is kept."""
        parts = urlsplit(provider.base_url or "")
        path = parts.path.rstrip("/")
        if not path.endswith("/models"):  # Foundry's door, and no endpoint of it
            path = without_endpoint(path)
        query = dict(parse_qsl(parts.query))
        if path.endswith("/openai/v1"):
            versioned = False  # the new door: the model is in the body, no version is needed
        elif path.endswith("/models") or "/openai/deployments/" in path:
            versioned = True
        else:
            path = path.removesuffix("/openai")
            path += f"/openai/deployments/{quote(upstream, safe='')}"
            versioned = True
        if provider.api_version:
            query["api-version"] = provider.api_version
        elif versioned:
            query.setdefault("api-version", _VERSION)
        return urlunsplit((parts.scheme, parts.netloc, f"{path}/{endpoint}", urlencode(query), ""))

    def catalogue(self, to: Recipient) -> Call | None:
        """Deployments cannot be listed with an API key; only the new door lists models."""
        path = urlsplit(to.channel.provider.base_url or "").path.rstrip("/")
        if path.removesuffix(_CHAT).endswith("/openai/v1"):
            return super().catalogue(to)
        return None
