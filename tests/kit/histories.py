"""Conversations as clients send them, and any well-formed one as a hypothesis strategy."""

from __future__ import annotations

from hypothesis import strategies as st

from uniapi.chat import ChatRequest
from uniapi.codec import Json
from uniapi.conversation import Conversation, ToolUse
from uniapi.conversation.read import conversation

PNG = "data:image/png;base64,iVBORw0KGgo="
ADD: dict[str, Json] = {"type": "function", "function": {"name": "add", "parameters": {}}}


def read(*messages: Json, **fields: Json) -> Conversation:
    whole: dict[str, Json] = {"model": "m", "messages": list(messages), **fields}
    return conversation(ChatRequest("m", whole))


def user(content: Json, **more: Json) -> dict[str, Json]:
    return {"role": "user", "content": content, **more}


def use(identity: str) -> ToolUse:
    """The call of `calls`, read."""
    return ToolUse(identity, f"f_{identity}")


def calls(*ids: str, content: Json = None, **more: Json) -> dict[str, Json]:
    made: list[Json] = [
        {"id": each, "type": "function", "function": {"name": f"f_{each}", "arguments": "{}"}}
        for each in ids
    ]
    return {"role": "assistant", "content": content, "tool_calls": made, **more}


def result(identity: str, content: Json = "done") -> dict[str, Json]:
    return {"role": "tool", "tool_call_id": identity, "content": content}


_words = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
_text_parts = st.builds(lambda text: {"type": "text", "text": text}, _words)
_content = st.one_of(_words, st.none(), st.lists(_text_parts, max_size=3))


@st.composite
def histories(draw: st.DrawFn) -> list[Json]:
    """Any well-formed list of messages: results in any order, with anything said in between."""
    messages: list[Json] = []
    waiting: list[str] = []
    made = 0
    for _ in range(draw(st.integers(0, 10))):
        kind = draw(st.sampled_from(["system", "user", "assistant", "calls", "result"]))
        if kind == "calls":
            ids = [f"c{made + i}" for i in range(draw(st.integers(1, 3)))]
            made += len(ids)
            waiting += ids
            messages.append(calls(*ids, content=draw(_content)))
        elif kind == "result" and waiting:
            one = waiting.pop(draw(st.integers(0, len(waiting) - 1)))
            messages.append(result(one, draw(_content)))
        elif kind != "result":
            messages.append({"role": kind, "content": draw(_content)})
    order = draw(st.permutations(waiting))
    return messages + [result(one, draw(_content)) for one in order]
