"""OpenRouter: OpenAI's dialect, with keep-alive comments and usage on its last choice."""

from __future__ import annotations

from uniapi.config.types import Provider
from uniapi.engines.openai import OpenAI
from uniapi.engines.urls import host_of


class OpenRouter(OpenAI):
    """Everything OpenRouter does differently is legal or mended by the common decoder."""

    names: tuple[str, ...] = ("openrouter",)

    def claims(self, provider: Provider, upstream: str) -> int:  # noqa: ARG002 - by host only
        """OpenRouter's own host."""
        return 3 if host_of(provider).endswith("openrouter.ai") else 0
