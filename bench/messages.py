"""A healthy answer in Anthropic's dialect, as steps: the same words as the OpenAI ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from uniapi.codec import Json, JsonObject, dumps
from uniapi.demo.behaviour import PROMPT_TOKENS, Behaviour
from uniapi.demo.completions import Ask, spoken, tokens
from uniapi.demo.script import Step, Then

_JSON_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
)
_SSE_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def messages_answer(ask: Ask, how: Behaviour) -> tuple[Step, ...]:
    """The steps of one answer to `POST /v1/messages`; text only, and never a fault."""
    if ask.stream:
        return tuple(_stream(ask, how))
    message = _message(ask, how, [{"type": "text", "text": spoken(ask, how)}], "end_turn")
    body = dumps(message)
    at = how.delay + how.ttft + how.gap * max(len(tokens(ask, how)) - 1, 0)
    return (Step(at, _JSON_HEAD % len(body) + body, Then.KEEP),)


def _stream(ask: Ask, how: Behaviour) -> Iterator[Step]:
    start = _event("message_start", {"message": _message(ask, how, [], None)})
    block: JsonObject = {"index": 0, "content_block": {"type": "text", "text": ""}}
    yield Step(
        how.delay, _SSE_HEAD + start + _event("content_block_start", block) + _event("ping", {})
    )
    at = how.delay + how.ttft
    for number, token in enumerate(tokens(ask, how)):
        at = how.delay + how.ttft + number * how.gap
        delta: JsonObject = {"type": "text_delta", "text": token.get("content")}
        yield Step(at, _event("content_block_delta", {"index": 0, "delta": delta}))
    end: JsonObject = {
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": len(tokens(ask, how))},
    }
    last = _event("content_block_stop", {"index": 0}) + _event("message_delta", end)
    yield Step(at, last + _event("message_stop", {}) + b"0\r\n\r\n", Then.KEEP)


def _event(kind: str, rest: JsonObject) -> bytes:
    """One server-sent event as one HTTP chunk."""
    data = b"event: %s\ndata: %s\n\n" % (kind.encode(), dumps({"type": kind, **rest}))
    return b"%x\r\n%s\r\n" % (len(data), data)


def _message(ask: Ask, how: Behaviour, content: list[Json], reason: str | None) -> JsonObject:
    said = len(tokens(ask, how)) if content else 1
    return {
        "id": "msg_scripted",
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": said},
    }
