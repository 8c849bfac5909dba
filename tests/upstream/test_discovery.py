"""Providers without `model:` are asked for their own listing, each in its own way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import structlog
import trio
import trio.testing

from tests.kit.logged import line
from tests.kit.world import KEY, World
from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.demo.http1 import Connection
from uniapi.engines.anthropic import Anthropic


@dataclass
class Office:
    """A provider's listings by path, and who came for them.

    Attributes:
        listings: path to status and body.
        keys: what is shown is one of these, or the answer is 401.
        seen: the headers of each request.
    """

    listings: Mapping[str, tuple[int, Json]]
    keys: tuple[str, ...] | None = None
    seen: list[dict[str, str]] = field(default_factory=list)

    async def __call__(self, stream: trio.abc.Stream) -> None:
        connection = Connection(stream)
        while (message := await connection.request()) is not None:
            self.seen.append(message.headers)
            status, said = self.listings.get(message.path, (404, {"error": {"message": "no"}}))
            if self.keys is not None and message.headers.get("x-api-key") not in self.keys:
                status, said = 401, {"error": {"message": "invalid x-api-key"}}
            body = codec.dumps(said)
            head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n"
            assert message.method == "GET"
            await stream.send_all(head.encode() + body)


CLAUDE: Json = {
    "data": [
        {"type": "model", "id": "claude-opus-4-6", "display_name": "Claude Opus 4.6"},
        {"type": "model", "id": "claude-haiku-4-5-20251001", "display_name": "Claude Haiku 4.5"},
    ],
    "has_more": False,
    "first_id": "claude-opus-4-6",
    "last_id": "claude-haiku-4-5-20251001",
}
GEMINI: Json = {
    "models": [
        {
            "name": "models/gemini-2.5-pro",
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        },
        {"name": "models/gemini-embedding-001", "supportedGenerationMethods": ["embedContent"]},
        {"name": "models/gemini-2.5-flash", "supportedGenerationMethods": ["generateContent"]},
    ]
}
GARDEN: Json = {
    "publisherModels": [
        {"name": "publishers/google/models/gemini-2.5-pro", "versionId": "default"},
        {"name": "publishers/google/models/imagen-4.0-generate-001", "versionId": "default"},
    ]
}
GUESTS: Json = {
    "publisherModels": [
        {"name": "publishers/anthropic/models/claude-sonnet-4-5", "versionId": "20250929"}
    ]
}
COHERE: Json = {
    "models": [
        {"name": "command-a-03-2025", "endpoints": ["chat"]},
        {"name": "command-r7b-12-2024", "endpoints": ["chat", "summarize"]},
    ]
}
CLOUDFLARE: Json = {
    "success": True,
    "errors": [],
    "result": [
        {"id": "1", "name": "@cf/meta/llama-3.1-8b-instruct", "task": {"name": "Text Generation"}},
        {"id": "2", "name": "@cf/qwen/qwq-32b", "task": {"name": "Text Generation"}},
    ],
}
PLAIN: Json = {"object": "list", "data": [{"id": "gpt-4o"}, {"id": "o3"}, {"id": "gpt-4o"}]}
GITHUB: Json = [{"id": "azureml://x", "name": "Phi-4"}, {"name": "gpt-4o-mini"}]

GARDENS = "/v1beta1/publishers/{}/models"
CASES: dict[str, tuple[JsonObject, str, Mapping[str, Json], list[str], str]] = {
    # name: entry, host, listings, models, the header that shows the key
    "claude": (
        {"base_url": "https://api.anthropic.com/v1/messages", "api": "k"},
        "api.anthropic.com",
        {"/v1/models": CLAUDE},
        ["claude-opus-4-6", "claude-haiku-4-5-20251001"],
        "x-api-key",
    ),
    "gemini": (
        {"base_url": "https://generativelanguage.googleapis.com/v1beta", "api": "k"},
        "generativelanguage.googleapis.com",
        {"/v1beta/models": GEMINI},
        ["gemini-2.5-pro", "gemini-2.5-flash"],
        "x-goog-api-key",
    ),
    "vertex": (
        {"base_url": "https://aiplatform.googleapis.com", "api": "k"},
        "aiplatform.googleapis.com",
        {GARDENS.format("google"): GARDEN, GARDENS.format("anthropic"): GUESTS},
        ["gemini-2.5-pro", "claude-sonnet-4-5"],
        "x-goog-api-key",
    ),
    "cohere": (
        {"base_url": "https://api.cohere.com/v2/chat", "api": "k"},
        "api.cohere.com",
        {"/v1/models": COHERE},
        ["command-a-03-2025", "command-r7b-12-2024"],
        "authorization",
    ),
    "cloudflare": (
        {"cf_account_id": "acc", "api": "k"},
        "api.cloudflare.com",
        {"/client/v4/accounts/acc/ai/models/search": CLOUDFLARE},
        ["@cf/meta/llama-3.1-8b-instruct", "@cf/qwen/qwq-32b"],
        "authorization",
    ),
    "gpt": (
        {"base_url": "https://api.openai.com/v1/chat/completions", "api": "k"},
        "api.openai.com",
        {"/v1/models": PLAIN},
        ["gpt-4o", "o3"],
        "authorization",
    ),
    "groq": (
        {"base_url": "https://api.groq.com/openai/v1/chat/completions", "api": "k"},
        "api.groq.com",
        {"/openai/v1/models": PLAIN},
        ["gpt-4o", "o3"],
        "authorization",
    ),
    "openrouter": (
        {"base_url": "https://openrouter.ai/api/v1/chat/completions", "api": "k"},
        "openrouter.ai",
        {"/api/v1/models": PLAIN},
        ["gpt-4o", "o3"],
        "authorization",
    ),
    "azure": (
        {"base_url": "https://my.openai.azure.com/openai/v1/chat/completions", "api": "k"},
        "my.openai.azure.com",
        {"/openai/v1/models": PLAIN},
        ["gpt-4o", "o3"],
        "api-key",
    ),
    "github": (
        {"base_url": "https://models.inference.ai.azure.com/chat/completions", "api": "k"},
        "models.inference.ai.azure.com",
        {"/models": GITHUB},
        ["Phi-4", "gpt-4o-mini"],
        "authorization",
    ),
}


def started(world: World, entry: JsonObject, host: str, office: Office) -> None:
    world.network.servers[host] = office
    config: JsonObject = {
        "providers": [{"provider": "p", **entry}],
        "api_keys": [{"api": KEY}],
    }
    world.start(codec.dumps(config).decode())
    world.nursery.start_soon(world.gateway.discovery.run)


async def listed(world: World) -> list[str]:
    """What a client is told; it waits for nobody."""
    await trio.testing.wait_all_tasks_blocked()
    answer = (await world.get("/v1/models")).json()
    match answer:
        case {"data": list(entries)}:
            return [str(entry["id"]) for entry in entries if isinstance(entry, dict)]
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize("name", CASES)
async def test_a_provider_lists_its_models_in_its_own_way(
    name: str, world: World, autojump_clock: trio.testing.MockClock
) -> None:
    entry, host, listings, models, header = CASES[name]
    office = Office({path: (200, body) for path, body in listings.items()})
    started(world, entry, host, office)
    assert await listed(world) == models
    assert len(office.seen) == len(listings)
    for seen in office.seen:
        assert seen[header] in {"k", "Bearer k"}
    await trio.sleep(1799)
    assert len(office.seen) == len(listings)
    await trio.sleep(6)
    assert len(office.seen) == 2 * len(listings), "half an hour later it is asked again"


@pytest.mark.parametrize("absent", ["google", "anthropic"])
async def test_of_two_listings_one_is_enough(
    absent: str, world: World, autojump_clock: trio.testing.MockClock
) -> None:
    entry, host, listings, models, _ = CASES["vertex"]
    office = Office(
        {path: (403 if absent in path else 200, body) for path, body in listings.items()}
    )
    started(world, entry, host, office)
    assert await listed(world) == [m for m in models if ("claude" in m) == (absent == "google")]


async def test_a_key_that_is_refused_is_followed_by_the_next(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    entry, host, _, models, _ = CASES["claude"]
    office = Office({"/v1/models": (200, CLAUDE)}, keys=("good",))
    started(world, {**entry, "api": ["old", "older", "good"]}, host, office)
    assert await listed(world) == models
    assert [seen["x-api-key"] for seen in office.seen] == ["old", "older", "good"]


@pytest.mark.parametrize(
    ("status", "body", "reason", "asked"),
    [
        (500, {"error": {"message": "oops"}}, "HTTP 500: oops", 1),
        (403, {"error": {"message": "no"}}, "HTTP 403: no", 2),
        (200, {"hello": "world"}, "the listing cannot be read: not a list of models", 1),
    ],
)
async def test_a_listing_that_fails_is_tried_again_in_a_minute(
    status: int,
    body: Json,
    reason: str,
    asked: int,
    world: World,
    autojump_clock: trio.testing.MockClock,
) -> None:
    entry, host, _, models, _ = CASES["claude"]
    listings: dict[str, tuple[int, Json]] = {"/v1/models": (status, body)}
    office = Office(listings)
    with structlog.testing.capture_logs() as logs:
        started(world, {**entry, "api": ["k-one", "k-two"]}, host, office)
        assert await listed(world) == []
    failed = line(logs, "discovery.failed")
    assert (failed["provider"], failed["reason"]) == ("p", reason)
    assert len(office.seen) == asked
    listings["/v1/models"] = (200, CLAUDE)
    await trio.sleep(66)
    assert await listed(world) == models


async def test_who_has_no_listing_says_what_to_write(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    office = Office({})
    with structlog.testing.capture_logs() as logs:
        started(world, {"base_url": "http://x.openai.azure.com"}, "azure.example", office)
        assert await listed(world) == []
    failed = line(logs, "discovery.failed")
    assert failed["reason"] == "this provider has no listing: write its models under `model:`"
    assert office.seen == []


async def test_a_bug_in_reading_one_listing_ends_neither_the_gateway_nor_the_others(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(self: Anthropic, body: bytes) -> list[str]:
        raise LookupError("nobody thought of that")

    monkeypatch.setattr(Anthropic, "models", stumble)
    entry, host, _, models, _ = CASES["claude"]
    office = Office({"/v1/models": (200, CLAUDE)})
    with structlog.testing.capture_logs() as logs:
        started(world, entry, host, office)
        assert await listed(world) == []
    assert line(logs, "discovery.crashed")["provider"] == "p"
    assert line(logs, "discovery.failed")["reason"] == "the listing could not be read: see the log"
    monkeypatch.undo()
    await trio.sleep(66)
    assert await listed(world) == models
