"""Cloudflare Workers AI through its OpenAI-compatible door, which takes the whole history."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from uniapi import codec
from uniapi.codec import JsonObject
from uniapi.config.types import Provider
from uniapi.engines.base import Call, Recipient
from uniapi.engines.openai import OpenAI, bearer, headers
from uniapi.engines.urls import host_of, place

_HOST: Final = "api.cloudflare.com"
_ROOT: Final = f"https://{_HOST}/client/v4/accounts"
_DEFAULT_TOKENS: Final = 2048  # Cloudflare's own default is 256, which cuts answers short


class Cloudflare(OpenAI):
    """`.../accounts/{cf_account_id}/ai/v1/chat/completions`, model in the body."""

    names: tuple[str, ...] = ("cloudflare",)

    def claims(self, provider: Provider, upstream: str) -> int:  # noqa: ARG002 - by address only
        """An account id, or Cloudflare's own host."""
        return 3 if provider.cf_account_id or host_of(provider) == _HOST else 0

    def root(self, provider: Provider) -> str:
        """The account's API; a base_url elsewhere (a proxy, a gateway) is taken at its word."""
        if provider.base_url and (host_of(provider) != _HOST or not provider.cf_account_id):
            return provider.base_url
        account = quote(provider.cf_account_id or "", safe="")
        return f"{_ROOT}/{account}/ai/v1/chat/completions"

    def shape(
        self,
        body: JsonObject,
        provider: Provider,  # noqa: ARG002 - the same for every account
    ) -> tuple[JsonObject, tuple[str, ...]]:
        """Always an output limit."""
        if "max_tokens" in body or "max_completion_tokens" in body:
            return body, ()
        return {**body, "max_tokens": _DEFAULT_TOKENS}, ()

    def catalogue(self, to: Recipient) -> Call | None:
        """The account's model search, text generation only."""
        provider = to.channel.provider
        if not provider.cf_account_id:
            return super().catalogue(to)
        url = place(self.root(provider), "models").removesuffix("/v1/models")
        url += "/models/search?task=Text%20Generation&per_page=1000"
        return Call("GET", url, headers(provider, bearer(to.key), to.passed))

    def models(self, body: bytes) -> tuple[str, ...]:
        """`result[].name`, or an ordinary listing."""
        match codec.loads_mended(body):
            case {"result": list(entries)}:
                names = [entry.get("name") for entry in entries if isinstance(entry, dict)]
                return tuple(dict.fromkeys(str(name) for name in names if name))
            case _:
                return super().models(body)
