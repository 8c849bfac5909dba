"""What each family of Claude models accepts, told from the model's name.

Sources: Anthropic's model overview, extended and adaptive thinking, effort and structured outputs
pages, and recorded refusals (sampling on 4.7, both temperature and top_p on 4.1 and later).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from uniapi.conversation import Effort

Thinks: TypeAlias = Literal["never", "by_budget", "either", "adaptively"]

# claude-sonnet-4-5-20250929, anthropic.claude-opus-4-1-20250805-v1:0, claude-opus-4-6@default
_NEW: Final = re.compile(r"claude-([a-z]+)-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
# claude-3-5-sonnet-20241022, claude-2.1
_OLD: Final = re.compile(r"claude-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")

_EFFORTS: Final[Mapping[Effort, str]] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
}


@dataclass(frozen=True, slots=True)
class Family:
    """The rules of one family.

    Attributes:
        limit: `max_tokens` when the client names none: long answers fit, and one that is not
            streamed stays within Anthropic's ten minutes.
        cap: the most `max_tokens` may be; None when unknown.
        thinks: whether thinking is set by a budget, adaptively, by either, or not at all.
        summarized: thinking text comes only when asked for (`display`).
        efforts: OpenAI's words to those of `output_config.effort`.
        samples: takes temperature, top_p and top_k.
        one_knob: refuses temperature beside top_p.
        structured: takes `output_config.format` and strict tools.
        forced: takes a `tool_choice` that forces a call.
        continues: goes on with a conversation that ends with its own words (a prefill).
    """

    limit: int = 8192
    cap: int | None = None
    thinks: Thinks = "by_budget"
    summarized: bool = False
    efforts: Mapping[Effort, str] = field(default_factory=lambda: _EFFORTS)
    samples: bool = True
    one_knob: bool = False
    structured: bool = False
    forced: bool = True
    continues: bool = False


UNKNOWN: Final = Family()
"""A model of another name behind the same API: the oldest form of everything."""


def family(model: str) -> Family:
    """The family of a model, by its name with any provider's prefix and suffix."""
    kind, version = _parsed(model.lower())
    if version is None:
        return UNKNOWN
    if version < (3, 5):
        return Family(limit=4096, cap=4096, thinks="never", continues=True)
    if version < (3, 7):
        return Family(limit=8192, cap=8192, thinks="never", continues=True)
    if version < (4, 6):
        small = kind == "opus" and version < (4, 5)
        return Family(
            limit=16384,
            cap=32_000 if small else 64_000,
            one_knob=version >= (4, 1),
            structured=version >= (4, 5),
            continues=True,
        )
    if version < (4, 7):
        return Family(
            limit=16384,
            cap=128_000,
            thinks="either",
            efforts={**_EFFORTS, "xhigh": "max"},  # xhigh is refused here, max is not
            one_knob=True,
            structured=True,
        )
    return Family(
        limit=16384,
        cap=128_000,
        thinks="adaptively",
        summarized=True,
        samples=False,
        structured=True,
        forced=kind not in {"fable", "mythos"},
    )


def _parsed(model: str) -> tuple[str, tuple[int, int] | None]:
    if found := _NEW.search(model):
        return found[1], (int(found[2]), int(found[3] or 0))
    if found := _OLD.search(model):
        return "", (int(found[1]), int(found[2] or 0))
    return "", None
