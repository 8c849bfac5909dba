"""What of a conversation a provider may have."""

from __future__ import annotations

from uniapi.chat import ChatRequest
from uniapi.config.types import Provider
from uniapi.conversation import Conversation
from uniapi.conversation.read import conversation
from uniapi.conversation.reshape import without_images, without_tools


def fitted(chat: ChatRequest, provider: Provider) -> Conversation:
    """The conversation as far as the provider may have it (`tools: false`, `image: false`)."""
    found = conversation(chat)
    if not provider.tools:
        found = without_tools(found)
    return found if provider.image else without_images(found)
