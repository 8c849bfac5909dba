"""What a model on Bedrock can take, as far as its id tells.

Converse is one dialect, but the models behind it refuse each other's parameters. An id names the
family (`us.anthropic.claude-sonnet-4-5-20250929-v1:0`); an ARN of an application inference profile
or a custom model names nothing, so the name the model has here is looked at too.
"""

from __future__ import annotations

from typing import Final

from uniapi.config.types import Channel
from uniapi.conversation import Effort
from uniapi.engines.anthropic_models import Family, family

_GPT_OSS: Final[dict[Effort, str]] = {"none": "low", "minimal": "low", "xhigh": "high"}


class Model:
    """One model, by its names."""

    def __init__(self, channel: Channel) -> None:
        self._names = f"{channel.upstream} {channel.name}".lower()

    @property
    def claude(self) -> Family | None:
        """The rules of Anthropic's model, when it is one."""
        return family(self._names) if "claude" in self._names else None

    @property
    def nova(self) -> bool:
        """Amazon's own."""
        return "nova" in self._names

    @property
    def mistral(self) -> bool:
        """Mistral's, which take `top_k`."""
        return "mistral" in self._names or "mixtral" in self._names

    @property
    def gpt_oss(self) -> bool:
        """OpenAI's open weights, which take `reasoning_effort` of low, medium or high."""
        return "gpt-oss" in self._names

    @property
    def caches(self) -> bool:
        """Whether cache points are understood."""
        return self.claude is not None or self.nova


def gpt_oss_effort(effort: Effort) -> str:
    """The nearest effort the open weights know; they cannot be kept from thinking."""
    return _GPT_OSS.get(effort, effort)
