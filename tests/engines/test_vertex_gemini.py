"""Who speaks Gemini, where its models are listed, and what refusals mean."""

from __future__ import annotations

import pytest

from uniapi import codec
from uniapi.codec import Json
from uniapi.config.types import Channel, Provider, Secret
from uniapi.engines.base import Recipient
from uniapi.engines.gemini import Gemini
from uniapi.engines.openai import OpenAI
from uniapi.engines.registry import engine_for
from uniapi.engines.vertex_gemini import VertexGemini
from uniapi.errors import Kind

GOOGLE = "https://generativelanguage.googleapis.com"
CLOUD = Provider("v", project_id="proj", client_email="a@b", private_key=Secret("pem"))


@pytest.mark.parametrize(
    ("base_url", "claim"),
    [
        (f"{GOOGLE}/v1beta", 3),
        (f"{GOOGLE}/v1", 3),
        (GOOGLE, 3),
        (f"{GOOGLE}/v1beta/openai/", 0),
        (f"{GOOGLE}/v1beta/openai/chat/completions", 0),
        ("https://proxy.example/v1beta", 2),
        ("https://proxy.example/v1beta/models/", 2),
        ("https://gateway.ai.cloudflare.com/v1/a/g/google-ai-studio/v1beta", 2),
        ("https://proxy.example/v1", 0),
        ("https://proxy.example/v1beta1", 0),
    ],
)
def test_gemini_is_known_by_host_or_path_never_by_the_model(base_url: str, claim: int) -> None:
    provider = Provider("g", base_url=base_url)
    for model in ("gemini-2.5-pro", "gpt-4o", "claude-x", ""):
        assert Gemini().claims(provider, model) == claim
    engine = engine_for(provider, "gemini-2.5-pro")
    assert isinstance(engine, Gemini if claim else OpenAI) or base_url.endswith("/openai/")


def test_vertex_serves_two_publishers_and_this_engine_all_but_claude() -> None:
    engine = VertexGemini()
    assert engine.claims(CLOUD, "gemini-2.5-pro") == 3
    assert engine.claims(CLOUD, "") == 3
    assert engine.claims(CLOUD, "claude-sonnet-4-5@20250929") == 0
    assert engine_for(CLOUD, "gemini-2.5-pro") is not None


def to(provider: Provider, key: str | None = "KEY") -> Recipient:
    return Recipient(Channel(provider, "", ""), None if key is None else Secret(key))


def test_models_are_listed_on_one_page() -> None:
    call = Gemini().catalogue(to(Provider("g", base_url=f"{GOOGLE}/v1beta/models?x=1")))
    assert call is not None
    assert (call.method, call.url) == ("GET", f"{GOOGLE}/v1beta/models?x=1&pageSize=1000")
    assert dict(call.headers)["x-goog-api-key"] == "KEY"


def test_without_a_key_none_is_shown() -> None:
    call = Gemini().catalogue(to(Provider("g", base_url=GOOGLE), None))
    assert call is not None
    assert "x-goog-api-key" not in dict(call.headers)


def test_a_vertex_listing_names_who_pays() -> None:
    call = VertexGemini().catalogue(to(CLOUD, "token"))
    assert call is not None
    assert call.url == (
        "https://aiplatform.googleapis.com/v1beta1/publishers/google/models?pageSize=1000"
    )
    shown = dict(call.headers)
    assert shown["authorization"] == "Bearer token"
    assert shown["x-goog-user-project"] == "proj"


def test_only_models_that_chat_are_listed() -> None:
    listing: Json = {
        "models": [
            {"name": "models/gemini-2.5-pro", "supportedGenerationMethods": ["generateContent"]},
            {"name": "models/embedding-001", "supportedGenerationMethods": ["embedContent"]},
            {"name": "models/gemini-2.5-pro", "supportedGenerationMethods": ["generateContent"]},
            {"name": "models/of-a-proxy"},
            {"nameless": True},
        ]
    }
    assert Gemini().models(codec.dumps(listing)) == ("gemini-2.5-pro", "of-a-proxy")


def test_of_vertex_models_those_of_gemini_are_listed() -> None:
    listing: Json = {
        "publisherModels": [
            {"name": "publishers/google/models/gemini-2.5-flash", "versionId": "default"},
            {"name": "publishers/google/models/imagen-4.0"},
            "nonsense",
        ]
    }
    assert VertexGemini().models(codec.dumps(listing)) == ("gemini-2.5-flash",)
    assert VertexGemini().models(b"{}") == ()


@pytest.mark.parametrize("engine", [Gemini(), VertexGemini()])
@pytest.mark.parametrize("body", [b"[]", b'{"data":[]}', b"<html>"])
def test_what_is_no_listing_is_said_to_be_none(engine: Gemini, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a list of models|Expecting value"):
        engine.models(body)


def test_tokens_are_granted_to_service_accounts_only() -> None:
    engine = VertexGemini()
    assert engine.grant(Provider("v", project_id="p"), 0) is None
    token, seconds = engine.granted(b'{"access_token":"ya29.t","expires_in":3599}')
    assert (token.reveal(), seconds) == ("ya29.t", 3599.0)
    assert Gemini().grant(CLOUD, 0) is None


def test_both_of_googles_shapes_of_errors_are_read() -> None:
    engine = VertexGemini()
    oauth = b'{"error":"invalid_grant","error_description":"Invalid JWT Signature."}'
    assert engine.failure(400, {}, oauth).kind is Kind.KEY
    found = engine.failure(429, {}, b'[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}]')
    assert (found.kind, found.code) == (Kind.RATE_LIMIT, "RESOURCE_EXHAUSTED")
    page = engine.failure(502, {}, b"<html>")
    assert (page.kind, page.message) == (Kind.SERVER, "HTTP 502")


@pytest.mark.parametrize("delay", ["soon", "s", "-1s", "", 5])
def test_a_wait_that_is_none_is_none(delay: Json) -> None:
    error: Json = {"error": {"code": 429, "message": "m", "details": [{"retryDelay": delay}, 1]}}
    assert Gemini().failure(429, {}, codec.dumps(error)).retry_after is None
