"""One chat request, parsed once at the edge and never changed after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from uniapi.codec import Json


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """An OpenAI chat completion request.

    Attributes:
        model: the name the client asked for.
        fields: the whole request as it came, `model` and `stream` included. Nobody changes it:
            every attempt builds its own body from it, so nothing leaks from one into the next.
        stream: the client wants server-sent events.
        include_usage: the client wants the usage chunk at the end of the stream.
        size: bytes of the request body.
    """

    model: str
    fields: Mapping[str, Json]
    stream: bool = False
    include_usage: bool = False
    size: int = 0

    def last_user_text(self) -> str:
        """The text of the last user message, or an empty string: what moderation looks at."""
        messages = self.fields.get("messages")
        for message in reversed(messages if isinstance(messages, list) else []):
            if not isinstance(message, dict) or message.get("role") != "user":
                continue
            match message.get("content"):
                case str() as text:
                    return text
                case list() as parts:
                    texts = [part.get("text") for part in parts if isinstance(part, dict)]
                    return "\n".join(text for text in texts if isinstance(text, str))
                case _:
                    return ""
        return ""

    def continues_assistant(self) -> bool:
        """Whether the conversation ends with an assistant turn, so that an empty answer is one."""
        messages = self.fields.get("messages")
        if not isinstance(messages, list) or not messages:
            return False
        last = messages[-1]
        return isinstance(last, dict) and last.get("role") == "assistant"
