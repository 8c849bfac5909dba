"""What the golden cases cannot say of Cohere: addresses, claims, the listing, crooked frames."""

from __future__ import annotations

import pytest

from uniapi.chat import ChatRequest
from uniapi.codec import Json, dumps, loads
from uniapi.config.types import Channel, Provider, Secret
from uniapi.engines.base import Recipient
from uniapi.engines.cohere import Cohere
from uniapi.engines.cohere_decoder import CohereDecoder
from uniapi.engines.registry import engine_for
from uniapi.errors import ApiError, Kind
from uniapi.events import Event, Finish, Start, StreamFailed, Text, ToolCall, Usage

ENGINE = Cohere()
START = Start("chatcmpl-x", "m", 1)


def at(base_url: str | None) -> Recipient:
    return Recipient(Channel(Provider("p", base_url=base_url), "m", "m"), Secret("KEY"))


def ask(**fields: Json) -> dict[str, Json]:
    chat = ChatRequest(
        "m", {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    )
    body = loads(ENGINE.encode(chat, at("https://api.cohere.com")).body)
    assert isinstance(body, dict)
    return body


def decode(*frames: Json | bytes) -> list[Event]:
    decoder = CohereDecoder("sse", START)
    given = [frame if isinstance(frame, bytes) else dumps(frame) for frame in frames]
    return [*decoder.feed(given).events, *decoder.end().events]


@pytest.mark.parametrize(
    ("base_url", "root"),
    [
        (None, "https://api.cohere.com"),
        ("https://api.cohere.com", "https://api.cohere.com"),
        ("https://api.cohere.com/v2/chat", "https://api.cohere.com"),
        ("https://api.cohere.ai/v1/chat/", "https://api.cohere.ai"),
        ("https://api.cohere.com/v1", "https://api.cohere.com"),
        ("https://gw.example/x/cohere/v2/chat", "https://gw.example/x/cohere"),
        ("https://gw.example/vault/cohere", "https://gw.example/vault/cohere"),
    ],
)
def test_version_two_is_asked_whatever_is_written(base_url: str | None, root: str) -> None:
    chat = ChatRequest("m", {"messages": [{"role": "user", "content": "Hi"}]})
    assert ENGINE.encode(chat, at(base_url)).url == f"{root}/v2/chat"
    listing = ENGINE.catalogue(at(base_url))
    assert listing is not None
    assert listing.method == "GET"
    assert listing.url == f"{root}/v1/models?endpoint=chat&page_size=1000"
    assert dict(listing.headers)["authorization"] == "Bearer KEY"


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("https://api.cohere.com/v2/chat", "cohere"),
        ("https://api.cohere.ai/v1/chat", "cohere"),
        ("https://api.cohere.com", "cohere"),
        ("https://gw.example/cohere/v2/chat", "cohere"),
        ("https://api.cohere.com/compatibility/v1/chat/completions", "gpt"),
        ("https://api.cohere.ai/compatibility/v1", "gpt"),
        ("https://notapi.cohere.com.example/v1/chat/completions", "gpt"),
    ],
)
def test_who_is_spoken_to_in_cohere(base_url: str, name: str) -> None:
    engine = engine_for(Provider("p", base_url=base_url), "m")
    assert engine is not None
    assert engine.names[0] == name


def test_the_listing_is_read_and_nothing_else_is() -> None:
    body = dumps({"models": [{"name": "command-a"}, {"name": ""}, {}, "x", {"name": "aya"}]})
    assert ENGINE.models(body) == ("command-a", "aya")
    with pytest.raises(ValueError, match="not a list of models"):
        ENGINE.models(b'{"message":"no"}')


def test_a_provider_without_keys_is_asked_without_one() -> None:
    chat = ChatRequest("m", {"messages": [{"role": "user", "content": "Hi"}]})
    channel = Channel(Provider("p", base_url="https://gw.example/v2/chat"), "m", "m")
    assert "authorization" not in dict(ENGINE.encode(chat, Recipient(channel)).headers)


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url", "image_url": {"url": "gs://b/x.png"}}, "image_url.url"),
        ({"type": "file", "file": {"file_id": "f"}}, "file.file_id"),
        ({"type": "file", "file": {"file_data": "data:text/plain;base64,/w=="}}, "file.file_data"),
        ({"type": "file", "file": {"file_data": "data:text/plain;base64,a"}}, "file.file_data"),
    ],
)
def test_what_cohere_cannot_see_is_refused_by_name(part: Json, param: str) -> None:
    with pytest.raises(ApiError) as caught:
        ask(messages=[{"role": "user", "content": [part]}])
    assert (caught.value.status, caught.value.param) == (400, f"messages[0].content[0].{param}")


def test_a_picture_as_a_tools_result_is_refused_by_name() -> None:
    image: Json = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    call: Json = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    with pytest.raises(ApiError) as caught:
        ask(
            messages=[
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c", "content": [image]},
            ]
        )
    assert caught.value.param == "messages[2].content[0].image_url.url"
    with pytest.raises(ApiError) as caught:
        ask(tools=[{"type": "web_search"}])
    assert caught.value.param == "tools[0]"


def test_strictness_needs_something_required_in_every_tool() -> None:
    def tool(strict: bool, **parameters: Json) -> Json:
        return {
            "type": "function",
            "function": {"name": "f", "parameters": parameters, "strict": strict},
        }

    needy = tool(True, type="object", properties={"x": {}}, required=["x"])
    lax = tool(True, type="object", properties={"x": {}})
    assert ask(tools=[needy])["strict_tools"] is True
    assert "strict_tools" not in ask(tools=[needy, lax])
    assert "strict_tools" not in ask(tools=[tool(False, required=["x"])])


@pytest.mark.parametrize("frame", [b"{broken", b"[1]", b'{"message":"no"}', b'{"error":"no"}'])
def test_frames_nobody_can_read_are_failures(frame: bytes) -> None:
    match decode(frame, frame):
        case [StreamFailed(failure=failure)]:
            assert (failure.kind, failure.status) == (Kind.GARBAGE, 502)
        case other:
            raise AssertionError(other)


def test_events_of_tomorrow_and_crooked_ones_are_passed_over() -> None:
    piece: Json = {"function": {"arguments": "{}"}}
    assert decode(
        {"type": "debug", "prompt": "x"},
        {"type": "tool-call-delta", "index": 3, "delta": {"message": {"tool_calls": piece}}},
        {"type": "content-delta", "delta": None},
        {"type": "citation-start", "delta": {"message": {"citations": {"start": 1}}}},
        {"type": "content-delta", "delta": {"message": {"content": {"text": "Hi"}}}},
        {"type": "message-end", "delta": {"finish_reason": "SOMETHING_NEW"}},
        b"[DONE]",
    ) == [START, Text("Hi"), Finish("stop")]


def test_calls_in_a_list_and_with_arguments_at_once_are_read_too() -> None:
    function: Json = {"name": "f", "arguments": '{"x":null}'}
    call: Json = {"id": "c", "type": "function", "function": function}
    assert decode(
        {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": [call]}}},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": {}}},
    ) == [START, ToolCall(0, "c", "f"), ToolCall(0, arguments='{"x":null}'), Finish("tool_calls")]


def test_usage_without_tokens_falls_back_to_what_was_billed() -> None:
    usage: Json = {"billed_units": {"input_tokens": 3.0, "output_tokens": 2.0}}
    events = decode({"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}})
    assert events[-1] == Usage(3, 2, 5, {})
