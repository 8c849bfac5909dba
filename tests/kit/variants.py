"""Golden cases of one engine, asked of a provider that speaks the same words under its own roof.

Azure, Cloudflare, Groq and OpenRouter answer as OpenAI does, and Vertex as Anthropic and Gemini
do; their own folders hold what is different. Here they get the common cases too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from tests.kit.golden import WIRE, Case, cases

_GPT: Final = (
    "cut",
    "error_in_mid_stream",
    "filtered",
    "image",
    "length",
    "media_and_settings",
    "reasoning_deepseek",
    "refusal",
    "search",
    "status_429",
    "status_bad_key",
    "status_context",
    "status_quota",
    "system_and_unknown_fields",
    "text",
    "tool_result",
    "tools_two",
)
_CLAUDE: Final = (
    "audio",
    "cache-hints",
    "choice-named",
    "choice-required",
    "cut",
    "json-object",
    "length",
    "parallel-tools",
    "reasoning",
    "reasoning-before-a-call",
    "refusal",
    "server-tools-and-citations",
    "status-400-context",
    "status-400-credit",
    "status-401",
    "status-429",
    "system",
    "tool-results",
    "usage-that-grows",
)
_GEMINI: Final = (
    "cut",
    "grounding",
    "image",
    "image-out",
    "json-object",
    "json-schema",
    "length",
    "logprobs",
    "error-context",
    "error-in-stream",
    "error-key",
    "error-quota-of-the-day",
    "error-retry-after",
    "reasoning",
    "speech",
    "system",
    "tool-calls-parallel",
    "tool-results",
    "usage-cache",
)
COUSINS: Final = {
    "azure": ("gpt", _GPT),
    "cloudflare": ("gpt", _GPT),
    "groq": ("gpt", tuple(name for name in _GPT if name != "search")),  # it has no logprobs
    "openrouter": ("gpt", _GPT),
    "vertex-claude": ("claude", _CLAUDE),
    "vertex-gemini": ("gemini", _GEMINI),
}


@dataclass(frozen=True)
class Variant(Case):
    """A case whose provider is another's.

    Attributes:
        of: the engine, whose `text` case has the provider entry.
    """

    of: str

    @property
    def name(self) -> str:
        return f"{self.of}/{self.folder.name}"

    @property
    def ask(self) -> dict[str, Any]:
        home, own = super().ask, Case(WIRE / self.of / "text").ask
        entry = {name: value for name, value in own["provider"].items() if name != "model"}
        models = home["provider"].get("model")
        provider = {**entry, "model": models} if models else entry
        return {**own, **home, "provider": provider}


def everywhere() -> list[Case]:
    """Every case at home, and the common ones at the cousins that have none of that name."""
    found = cases()
    known = {case.name for case in found}
    for engine, (home, names) in COUSINS.items():
        away = [Variant(WIRE / home / name, engine) for name in names]
        found += [case for case in away if case.name not in known]
    return found
