"""Taking secrets out of texts that come from outside."""

from __future__ import annotations

from typing import Final

from uniapi.config.types import Config

_MAX_TEXT: Final = 1000  # characters


def scrub(text: str, config: Config) -> str:
    """The text without any configured key or provider address, in one line, capped."""
    for secret in config.secrets:
        if secret in text:
            text = text.replace(secret, "[secret]")
    for provider in config.providers:
        if provider.base_url and provider.base_url in text:
            text = text.replace(provider.base_url, f"[{provider.name}]")
    return "".join(c if c.isprintable() else " " for c in text)[:_MAX_TEXT]
