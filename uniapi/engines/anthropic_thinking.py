"""How much Claude may think and say: `max_tokens`, `thinking`, effort, and the sampling left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from uniapi.codec import JsonObject
from uniapi.conversation import Conversation, Effort, NamedTool, Thinking, ToolUse, Turn
from uniapi.engines.anthropic_models import Family

# Tokens; Anthropic's floor is 1024, and above some 20,000 it advises to stream.
_BUDGETS: Final[Mapping[Effort, int]] = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 24576,
}
_FLOOR: Final = 1024
_SAMPLING: Final = ("temperature", "top_p", "top_k")


@dataclass(frozen=True, slots=True)
class Plan:
    """What was decided.

    Attributes:
        max_tokens: covers thinking and text.
        thinking: the `thinking` field; None leaves it out.
        effort: `output_config.effort`; None leaves it out.
        notes: request fields that were left out.
    """

    max_tokens: int
    thinking: JsonObject | None = None
    effort: str | None = None
    notes: tuple[str, ...] = ()


def plan(conversation: Conversation, family: Family) -> Plan:
    """The limits and the thinking of a request.

    Thinking that the API would refuse in this request (with a forced tool, or after a call whose
    thoughts the client did not keep) is left out rather than the request.
    """
    asked = conversation.sampling.max_tokens
    limit = family.limit if asked is None else asked
    notes: tuple[str, ...] = ()
    if family.cap is not None and limit > family.cap:
        limit, notes = family.cap, ("max_tokens",)
    if not _wanted(conversation):
        return Plan(limit, notes=notes)
    name = "thinking" if conversation.effort is None else "reasoning_effort"
    by_number = bool(conversation.thinking_budget)
    adaptive = family.thinks == "adaptively" or (family.thinks == "either" and not by_number)
    if adaptive:
        thinking: JsonObject = {"type": "adaptive"}
        if family.summarized:
            thinking["display"] = "summarized"
        if asked is None:
            limit = min(limit + _BUDGETS["high"], family.cap or limit)
        return Plan(limit, thinking, family.efforts[_effort(conversation)], notes)
    if family.thinks == "never" or _forced(conversation) or _thoughts_lost(conversation.turns):
        return Plan(limit, notes=(*notes, name))
    budget = max(_FLOOR, conversation.thinking_budget or _BUDGETS[_effort(conversation)])
    if asked is None or limit <= budget:
        limit += budget
    if family.cap is not None:
        limit = min(limit, family.cap)
    budget = min(budget, max(_FLOOR, limit - _FLOOR))
    return Plan(limit, {"type": "enabled", "budget_tokens": budget}, None, notes)


def _wanted(conversation: Conversation) -> bool:
    if conversation.effort == "none":
        return False
    return conversation.effort is not None or bool(conversation.thinking_budget)


def _effort(conversation: Conversation) -> Effort:
    """The effort asked for, or the one that spends about the number of tokens asked for."""
    if conversation.effort is not None:
        return conversation.effort
    tokens = conversation.thinking_budget or 0
    fitting = [effort for effort, budget in _BUDGETS.items() if tokens <= budget]
    return fitting[0] if fitting else "xhigh"


def _forced(conversation: Conversation) -> bool:
    return conversation.tool_choice == "required" or isinstance(conversation.tool_choice, NamedTool)


def _thoughts_lost(turns: tuple[Turn, ...]) -> bool:
    """Whether the last assistant turn would have to begin with signed thoughts, and does not.

    So it is when it made calls, or is to be continued.
    """
    spoken = [turn for turn in turns if turn.role == "assistant"]
    if not spoken:
        return False
    last = spoken[-1]
    calls = any(isinstance(block, ToolUse) for block in last.blocks)
    if not calls and turns[-1] is not last:
        return False
    return not any(isinstance(block, Thinking) and usable(block) for block in last.blocks)


def usable(thought: Thinking) -> bool:
    """Whether Anthropic would know the thought as its own."""
    proved = thought.signature is not None or thought.sealed is not None
    return proved and thought.format.startswith("anthropic")


def sampling(
    conversation: Conversation, family: Family, *, thinking: bool
) -> tuple[JsonObject, tuple[str, ...]]:
    """`temperature`, `top_p` and `top_k` as far as they may be sent, and the names of the rest."""
    asked = conversation.sampling
    given: JsonObject = {
        name: value
        for name, value in zip(
            _SAMPLING, (asked.temperature, asked.top_p, asked.top_k), strict=True
        )
        if value is not None
    }
    kept = dict(given) if family.samples else {}
    if asked.temperature is not None and "temperature" in kept:
        kept["temperature"] = min(1, max(0, asked.temperature))
    if thinking:
        kept.pop("temperature", None)
        kept.pop("top_k", None)
        if asked.top_p is not None and not 0.95 <= asked.top_p <= 1:
            kept.pop("top_p", None)
    elif family.one_knob and {"temperature", "top_p"} <= kept.keys():
        # 1 is the default of both: the one that says something stays.
        kept.pop("temperature" if kept["temperature"] == 1 else "top_p")
    return kept, tuple(name for name in given if name not in kept)
