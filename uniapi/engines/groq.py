"""Groq: OpenAI's dialect with usage in a field of its own, and a few fields it refuses."""

from __future__ import annotations

from typing import Final

from uniapi.chat import ChatRequest
from uniapi.codec import Json, JsonObject
from uniapi.config.types import Provider
from uniapi.engines.base import Decoder
from uniapi.engines.openai import OpenAI
from uniapi.engines.openai_decoder import OpenAIDecoder
from uniapi.engines.urls import host_of
from uniapi.errors import ApiError
from uniapi.events import Start
from uniapi.framing import Framing

_REFUSED: Final = ("logprobs", "top_logprobs", "logit_bias")


class Groq(OpenAI):
    """`https://api.groq.com/openai/v1/chat/completions`."""

    names: tuple[str, ...] = ("groq",)

    def claims(self, provider: Provider, upstream: str) -> int:  # noqa: ARG002 - by host only
        """Groq's own host."""
        return 3 if host_of(provider).endswith("groq.com") else 0

    def decoder(self, chat: ChatRequest, framing: Framing, default: Start) -> Decoder:
        """The common decoder, which also looks for usage where Groq puts it."""
        return GroqDecoder(chat, framing, default)

    def shape(
        self,
        body: JsonObject,
        provider: Provider,  # noqa: ARG002 - the same for every account
    ) -> tuple[JsonObject, tuple[str, ...]]:
        """The body without what Groq answers 400 to; `n` above 1 is refused here.

        Raises:
            ApiError: for several choices, which Groq does not give.
        """
        n = body.get("n")
        if isinstance(n, int) and n > 1:
            raise ApiError(400, "n: this provider gives one choice", "unsupported", param="n")
        dropped = tuple(name for name in _REFUSED if name in body)
        slim = {name: value for name, value in body.items() if name not in _REFUSED}
        messages = slim.get("messages")
        if isinstance(messages, list):
            slim["messages"] = [_nameless(message) for message in messages]
        return slim, dropped


def _nameless(message: Json) -> Json:
    if isinstance(message, dict) and "name" in message:
        return {key: value for key, value in message.items() if key != "name"}
    return message


class GroqDecoder(OpenAIDecoder):
    """Usage comes as `x_groq.usage` on the finish chunk, always."""

    def usage_in(self, answer: JsonObject) -> JsonObject | None:
        """The usage object of a frame."""
        match answer.get("usage"), answer.get("x_groq"):
            case dict(usage), _:
                return usage
            case _, {"usage": dict(usage)}:
                return usage
            case _:
                return None
