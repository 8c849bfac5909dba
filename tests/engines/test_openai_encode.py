"""What leaves for an OpenAI-format server."""

from __future__ import annotations

from uniapi.chat import ChatRequest
from uniapi.codec import Json, loads
from uniapi.config.types import Channel, ModelName, Provider
from uniapi.engines.base import Recipient
from uniapi.engines.openai import OpenAI


def sent(messages: Json) -> Json:
    provider = Provider("p", "https://a/v1/chat/completions", models=(ModelName("m", "m"),))
    chat = ChatRequest("m", {"model": "m", "messages": messages})
    body = loads(OpenAI().encode(chat, Recipient(Channel(provider, "m", "m"))).body)
    assert isinstance(body, dict)
    return body["messages"]


def test_another_providers_signature_does_not_travel_in_tool_call_ids() -> None:
    def history(identity: str) -> Json:
        return [
            {"role": "user", "content": "look"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": identity,
                        "type": "function",
                        "function": {"name": "look", "arguments": "{}"},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": identity, "content": "a tree"},
        ]

    assert sent(history("call_1_sig_" + "QUJD" * 500)) == history("call_1")
    assert sent(history("call_1")) == history("call_1")
