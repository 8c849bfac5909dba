"""Gemini on Google Cloud's Vertex AI: the same words, under a project's address and token."""

from __future__ import annotations

from collections.abc import Mapping

from uniapi.config.types import Channel, Provider, Secret
from uniapi.engines import google_auth
from uniapi.engines.base import Call, Recipient
from uniapi.engines.gemini import STREAM, Gemini
from uniapi.engines.openai import headers
from uniapi.errors import Failure


class VertexGemini(Gemini):
    """Google's own models on Vertex; Anthropic's there are the `vertex-claude` engine's."""

    names: tuple[str, ...] = ("vertex-gemini",)
    vertex = True

    def claims(self, provider: Provider, upstream: str) -> int:
        """A Vertex provider, for every model that is not Claude."""
        return 0 if google_auth.is_claude(upstream) else google_auth.speaks_vertex(provider)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """Google's error object, or the token endpoint's."""
        no_token = google_auth.refused(status, headers, body)
        return no_token if no_token is not None else super().failure(status, headers, body)

    def catalogue(self, to: Recipient) -> Call | None:
        """Google's own models."""
        provider = to.channel.provider
        auth = google_auth.listing_auth(provider, to.key)
        return Call("GET", google_auth.listing_url(provider, "google"), headers(provider, auth))

    def models(self, body: bytes) -> tuple[str, ...]:
        """Names from `publisherModels[].name`: those of Gemini, since only they chat."""
        names = google_auth.listed(body)
        return tuple(dict.fromkeys(name for name in names if name.startswith("gemini-")))

    def grant(self, provider: Provider, now: float) -> Call | None:
        """The call that brings an access token for the service account."""
        return google_auth.grant(provider, now)

    def granted(self, body: bytes) -> tuple[Secret, float]:
        """The access token and its seconds."""
        return google_auth.granted(body)

    def plain(self, provider: Provider) -> bool:  # noqa: ARG002 - no provider of Vertex is
        """Vertex's first version knows every field."""
        return False

    def url(self, channel: Channel, verb: str) -> str:
        """The address of a model's method, in the project or in express mode."""
        model = channel.upstream.rpartition("/")[2]  # also `google/gemini-…`, a resource's name
        url = google_auth.model_url(channel.provider, "google", model, verb)
        return f"{url}?alt=sse" if verb == STREAM else url

    def auth(self, provider: Provider, key: Secret | None) -> tuple[tuple[str, str], ...]:
        """A token, or an express key."""
        return google_auth.authorization(provider, key)
