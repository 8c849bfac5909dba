"""Claude on Vertex beyond its recorded traffic: who serves which model, media, listings, tokens."""

from __future__ import annotations

import pytest

from uniapi.chat import ChatRequest
from uniapi.codec import Json
from uniapi.config.types import Channel, Provider, Secret
from uniapi.engines.anthropic import Anthropic
from uniapi.engines.base import Recipient
from uniapi.engines.registry import engine_for
from uniapi.engines.vertex_anthropic import VertexAnthropic
from uniapi.engines.vertex_gemini import VertexGemini

ENGINE = VertexAnthropic()
VERTEX = Provider("v", project_id="my-project", client_email="bot@example.org")


@pytest.mark.parametrize("engine", [None, "vertex"])
@pytest.mark.parametrize(
    "provider", [{"project_id": "my-project"}, {"base_url": "https://aiplatform.googleapis.com"}]
)
def test_one_provider_serves_both_publishers_by_model(
    provider: dict[str, str], engine: str | None
) -> None:
    vertex = Provider("v", engine=engine, **provider)  # type: ignore[arg-type]  # names of strings
    assert isinstance(engine_for(vertex, "claude-sonnet-4-5@20250929"), VertexAnthropic)
    assert isinstance(engine_for(vertex, "gemini-2.5-flash"), VertexGemini)


def test_vertex_behind_any_proxy_is_vertex_when_the_config_says_so() -> None:
    proxy = Provider("v", "https://proxy.example/google", engine="vertex")
    assert isinstance(engine_for(proxy, "claude-opus-4-1"), VertexAnthropic)
    assert isinstance(engine_for(proxy, "gemini-2.5-flash"), VertexGemini)


def test_claude_elsewhere_is_not_vertex() -> None:
    direct = Provider("c", "https://api.anthropic.com/v1/messages")
    found = engine_for(direct, "claude-sonnet-4-5")
    assert isinstance(found, Anthropic)
    assert not isinstance(found, VertexAnthropic)


def test_every_address_is_asked_for_once() -> None:
    urls = ["https://a.example/1.png", "http://a.example/2.png", "https://a.example/1.png"]
    parts: list[Json] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    chat = ChatRequest("m", {"model": "m", "messages": [{"role": "user", "content": parts}]})
    channel = Channel(VERTEX, "claude-sonnet-4-5", "m")
    assert ENGINE.needs(chat, channel) == tuple(urls[:2])


def test_the_listing_is_anthropics_part_of_the_garden() -> None:
    call = ENGINE.catalogue(Recipient(Channel(VERTEX, "", ""), Secret("ya29.token")))
    assert call is not None
    assert "/publishers/anthropic/models?" in call.url
    assert ("x-goog-user-project", "my-project") in call.headers
    listing = (
        b'{"publisherModels":[{"name":"publishers/anthropic/models/claude-opus-4-1"},{"name":"x"}]}'
    )
    assert ENGINE.models(listing) == ("claude-opus-4-1",)
    assert ENGINE.models(b"{}") == ()
    with pytest.raises(ValueError, match="not a list"):
        ENGINE.models(b"[]")


def test_a_key_needs_no_grant() -> None:
    assert ENGINE.grant(Provider("v", project_id="p", keys=(Secret("AQ.key"),)), 0) is None
    token, seconds = ENGINE.granted(b'{"access_token":"ya29.t","expires_in":3599}')
    assert (token.reveal(), seconds) == ("ya29.t", 3599)
