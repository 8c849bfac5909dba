"""What a scripted answer says: the words, the chunks and the JSON body, without times or bytes."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from uniapi.codec import Json, JsonObject, dumps
from uniapi.demo.behaviour import (
    ANSWER_ID,
    CREATED,
    PROMPT_TOKENS,
    Behaviour,
    Fault,
    Prefill,
    error_body,
)

_TOKEN: Final = re.compile(r"\s*\S+|\s+\Z")


@dataclass(frozen=True, slots=True)
class Ask:
    """All that an answer depends on, beside the behaviour.

    Attributes:
        model: the name asked for.
        stream: the client wants server-sent events.
        include_usage: the client wants the usage chunk.
        prefill: the text of the assistant message the conversation ends with, or None.
        fixed: a JSON text to answer instead of a chat completion.
    """

    model: str = ""
    stream: bool = False
    include_usage: bool = False
    prefill: str | None = None
    fixed: bytes = b""


def error_said(how: Behaviour, status: int) -> bytes:
    """The body of an error."""
    if how.error is not None:
        return how.error
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return error_body(f"scripted failure {status}", type=kind)


def tokens(ask: Ask, how: Behaviour) -> list[JsonObject]:
    """The deltas of the answer, in order, one a token."""
    thought: list[JsonObject] = [{"reasoning_content": t} for t in _TOKEN.findall(how.reasoning)]
    if how.tools:
        return thought + [delta for i, call in enumerate(how.tools) for delta in _call(i, *call)]
    return thought + [{"content": token} for token in _TOKEN.findall(spoken(ask, how))]


def spoken(ask: Ask, how: Behaviour) -> str:
    """The text of this answer: what is left of it when the conversation holds its beginning."""
    text = how.text
    if how.tokens is not None:
        text = " ".join(itertools.islice(itertools.cycle(text.split()), how.tokens))
    if how.prefill is Prefill.CONTINUE and ask.prefill:
        return text.removeprefix(ask.prefill)
    return text


def _call(index: int, name: str, arguments: str) -> Iterator[JsonObject]:
    """A tool call as deltas: who it is, then its arguments eight characters at a time."""
    who: JsonObject = {"name": name, "arguments": ""}
    whole: JsonObject = {"index": index, "id": f"call_{index}", "type": "function", "function": who}
    yield {"tool_calls": [whole]}
    for start in range(0, len(arguments), 8):
        part: JsonObject = {"arguments": arguments[start : start + 8]}
        yield {"tool_calls": [{"index": index, "function": part}]}


def completion(ask: Ask, how: Behaviour) -> JsonObject:
    """The JSON answer; its text equals what the stream would say."""
    if how.fault is Fault.ONLY_DONE:
        return _envelope(ask, how, "chat.completion", [])
    message: JsonObject = {"role": "assistant", "content": None if how.tools else spoken(ask, how)}
    if how.reasoning:
        message["reasoning_content"] = how.reasoning
    if how.tools:
        message["tool_calls"] = [
            {"id": f"call_{i}", "type": "function", "function": {"name": n, "arguments": a}}
            for i, (n, a) in enumerate(how.tools)
        ]
    choice: JsonObject = {"index": 0, "message": message, "finish_reason": finish_reason(how)}
    whole = _envelope(ask, how, "chat.completion", [choice])
    return whole | {"usage": _usage(len(tokens(ask, how)))}


def finish_reason(how: Behaviour) -> str:
    """Why the answer ends."""
    return how.finish or ("tool_calls" if how.tools else "stop")


def _usage(said: int) -> JsonObject:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": said,
        "total_tokens": PROMPT_TOKENS + said,
    }


def _envelope(ask: Ask, how: Behaviour, kind: str, choices: list[Json]) -> JsonObject:
    model = how.model or ask.model
    return {
        "id": ANSWER_ID,
        "object": kind,
        "created": CREATED,
        "model": model,
        "choices": choices,
    }


def chat_chunk(ask: Ask, how: Behaviour, delta: JsonObject, finish: str | None = None) -> bytes:
    """One chunk of a stream as JSON bytes."""
    choice: JsonObject = {"index": 0, "delta": delta, "finish_reason": finish}
    return dumps(_envelope(ask, how, "chat.completion.chunk", [choice]))


def usage_chunk(ask: Ask, how: Behaviour) -> bytes:
    """The chunk that comes when `include_usage` was asked for."""
    chunk = _envelope(ask, how, "chat.completion.chunk", [])
    return dumps(chunk | {"usage": _usage(len(tokens(ask, how)))})
