"""What the golden cases cannot say of Bedrock: botocore accepts the calls, URLs survive the way."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import botocore.session  # type: ignore[import-untyped] # ships no types
import httpx
import pytest
from botocore.serialize import create_serializer  # type: ignore[import-untyped] # as above
from botocore.validate import ParamValidator  # type: ignore[import-untyped] # as above

from tests.kit.golden import Case, cases, named
from uniapi.chat import ChatRequest
from uniapi.codec import Json, dumps, loads
from uniapi.config.types import Channel, Provider, Secret
from uniapi.engines.base import Call, Recipient
from uniapi.engines.bedrock import Bedrock
from uniapi.engines.bedrock_decoder import BedrockDecoder
from uniapi.engines.registry import engine_for
from uniapi.errors import ApiError, Kind
from uniapi.events import Finish, Start, StreamFailed, Text, ToolCall
from uniapi.framing import framer

ENGINE = Bedrock()
KEYED = Provider(
    "p",
    aws_access_key=Secret("AKIDEXAMPLE"),
    aws_secret_key=Secret("secret-secret"),
    aws_region="eu-west-1",
)
MODEL = "anthropic.claude-3-5-sonnet-20241022-v2:0"
HI: dict[str, Json] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
ASKED = [case for case in cases("aws") if not (case.folder / "refused.json").exists()]
BODIED = [case for case in ASKED if b'"output"' in (case.body or b"")]
STREAMED = [case for case in ASKED if case.stream is not None]
START = Start("chatcmpl-x", "m", 1)


@pytest.fixture(scope="module")
def service() -> Any:
    """Bedrock's runtime as botocore's own model describes it."""
    return botocore.session.Session().get_service_model("bedrock-runtime")


def ask(
    provider: Provider = KEYED, *, key: str | None = None, stream: bool = False, **fields: Json
) -> Call:
    chat = ChatRequest("m", {**HI, **fields}, stream=stream)
    secret = Secret(key) if key is not None else None
    return ENGINE.encode(chat, Recipient(Channel(provider, MODEL, "m"), secret, now=1_700_000_000))


@named(ASKED)
def test_botocore_takes_every_golden_call_for_its_own(case: Case, service: Any) -> None:
    call = case.call()
    verb = "ConverseStream" if call.framing == "eventstream" else "Converse"
    operation = service.operation_model(verb)
    body: Any = loads(call.body)
    given = {"modelId": case.channel.upstream, **body}
    report = ParamValidator().validate(given, operation.input_shape)
    assert not report.has_errors(), report.generate_report()
    built = create_serializer("rest-json").serialize_to_request(given, operation)
    assert call.method == built["method"]
    assert httpx.URL(call.url).raw_path.decode() == built["url_path"]
    # Bytes are base64 already here, and botocore encodes them once more: all else is the same.
    assert without_bytes(loads(built["body"])) == without_bytes(body)


def without_bytes(value: Json) -> Json:
    match value:
        case dict():
            return {k: without_bytes(v) for k, v in value.items() if k not in BLOBS}
        case list():
            return [without_bytes(each) for each in value]
        case _:
            return value


BLOBS = {"bytes", "redactedContent"}


@named(BODIED)
def test_the_golden_bodies_are_what_the_service_may_send(case: Case, service: Any) -> None:
    body: Any = loads(case.body or b"")
    shape = service.operation_model("Converse").output_shape
    report = ParamValidator().validate(body, shape)
    assert not report.has_errors(), report.generate_report()


@named(STREAMED)
def test_the_golden_streams_are_what_the_service_may_send(case: Case, service: Any) -> None:
    shape = service.operation_model("ConverseStream").output_shape.members["stream"]
    for frame in framer("eventstream").feed(case.stream or b""):
        event: Any = loads(frame)
        if "error" in event:
            continue
        for payload in event.values():
            payload.pop("p", None)  # padding, which no model of the service mentions
        report = ParamValidator().validate(event, shape)
        assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize("stream", [False, True])
def test_the_signed_url_is_the_one_that_is_asked(stream: bool) -> None:
    call = ask(stream=stream)
    request = httpx.Request(call.method, call.url, headers=list(call.headers), content=call.body)
    verb = "converse-stream" if stream else "converse"
    escaped = MODEL.replace(":", "%3A")
    assert request.url.raw_path == f"/model/{escaped}/{verb}".encode()
    assert request.headers["host"] == "bedrock-runtime.eu-west-1.amazonaws.com"
    assert "SignedHeaders=content-type;host;x-amz-date," in request.headers["authorization"]


def test_the_signature_is_over_the_body_as_overridden() -> None:
    plain = dict(ask().headers)["authorization"]
    preferences = replace(KEYED.preferences, post_body_parameter_overrides={"top": 1})
    changed = ask(replace(KEYED, preferences=preferences))
    assert loads(changed.body) == {**as_object(ask().body), "top": 1}
    assert dict(changed.headers)["authorization"] != plain


def as_object(data: bytes) -> dict[str, Json]:
    value = loads(data)
    assert isinstance(value, dict)
    return value


def test_an_api_key_is_a_bearer_where_there_are_no_aws_keys() -> None:
    keyless = Provider("p", engine="aws", aws_region="ap-south-1")
    call = ask(keyless, key="ABSKexample")
    assert dict(call.headers)["authorization"] == "Bearer ABSKexample"
    assert call.url.startswith("https://bedrock-runtime.ap-south-1.amazonaws.com/model/")
    assert "x-amz-date" not in dict(call.headers)
    assert "AWS4-HMAC-SHA256" in dict(ask(key="ABSKexample").headers)["authorization"]
    assert "authorization" not in dict(ask(keyless).headers)


def test_a_proof_the_config_brings_is_left_alone() -> None:
    preferences = replace(KEYED.preferences, headers=(("Authorization", "Mine"),))
    headers = dict(ask(replace(KEYED, preferences=preferences)).headers)
    assert headers["authorization"] == "Mine"
    assert "x-amz-date" not in headers


@pytest.mark.parametrize(
    ("base_url", "region", "scope"),
    [
        (None, None, "us-east-1"),
        (None, "eu-west-3", "eu-west-3"),
        ("https://bedrock-runtime.sa-east-1.amazonaws.com", None, "sa-east-1"),
        ("https://bedrock-runtime-fips.us-east-2.amazonaws.com/", None, "us-east-2"),
        ("https://vpce-1.bedrock-runtime.us-west-2.vpce.amazonaws.com", None, "us-west-2"),
        ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn", None, "cn-north-1"),
        ("https://bedrock-runtime.sa-east-1.amazonaws.com", "us-west-1", "us-west-1"),
        ("https://proxy.example/aws", None, "us-east-1"),
    ],
)
def test_where_the_region_comes_from(base_url: str | None, region: str | None, scope: str) -> None:
    call = ask(replace(KEYED, base_url=base_url, aws_region=region))
    assert f"/{scope}/bedrock/aws4_request" in dict(call.headers)["authorization"]
    root = (base_url or f"https://bedrock-runtime.{scope}.amazonaws.com").rstrip("/")
    assert call.url.startswith(f"{root}/model/")


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        (Provider("p", base_url="https://bedrock-runtime.us-east-1.amazonaws.com"), "aws"),
        (Provider("p", base_url="https://bedrock-runtime.cn-north-1.amazonaws.com.cn"), "aws"),
        (KEYED, "aws"),
        (replace(KEYED, base_url="https://proxy.example/aws"), "aws"),
        (Provider("p", engine="bedrock"), "aws"),
        (
            Provider(
                "p",
                base_url="https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1/chat/completions",
            ),
            "gpt",
        ),
    ],
)
def test_who_is_spoken_to_in_converse(provider: Provider, name: str) -> None:
    engine = engine_for(provider, "m")
    assert engine is not None
    assert engine.names[0] == name


def test_addresses_are_asked_for_once_each_and_only_where_they_are_sent() -> None:
    def image(url: str) -> Json:
        return {"type": "image_url", "image_url": {"url": url}}

    def call(number: int) -> Json:
        return {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": ""}}

    messages: Json = [
        {"role": "user", "content": [image("https://a/1"), image("data:image/png;base64,AAAA")]},
        {"role": "assistant", "tool_calls": [call(1)]},
        {"role": "tool", "tool_call_id": "c1", "content": [image("https://a/2")]},
        {"role": "user", "content": [image("https://a/1"), image("gs://bucket/3")]},
    ]
    chat = ChatRequest("m", {**HI, "messages": messages})
    assert ENGINE.needs(chat, Channel(KEYED, MODEL, "m")) == ("https://a/1", "https://a/2")
    blind = replace(KEYED, image=False)
    assert ENGINE.needs(chat, Channel(blind, MODEL, "m")) == ()
    handless = replace(KEYED, tools=False)
    assert ENGINE.needs(chat, Channel(handless, MODEL, "m")) == ("https://a/1",)
    with pytest.raises(ApiError) as caught:
        ENGINE.encode(chat, Recipient(Channel(KEYED, MODEL, "m")))
    assert (caught.value.status, caught.value.param) == (
        400,
        "messages[0].content[0].image_url.url",
    )


@pytest.mark.parametrize("frame", [b"{broken", b"[1]", b'{"error":{"type":"x","message":""}}'])
def test_frames_nobody_can_read_are_failures(frame: bytes) -> None:
    match list(BedrockDecoder("eventstream", START).feed([frame, frame]).events):
        case [StreamFailed(failure=failure)]:
            assert (failure.kind, failure.status) == (Kind.GARBAGE, 502)
            assert failure.message
        case other:
            raise AssertionError(other)


def test_events_of_tomorrow_and_crooked_ones_are_passed_over() -> None:
    decoder = BedrockDecoder("eventstream", START)
    frames: list[Json] = [
        {"surprise": {"x": 1}},
        {"contentBlockDelta": {"delta": {"toolUse": {"input": "{}"}}}},
        {"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"text": "Hi"}}},
        {
            "contentBlockDelta": {
                "contentBlockIndex": 2,
                "delta": {"image": {"source": {"bytes": "A"}}},
            }
        },
        {"metadata": {"usage": {"inputTokens": 1}}},
        {"messageStop": {"stopReason": "something_new"}},
        {"messageStop": {"stopReason": "max_tokens"}},
        {"metadata": {}},
    ]
    events = decoder.feed([dumps(frame) for frame in frames]).events
    assert [event for event in events if isinstance(event, Text | Finish | ToolCall)] == [
        Text("Hi"),
        Finish("stop"),
    ]
    assert decoder.finished()


def test_a_block_that_was_never_closed_still_gets_its_arguments() -> None:
    start: Json = {"toolUse": {"toolUseId": "a", "name": "f"}}
    frames = [
        dumps({"contentBlockStart": {"contentBlockIndex": 0, "start": start}}),
        dumps({"messageStop": {"stopReason": "end_turn"}}),
    ]
    decoder = BedrockDecoder("eventstream", START)
    assert decoder.feed(frames).events[1:] == [
        ToolCall(0, "a", "f"),
        ToolCall(0, arguments="{}"),
        Finish("tool_calls"),
    ]
    assert decoder.complete()
    assert not decoder.finished()
    assert decoder.end().events == ()


def test_a_picture_behind_an_address_becomes_bytes() -> None:
    case = next(case for case in cases("aws") if case.name == "aws/media")
    body: Any = loads(case.call().body)
    source = body["messages"][0]["content"][2]["image"]["source"]
    assert base64.b64decode(source["bytes"]) == b"RIFF"
