"""Which engine speaks to which provider."""

from __future__ import annotations

from typing import Final

from uniapi.config.types import Provider
from uniapi.engines.anthropic import Anthropic
from uniapi.engines.azure import Azure
from uniapi.engines.base import Engine
from uniapi.engines.bedrock import Bedrock
from uniapi.engines.cloudflare import Cloudflare
from uniapi.engines.cohere import Cohere
from uniapi.engines.gemini import Gemini
from uniapi.engines.google_auth import is_claude
from uniapi.engines.groq import Groq
from uniapi.engines.openai import OpenAI
from uniapi.engines.openrouter import OpenRouter
from uniapi.engines.vertex_anthropic import VertexAnthropic
from uniapi.engines.vertex_gemini import VertexGemini

ENGINES: Final[tuple[Engine, ...]] = (
    OpenAI(),
    Anthropic(),
    Azure(),
    Cloudflare(),
    Groq(),
    OpenRouter(),
    Bedrock(),
    Cohere(),
    Gemini(),
    VertexGemini(),
    VertexAnthropic(),
)
_BY_NAME: Final = {name: engine for engine in ENGINES for name in engine.names}


def engine_for(provider: Provider, upstream: str) -> Engine | None:
    """The engine the provider names, else the one with the strongest claim; None for none.

    A claim rests on `base_url` and the credentials, never on the model's name, except where one
    provider serves several dialects.
    """
    if provider.engine == "vertex":
        return _BY_NAME["vertex-claude" if is_claude(upstream) else "vertex-gemini"]
    if provider.engine is not None:
        return _BY_NAME.get(provider.engine)
    best = max(ENGINES, key=lambda engine: engine.claims(provider, upstream))
    return best if best.claims(provider, upstream) > 0 else None
