"""Asking a model to go on with an answer that another began.

The conversation gets what was said as the assistant's turn, and a user's turn after it. A
conversation that ends with the assistant's own words (a prefill) is shorter and surer where a
model continues it, and many do not: they answer 400, or begin anew. So that form is for engines
that know their model does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from uniapi.chat import ChatRequest
from uniapi.codec import Json

# The repeated words show where the seam is, and whether a space belongs there.
ASK: Final = (
    "Your answer broke off. Go on from exactly where it stops: begin with its last few words as "
    "they stand there, then say the rest, so that both parts read as one answer. Do not start "
    "over, and do not comment on this."
)
_THINKING: Final = ("thinking", "reasoning", "reasoning_effort")  # no prefill beside these


def resumed(chat: ChatRequest, said: str, *, continues: bool) -> ChatRequest:
    """The same request after `said`; `continues` when the model goes on with a prefill."""
    messages = chat.fields.get("messages")
    turns: list[Json] = list(messages) if isinstance(messages, list) else []
    turns.append({"role": "assistant", "content": said})
    # Anthropic refuses a prefill that ends in white space.
    if not continues or said[-1:].isspace() or any(chat.fields.get(name) for name in _THINKING):
        turns.append({"role": "user", "content": ASK})
    return replace(chat, fields={**chat.fields, "messages": turns})


def may_be_resumed(chat: ChatRequest) -> bool:
    """Whether a stream of this request is text that somebody else could go on with."""
    fields = chat.fields
    plain = fields.get("response_format") in (None, {"type": "text"})
    asks_for_more = any(fields.get(name) for name in ("tools", "functions", "logprobs", "audio"))
    one = fields.get("n") in (None, 1)
    return chat.stream and plain and one and not asks_for_more and not chat.continues_assistant()
