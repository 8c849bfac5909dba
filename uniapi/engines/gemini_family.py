"""What a Gemini model can do, read from its name: thinking, schemas, and the longest answer.

Google documents these per family and answers 400 to what a family does not know. A name that says
nothing (`gemini-flash-latest`, a tuned model) is taken for the oldest family still served that
thinks, 2.5, whose words newer ones also understand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from uniapi.codec import JsonObject
from uniapi.conversation import Effort

Version: TypeAlias = tuple[int, int]

_VERSION: Final = re.compile(r"gemini-(?P<major>\d+)(?:\.(?P<minor>\d+))?")
_NEVER: Final = re.compile(r"-image\b|-tts\b|native-audio|embedding|gemma|learnlm|aqa")
_BUDGETS: Final[dict[Effort, int]] = {
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 32768,
}


@dataclass(frozen=True, slots=True)
class Family:
    """A model's family.

    Attributes:
        version: such as (2, 5).
        size: `pro`, `flash` or `flash-lite`.
        thinks: whether it takes a `thinkingConfig`.
    """

    version: Version
    size: str
    thinks: bool

    @property
    def signs(self) -> bool:
        """Whether calls sent back without a thought signature are refused."""
        return self.version >= (3, 0)

    @property
    def json_schema(self) -> bool:
        """Whether answers can be held to plain JSON Schema, and not to OpenAPI's subset only."""
        return self.version >= (2, 5)

    @property
    def longest(self) -> int:
        """Tokens of the longest answer; more is refused, on Vertex at 65,536 already."""
        return 65_535 if self.version >= (2, 5) else 8192


def family(model: str) -> Family:
    """The family of a model, from the provider's name for it."""
    name = model.lower()
    found = _VERSION.search(name)
    version = (int(found["major"]), int(found["minor"] or 0)) if found else (2, 5)
    size = "flash-lite" if "flash-lite" in name else "flash" if "flash" in name else "pro"
    return Family(version, size, version >= (2, 5) and not _NEVER.search(name))


def thinking(of: Family, effort: Effort | None, budget: int | None) -> JsonObject | None:
    """The `thinkingConfig` for what the client asked; None when it asked nothing.

    A number counts more than a word, except for `none`. Level and budget are never sent together:
    that is a 400.
    """
    if effort is None and budget is None:
        return None
    if effort == "none":
        budget = 0
    if of.version >= (3, 0):
        level = _level(of.size, effort, budget)
        return {"thinkingLevel": level, "includeThoughts": effort != "none"}
    tokens = _within(of.size, budget if budget is not None else _BUDGETS[effort or "medium"])
    return {"thinkingBudget": tokens, "includeThoughts": tokens > 0 and effort != "none"}


def _level(size: str, effort: Effort | None, budget: int | None) -> str:
    """The level of a family that cannot be switched off; pro models know low and high only."""
    if budget is not None:
        effort = "minimal" if budget < 512 else "low" if budget <= 4096 else "medium"
        effort = "high" if budget > 16384 else effort
    if size == "pro":
        return "low" if effort in {"none", "minimal", "low"} else "high"
    match effort:
        case "minimal" | "low" | "medium":
            return effort
        case "none":
            return "minimal"
        case _:
            return "high"


def _within(size: str, tokens: int) -> int:
    """The budget moved into what the family allows."""
    match size:
        case "pro":
            return min(max(tokens, 128), 32768)
        case "flash-lite":
            return 0 if tokens == 0 else min(max(tokens, 512), 24576)
        case _:
            return min(tokens, 24576)
