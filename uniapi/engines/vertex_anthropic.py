"""Claude on Google Cloud's Vertex AI: Anthropic's words, under a project's address and token.

POST .../publishers/anthropic/models/{model}:rawPredict
POST .../publishers/anthropic/models/{model}:streamRawPredict
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from uniapi import codec
from uniapi.chat import ChatRequest
from uniapi.codec import JsonObject
from uniapi.config.types import Channel, Provider, Secret
from uniapi.engines import google_auth
from uniapi.engines.anthropic import Anthropic
from uniapi.engines.anthropic_blocks import addresses
from uniapi.engines.anthropic_body import body
from uniapi.engines.anthropic_models import family
from uniapi.engines.base import Call, Recipient
from uniapi.engines.fit import fitted
from uniapi.engines.openai import headers
from uniapi.engines.overrides import override
from uniapi.errors import Failure

_VERSION: Final = "vertex-2023-10-16"


class VertexAnthropic(Anthropic):
    """Anthropic's models on Vertex; Google's own there are the `vertex-gemini` engine's."""

    names: tuple[str, ...] = ("vertex-claude",)

    def claims(self, provider: Provider, upstream: str) -> int:
        """A Vertex provider, for Claude models."""
        return google_auth.speaks_vertex(provider) if google_auth.is_claude(upstream) else 0

    def encode(self, chat: ChatRequest, to: Recipient) -> Call:
        """Anthropic's body without the model's name, which is in the address."""
        channel = to.channel
        # Google disables structured outputs unless an organisation's policy allows them.
        rules = replace(family(channel.upstream), structured=False)
        asked = fitted(chat, channel.provider)
        made, notes = body(asked, rules, media=to.media, fetches=False)
        whole: JsonObject = {"anthropic_version": _VERSION, **made}
        if chat.stream:
            whole["stream"] = True
        whole = override(whole, channel)
        stream = whole.get("stream") is True
        return Call(
            method="POST",
            url=google_auth.model_url(
                channel.provider,
                "anthropic",
                channel.upstream.rpartition("/")[2],  # also `anthropic/claude-…`
                "streamRawPredict" if stream else "rawPredict",
            ),
            headers=headers(
                channel.provider, google_auth.authorization(channel.provider, to.key), to.passed
            ),
            body=codec.dumps(whole),
            framing="sse" if stream else "json",
            notes=notes,
        )

    def needs(self, chat: ChatRequest, channel: Channel) -> tuple[str, ...]:
        """Every address: Vertex fetches none."""
        return addresses(fitted(chat, channel.provider).turns, fetches=False)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """Google's error object, Anthropic's, or the token endpoint's."""
        no_token = google_auth.refused(status, headers, body)
        return no_token if no_token is not None else super().failure(status, headers, body)

    def catalogue(self, to: Recipient) -> Call | None:
        """Anthropic's models in Google's garden."""
        provider = to.channel.provider
        auth = google_auth.listing_auth(provider, to.key)
        url = google_auth.listing_url(provider, "anthropic")
        return Call("GET", url, headers(provider, auth, to.passed))

    def models(self, body: bytes) -> tuple[str, ...]:
        """Names from `publisherModels[].name`."""
        names = google_auth.listed(body)
        return tuple(dict.fromkeys(name for name in names if google_auth.is_claude(name)))

    def grant(self, provider: Provider, now: float) -> Call | None:
        """The call that brings an access token for the service account."""
        return google_auth.grant(provider, now)

    def granted(self, body: bytes) -> tuple[Secret, float]:
        """The access token and its seconds."""
        return google_auth.granted(body)
