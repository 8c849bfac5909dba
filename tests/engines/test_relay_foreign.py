"""Embeddings and pictures of Google and Cohere, asked and answered in OpenAI's words."""

from __future__ import annotations

import base64
import struct

import pytest

from tests.kit.replies import form
from tests.kit.world import config_of
from uniapi.codec import Json, JsonObject, dumps, loads
from uniapi.config.types import Channel, Secret
from uniapi.engines.base import Recipient, Relay
from uniapi.engines.registry import engine_for
from uniapi.errors import ApiError, Failure, Kind
from uniapi.multipart import parse
from uniapi.relay import EMBEDDINGS, IMAGE_EDITS, IMAGES, MODERATIONS, RelayRequest

GEMINI = "base_url: https://generativelanguage.googleapis.com/v1beta"
VERTEX = "project_id: proj, region: us-central1"
GOOGLE = "https://generativelanguage.googleapis.com/v1beta/models"
CLOUD = (
    "https://us-central1-aiplatform.googleapis.com/v1/projects/proj/locations/us-central1"
    "/publishers/google/models"
)
COHERE = "base_url: https://api.cohere.com/v2/chat"


def relayed(provider: str, model: str, request: RelayRequest) -> Relay | None:
    config = config_of(
        f"providers:\n  - {{provider: p, model: [{model}], {provider}}}\n"
        "api_keys:\n  - api: sk-client-0000\n"
    )
    channel = Channel(config.providers[0], model, model)
    engine = engine_for(channel.provider, model)
    assert engine is not None
    return engine.relay(request, Recipient(channel, Secret("key-1"), now=1700.5))


def asked(provider: str, model: str, endpoint: str, **fields: Json) -> Relay:
    stream = fields.get("stream") is True
    request = RelayRequest(endpoint, model, {"model": model, **fields}, stream=stream)
    relay = relayed(provider, model, request)
    assert relay is not None
    return relay


def translated(relay: Relay, answer: Json) -> Json | Failure:
    assert relay.translate is not None
    made = relay.translate(dumps(answer))
    return made if isinstance(made, Failure) else loads(made)


def listed(*vectors: Json, model: str, tokens: int) -> Json:
    data: list[Json] = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(vectors)
    ]
    usage: Json = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


# Embeddings: provider, model, URL, body of two texts with 2 dimensions, answer with 5 tokens.
EMBEDS: dict[str, tuple[str, str, str, Json, JsonObject]] = {
    "gemini": (
        GEMINI,
        "gemini-embedding-001",
        f"{GOOGLE}/gemini-embedding-001:batchEmbedContents",
        {
            "requests": [
                {
                    "model": "models/gemini-embedding-001",
                    "content": {"parts": [{"text": text}]},
                    "outputDimensionality": 2,
                }
                for text in ("a", "b")
            ]
        },
        {
            "embeddings": [{"values": [0.5, 1]}, {"values": [-2, 0.25]}],
            "usageMetadata": {"promptTokenCount": 5},
        },
    ),
    "vertex": (
        VERTEX,
        "text-embedding-005",
        f"{CLOUD}/text-embedding-005:predict",
        {
            "instances": [{"content": "a"}, {"content": "b"}],
            "parameters": {"outputDimensionality": 2},
        },
        {
            "predictions": [
                {"embeddings": {"values": [0.5, 1], "statistics": {"token_count": 2.0}}},
                {"embeddings": {"values": [-2, 0.25], "statistics": {"token_count": 3}}},
            ]
        },
    ),
    "cohere": (
        COHERE,
        "embed-v4.0",
        "https://api.cohere.com/v2/embed",
        {
            "model": "embed-v4.0",
            "texts": ["a", "b"],
            "input_type": "search_document",
            "embedding_types": ["float"],
            "output_dimension": 2,
        },
        {
            "embeddings": {"float": [[0.5, 1], [-2, 0.25]]},
            "meta": {"billed_units": {"input_tokens": 5}},
        },
    ),
}


@pytest.mark.parametrize("name", EMBEDS)
def test_embeddings_are_asked_and_answered_by(name: str) -> None:
    provider, model, url, body, answer = EMBEDS[name]
    relay = asked(provider, model, EMBEDDINGS, input=["a", "b"], dimensions=2, user="u")
    assert (relay.call.method, relay.call.url) == ("POST", url)
    assert loads(relay.call.body) == body
    assert relay.call.notes == ("user",)
    assert "key-1" in dict(relay.call.headers).get("x-goog-api-key", "") or (
        dict(relay.call.headers)["authorization"] == "Bearer key-1"
    )
    assert translated(relay, answer) == listed([0.5, 1], [-2, 0.25], model=model, tokens=5)


@pytest.mark.parametrize("name", EMBEDS)
def test_embeddings_come_packed_where_the_client_wants_that(name: str) -> None:
    provider, model, _, _, answer = EMBEDS[name]
    relay = asked(provider, model, EMBEDDINGS, input=["a", "b"], encoding_format="base64")
    match translated(relay, answer):
        case {"data": [{"embedding": str(first)}, {"embedding": str(second)}]}:
            packed = [struct.unpack("<2f", base64.b64decode(each)) for each in (first, second)]
            assert packed == [(0.5, 1), (-2, 0.25)]
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize("name", EMBEDS)
@pytest.mark.parametrize("fields", [{"input": [1, 2]}, {"input": "a", "dimensions": "x"}])
def test_what_cannot_be_embedded_is_named(name: str, fields: JsonObject) -> None:
    provider, model, *_ = EMBEDS[name]
    with pytest.raises(ApiError) as caught:
        asked(provider, model, EMBEDDINGS, **fields)
    assert (caught.value.status, caught.value.param) == (400, list(fields)[-1])


@pytest.mark.parametrize("name", EMBEDS)
@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"embeddings": [{"values": [1]}], "predictions": []},
        {"embeddings": {"float": [[1]]}, "predictions": [{}]},
        {
            "embeddings": [{"values": []}, {"values": "x"}],
            "predictions": [{"embeddings": {"values": []}}, {"embeddings": {"values": [None]}}],
        },
        {"embeddings": {"float": [[True], [1]]}},
        [],
    ],
)
def test_what_is_no_list_of_embeddings_is_none(name: str, broken: Json) -> None:
    provider, model, *_ = EMBEDS[name]
    relay = asked(provider, model, EMBEDDINGS, input=["a", "b"])
    assert relay.translate is not None
    with pytest.raises(ValueError, match=r"."):
        relay.translate(dumps(broken))


@pytest.mark.parametrize("tokens", [-1, 10**400, "5", None])
def test_tokens_that_count_nothing_do_not_spoil_an_embedding(tokens: Json) -> None:
    relay = asked(VERTEX, "gemini-embedding-001", EMBEDDINGS, input="a")
    found: Json = {"values": [1], "statistics": {"token_count": tokens}}
    answer: Json = {"predictions": [{"embeddings": found}]}
    assert translated(relay, answer) == listed([1], model="gemini-embedding-001", tokens=0)


@pytest.mark.parametrize("name", ["gemini", "vertex"])
def test_an_error_with_200_is_googles_error(name: str) -> None:
    provider, model, *_ = EMBEDS[name]
    relay = asked(provider, model, EMBEDDINGS, input="a")
    error: Json = {"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}
    found = translated(relay, error)
    assert isinstance(found, Failure)
    assert (found.kind, found.status) == (Kind.RATE_LIMIT, 429)


@pytest.mark.parametrize(
    ("provider", "model", "task"),
    [
        (GEMINI, "gemini-embedding-001", {"task_type": "RETRIEVAL_QUERY"}),
        (VERTEX, "text-embedding-005", {"task_type": "RETRIEVAL_QUERY"}),
        (COHERE, "embed-v4.0", {"input_type": "search_query", "truncate": "END"}),
    ],
)
def test_what_the_embeddings_are_for_goes_through(
    provider: str, model: str, task: JsonObject
) -> None:
    body = asked(provider, model, EMBEDDINGS, input="a", **task).call.body
    assert all(str(value).encode() in body for value in task.values())


def painted(*parts: Json, **more: Json) -> Json:
    usage: Json = {"promptTokenCount": 7, "candidatesTokenCount": 90, "totalTokenCount": 100}
    return {"candidates": [{"content": {"parts": list(parts)}, **more}], "usageMetadata": usage}


PNG: Json = {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}


@pytest.mark.parametrize(
    ("provider", "url"),
    [
        (GEMINI, f"{GOOGLE}/gemini-2.5-flash-image"),
        (
            VERTEX,
            f"{CLOUD}/gemini-2.5-flash-image",
        ),
    ],
)
def test_gemini_paints(provider: str, url: str) -> None:
    relay = asked(
        provider, "gemini-2.5-flash-image", IMAGES, prompt="a cat", size="1536x1024", quality="hd"
    )
    assert relay.call.url == f"{url}:generateContent"
    assert loads(relay.call.body) == {
        "contents": [{"role": "user", "parts": [{"text": "a cat"}]}],
        "generationConfig": {
            "responseModalities": ["TEXT", "IMAGE"],
            "imageConfig": {"aspectRatio": "3:2"},
        },
    }
    assert relay.call.notes == ("quality",)
    draft: Json = {"thought": True, "inlineData": {"mimeType": "image/png", "data": "no"}}
    assert translated(relay, painted(draft, {"text": "Here:"}, PNG)) == {
        "created": 1700,
        "data": [{"b64_json": "QUJD"}],
        "output_format": "png",
        "usage": {"input_tokens": 7, "output_tokens": 93, "total_tokens": 100},
    }


def test_a_picture_comes_as_an_address_where_one_was_asked_for() -> None:
    relay = asked(GEMINI, "gemini-2.5-flash-image", IMAGES, prompt="p", response_format="url")
    match translated(relay, painted(PNG)):
        case {"data": [{"url": str(url)}]}:
            assert url == "data:image/png;base64,QUJD"
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (painted({"text": "I will not."}, finishReason="IMAGE_SAFETY"), Kind.POLICY, "I will not."),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, Kind.POLICY, "blocked: SAFETY"),
        (painted({"text": "a cat"}, finishReason="STOP"), Kind.REQUEST, "in words: a cat"),
        ({"candidates": [{"finishReason": "NO_IMAGE"}]}, Kind.REQUEST, "no picture"),
        (
            {"error": {"code": 503, "message": "over", "status": "UNAVAILABLE"}},
            Kind.GARBAGE,
            "over",
        ),
    ],
)
def test_why_there_is_no_picture(answer: Json, kind: Kind, said: str) -> None:
    found = translated(asked(GEMINI, "gemini-2.5-flash-image", IMAGES, prompt="p"), answer)
    assert isinstance(found, Failure)
    assert found.kind is kind
    assert said in found.message


def edit(*parts: tuple[str, bytes]) -> RelayRequest:
    read = parse("multipart/form-data; boundary=B", form("B", *parts, filename="a.png"))
    return RelayRequest(IMAGE_EDITS, "m", dict(read.texts()), read)


def test_gemini_is_shown_the_pictures_of_a_form() -> None:
    request = edit(("image[]", b"one"), ("image[]", b"two"), ("prompt", b"mix"), ("n", b"1"))
    relay = relayed(GEMINI, "gemini-2.5-flash-image", request)
    assert relay is not None
    match loads(relay.call.body):
        case {"contents": [{"parts": list(parts)}]}:
            shown = [base64.b64encode(data).decode() for data in (b"one", b"two")]
            assert parts == [
                {"inlineData": {"mimeType": "image/png", "data": shown[0]}},
                {"inlineData": {"mimeType": "image/png", "data": shown[1]}},
                {"text": "mix"},
            ]
        case other:
            raise AssertionError(other)


def test_gemini_is_shown_the_pictures_of_a_json_request() -> None:
    listed: Json = [{"image_url": "data:image/WEBP;base64,QUJD"}]
    relay = asked(GEMINI, "gemini-2.5-flash-image", IMAGE_EDITS, prompt="p", images=listed)
    assert b'{"inlineData":{"mimeType":"image/webp","data":"QUJD"}}' in relay.call.body


@pytest.mark.parametrize(
    ("endpoint", "fields", "param"),
    [
        (IMAGES, {"n": 2}, "n"),
        (IMAGES, {"stream": True}, "stream"),
        (IMAGES, {"size": "big"}, "size"),
        (IMAGES, {"size": "0x5"}, "size"),
        (IMAGES, {"size": [1024, 1024]}, "size"),
        (IMAGE_EDITS, {"mask": {"file_id": "x"}}, "mask"),
        (IMAGE_EDITS, {"images": [{"image_url": "https://x/y.png"}]}, "images"),
        (IMAGE_EDITS, {"images": [{"file_id": "x"}]}, "images"),
    ],
)
def test_what_gemini_cannot_honour_is_named(endpoint: str, fields: JsonObject, param: str) -> None:
    with pytest.raises(ApiError) as caught:
        asked(GEMINI, "gemini-2.5-flash-image", endpoint, prompt="p", **fields)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_mask_in_a_form_is_not_passed_over() -> None:
    with pytest.raises(ApiError) as caught:
        relayed(GEMINI, "gemini-image", edit(("image", b"x"), ("mask", b"y"), ("prompt", b"p")))
    assert caught.value.param == "mask"


@pytest.mark.parametrize("provider", [GEMINI, VERTEX])
def test_imagen_paints(provider: str) -> None:
    model = "imagen-4.0-generate-001"
    relay = asked(provider, model, IMAGES, prompt="a cat", n=2, size="1792x1024")
    assert relay.call.url.endswith(f"/models/{model}:predict")
    assert loads(relay.call.body) == {
        "instances": [{"prompt": "a cat"}],
        "parameters": {"sampleCount": 2, "includeRaiReason": True, "aspectRatio": "16:9"},
    }
    filtered: Json = {"raiFilteredReason": "not that"}
    picture: Json = {"bytesBase64Encoded": "QUJD", "mimeType": "image/jpeg"}
    assert translated(relay, {"predictions": [picture, filtered]}) == {
        "created": 1700,
        "data": [{"b64_json": "QUJD"}],
        "output_format": "jpeg",
    }
    refused = translated(relay, {"predictions": [filtered]})
    assert isinstance(refused, Failure)
    assert (refused.kind, refused.message) == (Kind.POLICY, "not that")
    nothing = translated(relay, {})
    assert isinstance(nothing, Failure)
    assert nothing.kind is Kind.REQUEST


@pytest.mark.parametrize(
    ("size", "gemini", "imagen"),
    [
        ("1024x1024", "1:1", "1:1"),
        ("1024x1536", "2:3", "3:4"),
        ("1024x1792", "9:16", "9:16"),
        ("4000x1000", "21:9", "16:9"),
        ("auto", None, None),
    ],
)
def test_a_size_becomes_the_nearest_ratio(
    size: str, gemini: str | None, imagen: str | None
) -> None:
    def ratio(model: str) -> str | None:
        body = asked(GEMINI, model, IMAGES, prompt="p", size=size).call.body
        match loads(body):
            case {"generationConfig": {"imageConfig": {"aspectRatio": str(found)}}}:
                return found
            case {"parameters": {"aspectRatio": str(found)}}:
                return found
            case _:
                return None

    assert (ratio("gemini-2.5-flash-image"), ratio("imagen-4.0")) == (gemini, imagen)


@pytest.mark.parametrize(
    ("provider", "model", "endpoint"),
    [
        (GEMINI, "gemini-2.5-flash", MODERATIONS),
        (GEMINI, "imagen-4.0", IMAGE_EDITS),
        (COHERE, "command-a", IMAGES),
        (VERTEX, "claude-sonnet-4", EMBEDDINGS),
    ],
)
def test_what_is_not_offered(provider: str, model: str, endpoint: str) -> None:
    request = RelayRequest(endpoint, model, {"model": model, "input": "x", "prompt": "p"})
    assert relayed(provider, model, request) is None
