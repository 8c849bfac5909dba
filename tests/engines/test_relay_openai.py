"""Where the OpenAI-format engines find the endpoints other than chat."""

from __future__ import annotations

import pytest

from tests.kit.world import config_of
from uniapi.codec import dumps, loads
from uniapi.config.types import Channel, Secret
from uniapi.engines.base import Recipient, Relay
from uniapi.engines.registry import engine_for
from uniapi.relay import EMBEDDINGS, ENDPOINTS, IMAGES, SPEECH, TRANSCRIPTIONS, RelayRequest

AZURE = "https://r.openai.azure.com/openai"
KEYS = "api_keys:\n  - api: sk-client-0000\n"


def relayed(provider: str, endpoint: str) -> Relay | None:
    config = config_of(f"providers:\n  - {{provider: p, model: [{{up: m}}], {provider}}}\n{KEYS}")
    channel = Channel(config.providers[0], "up", "m")
    engine = engine_for(channel.provider, "up")
    assert engine is not None
    request = RelayRequest(endpoint, "m", {"model": "m", "input": "x", "prompt": "p"})
    return engine.relay(request, Recipient(channel, Secret("key-1")))


@pytest.mark.parametrize(
    ("provider", "endpoint", "url"),
    [
        (
            "base_url: https://api.openai.com/v1/chat/completions",
            EMBEDDINGS,
            "https://api.openai.com/v1/embeddings",
        ),
        ("base_url: https://api.openai.com/v1", SPEECH, "https://api.openai.com/v1/audio/speech"),
        (
            "base_url: https://x/v1/images/generations",
            IMAGES,
            "https://x/v1/images/generations",
        ),
        (
            "base_url: https://api.groq.com/openai/v1/chat/completions",
            TRANSCRIPTIONS,
            "https://api.groq.com/openai/v1/audio/transcriptions",
        ),
        (
            "base_url: https://openrouter.ai/api/v1/chat/completions",
            EMBEDDINGS,
            "https://openrouter.ai/api/v1/embeddings",
        ),
        (
            "base_url: https://models.github.ai/inference/chat/completions",
            EMBEDDINGS,
            "https://models.github.ai/inference/embeddings",
        ),
        (
            "cf_account_id: acc",
            EMBEDDINGS,
            "https://api.cloudflare.com/client/v4/accounts/acc/ai/v1/embeddings",
        ),
        (
            "base_url: https://r.openai.azure.com",
            EMBEDDINGS,
            "https://r.openai.azure.com/openai/deployments/up/embeddings?api-version=2024-10-21",
        ),
        (
            "base_url: https://r.openai.azure.com, api_version: 2025-04-01-preview",
            IMAGES,
            f"{AZURE}/deployments/up/images/generations?api-version=2025-04-01-preview",
        ),
        (
            "base_url: https://r.openai.azure.com/openai/v1/chat/completions",
            SPEECH,
            "https://r.openai.azure.com/openai/v1/audio/speech",
        ),
        (
            "base_url: 'https://r.openai.azure.com/openai/deployments/e/embeddings?api-version=1'",
            EMBEDDINGS,
            "https://r.openai.azure.com/openai/deployments/e/embeddings?api-version=1",
        ),
        (
            "base_url: https://r.services.ai.azure.com/models",
            EMBEDDINGS,
            "https://r.services.ai.azure.com/models/embeddings?api-version=2024-10-21",
        ),
    ],
)
def test_an_endpoint_is_beside_the_one_that_was_written(
    provider: str, endpoint: str, url: str
) -> None:
    relay = relayed(provider, endpoint)
    assert relay is not None
    assert relay.call.url == url
    assert relay.translate is None
    assert loads(relay.call.body) == {"model": "up", "input": "x", "prompt": "p"}
    shown = {"authorization": "Bearer key-1", "api-key": "key-1"}
    assert set(relay.call.headers) & set(shown.items())


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    "provider",
    [
        "base_url: https://api.anthropic.com/v1/messages",
        "aws_access_key: AKIA000000, aws_secret_key: s00000, aws_region: us-east-1",
    ],
)
def test_who_speaks_chat_alone_offers_nothing_else(provider: str, endpoint: str) -> None:
    assert relayed(provider, endpoint) is None


def test_what_the_attempt_sends_leaves_the_request_as_it_was() -> None:
    config = config_of(
        "providers:\n  - {provider: p, model: [{up: m}], base_url: 'https://x/v1'}\n" + KEYS
    )
    channel = Channel(config.providers[0], "up", "m")
    engine = engine_for(channel.provider, "up")
    assert engine is not None
    request = RelayRequest(EMBEDDINGS, "m", {"model": "m", "input": ["x"]})
    before = dumps(dict(request.fields))
    engine.relay(request, Recipient(channel))
    assert dumps(dict(request.fields)) == before
