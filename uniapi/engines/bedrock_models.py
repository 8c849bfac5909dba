"""What a model on Bedrock can take, as far as its id tells.

Converse is one dialect, but the models behind it refuse each other's parameters. An id names the
family (`us.anthropic.claude-sonnet-4-5-20250929-v1:0`); an ARN of an application inference profile
or a custom model names nothing, so the name the model has here is looked at too.
"""

from __future__ import annotations

import re
from typing import Final

from uniapi.config.types import Channel
from uniapi.conversation import Effort

_CLAUDE: Final = re.compile(r"claude-(?:[a-z]+-)?(\d+)(?:[-.](\d{1,2}))?(?!\d)")
# Tokens of thought for an effort, where the model wants a number.
_BUDGETS: Final[dict[Effort, int]] = {
    "none": 0,
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 24576,
}
LEAST_BUDGET: Final = 1024


class Model:
    """One model, by its names."""

    def __init__(self, channel: Channel) -> None:
        self._names = f"{channel.upstream} {channel.name}".lower()
        found = _CLAUDE.search(self._names)
        self._version = (int(found[1]), int(found[2] or 0)) if found else (0, 0)

    @property
    def claude(self) -> bool:
        """Anthropic's."""
        return "claude" in self._names

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
        """OpenAI's open weights, which take `reasoning_effort` as it is."""
        return "gpt-oss" in self._names

    @property
    def caches(self) -> bool:
        """Whether cache points are understood."""
        return self.claude or self.nova

    @property
    def thinks(self) -> bool:
        """Claude from 3.7 on."""
        return self._version >= (3, 7)

    @property
    def adaptive(self) -> bool:
        """Claude from 4.6 on decides itself how long to think, and takes an effort."""
        return self._version >= (4, 6)

    @property
    def fixed(self) -> bool:
        """Claude from 4.7 on answers 400 to a thinking budget, temperature, top_p and top_k."""
        return self._version >= (4, 7)

    @property
    def one_sampler(self) -> bool:
        """Claude from 4.1 on answers 400 to temperature beside top_p."""
        return self._version >= (4, 1)

    @property
    def schemas(self) -> bool:
        """Claude from 4.5 on holds its answer to a JSON Schema."""
        return self._version >= (4, 5)

    def effort(self, effort: Effort) -> str:
        """The model's own word for an effort."""
        if effort == "xhigh":
            if self.gpt_oss:
                return "high"
            return "xhigh" if self.fixed else "max"  # 4.6 knows max, and answers 400 to xhigh
        return "low" if effort in {"none", "minimal"} else effort


def budget(effort: Effort | None, given: int | None) -> int:
    """Tokens of thought: the client's own number, else what the effort stands for; 0 for none."""
    if effort == "none":
        return 0
    if given is not None:
        return max(given, LEAST_BUDGET) if given else 0
    return _BUDGETS[effort] if effort is not None else 0
