"""The same conversation, in turns that alternate or without what a provider cannot take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from uniapi.conversation import (
    Block,
    Conversation,
    Image,
    Role,
    Thinking,
    ToolResult,
    ToolUse,
    Turn,
)


def alternating(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """The same blocks in turns that alternate: empty turns gone, neighbours of one role merged.

    Within a turn the order is kept, but for what must stand first or last (`Turn.role`).
    """
    merged: list[tuple[Role, list[Block]]] = []
    for turn in turns:
        if not turn.blocks:
            continue
        if merged and merged[-1][0] == turn.role:
            merged[-1][1].extend(turn.blocks)
        else:
            merged.append((turn.role, list(turn.blocks)))
    return tuple(Turn(role, tuple(sorted(blocks, key=_rank))) for role, blocks in merged)


def _rank(block: Block) -> int:
    match block:
        case ToolResult() | Thinking():
            return 0
        case ToolUse():
            return 2
        case _:
            return 1


def without_tools(conversation: Conversation) -> Conversation:
    """For a provider with `tools: false`: no tools, and no history of their use.

    Thoughts go with the calls they led to: nothing else needs them back.
    """
    turns = [
        replace(turn, blocks=_without(turn.blocks, ToolUse, ToolResult, Thinking))
        for turn in conversation.turns
    ]
    return replace(
        conversation,
        turns=alternating(turns),
        tools=(),
        natives=(),
        tool_choice=None,
        parallel_tool_calls=None,
    )


def without_images(conversation: Conversation) -> Conversation:
    """For a provider with `image: false`: no pictures, in tool results neither."""
    turns = [
        replace(
            turn,
            blocks=tuple(
                replace(
                    block,
                    content=tuple(part for part in block.content if not isinstance(part, Image)),
                )
                if isinstance(block, ToolResult)
                else block
                for block in _without(turn.blocks, Image)
            ),
        )
        for turn in conversation.turns
    ]
    return replace(conversation, turns=alternating(turns))


def _without(blocks: Sequence[Block], *kinds: type[Block]) -> tuple[Block, ...]:
    return tuple(block for block in blocks if not isinstance(block, kinds))
