"""What an answer is made of, whoever gave it.

The grammar every decoder obeys, per choice:

    answer = Start? (Text | Reasoning | ToolCall | Extra)* Finish Usage?

`StreamFailed` may stand in place of anything and is then the last. Events are small frozen
values; a `Batch` carries all the events of one upstream read, because a hop through a memory
channel costs more (6 us) than the events themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from uniapi.codec import Json, JsonObject
from uniapi.errors import Failure

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class Start:
    """The upstream's own id, model and creation time (unix seconds), as far as it gave them."""

    id: str = ""
    model: str = ""
    created: int = 0


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the visible answer."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's thinking, shown to clients as `reasoning_content`."""

    text: str
    choice: int = 0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A piece of a tool call.

    Attributes:
        index: counts tool calls of this choice from 0.
        id: given once, with the first piece.
        name: given once, with the first piece.
        arguments: a fragment; all fragments of a call concatenate to one JSON text.
        choice: which of the `n` answers.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Extra:
    """Fields of a message that are not modelled: logprobs, annotations, audio, refusal, images.

    Attributes:
        fields: merged into the delta (or message) as they are.
        beside: merged into the choice itself, beside the delta (`logprobs`).
        choice: which of the `n` answers.
    """

    fields: JsonObject = field(default_factory=dict)
    beside: JsonObject = field(default_factory=dict)
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Finish:
    """One choice is complete."""

    reason: FinishReason
    choice: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, in OpenAI's sense: prompt includes cached, completion includes reasoning.

    Attributes:
        prompt: prompt tokens.
        completion: completion tokens.
        total: the provider's total, which need not be the sum.
        detail: the rest of the usage object as the client will see it.
    """

    prompt: int = 0
    completion: int = 0
    total: int = 0
    detail: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamFailed:
    """The answer cannot be completed; nothing follows."""

    failure: Failure


Event: TypeAlias = Start | Text | Reasoning | ToolCall | Extra | Finish | Usage | StreamFailed


@dataclass(frozen=True, slots=True)
class Batch:
    """All that one upstream read brought.

    Attributes:
        events: in the order they were said.
        wire: the same events as bytes of the client's own dialect and form, ready to send; None
            when they must be rendered from `events`.
    """

    events: Sequence[Event]
    wire: bytes | None = None
