"""Asking Gemini in tests: a request's fields in, the call or its body out."""

from __future__ import annotations

from typing import Any

from uniapi import codec
from uniapi.chat import ChatRequest
from uniapi.config.types import Channel, Provider, Secret
from uniapi.engines.base import Call, Engine, Media, Recipient
from uniapi.engines.gemini import Gemini
from uniapi.engines.vertex_gemini import VertexGemini

STUDIO = Provider("g", base_url="https://generativelanguage.googleapis.com/v1beta")
CLOUD = Provider("v", project_id="proj")
HI: Any = [{"role": "user", "content": "Hi"}]


def ask(
    *,
    model: str = "gemini-2.5-flash",
    name: str | None = None,
    provider: Provider = STUDIO,
    media: dict[str, Media] | None = None,
    stream: bool = False,
    **fields: Any,
) -> Call:
    chat = ChatRequest(model, {"messages": HI, **fields}, stream=stream)
    engine: Engine = VertexGemini() if provider.project_id else Gemini()
    to = Recipient(Channel(provider, model, name or model), Secret("KEY"), media=media or {})
    return engine.encode(chat, to)


def body(**asked: Any) -> Any:
    return codec.loads(ask(**asked).body)


def config(**asked: Any) -> Any:
    return body(**asked).get("generationConfig")


def parts(content: Any, **asked: Any) -> Any:
    return body(messages=[{"role": "user", "content": content}], **asked)["contents"][0]["parts"]
