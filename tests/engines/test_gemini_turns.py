"""What Gemini is told: turns in the order it checks, media, signatures."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.gemini import CLOUD, HI, STUDIO, body, parts
from uniapi.chat import ChatRequest
from uniapi.config.types import Channel, Provider
from uniapi.engines.base import Media
from uniapi.engines.gemini import Gemini
from uniapi.errors import ApiError

PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "image_url", "image_url": {"url": PNG}}, ("image/png", "iVBORw0KGgo=")),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            ("audio/mp3", "AAAA"),
        ),
        (
            {"type": "file", "file": {"file_data": "data:;base64,AAAA", "filename": "a.PDF"}},
            ("application/pdf", "AAAA"),
        ),
        (
            {
                "type": "file",
                "file": {"file_data": "data:text/csv;base64,AAAA", "filename": "a.pdf"},
            },
            ("text/csv", "AAAA"),
        ),
        (
            {"type": "video_url", "video_url": {"url": "data:video/webm;base64,AAAA"}},
            ("video/webm", "AAAA"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://e.example/a.webp?x=1"}},
            ("image/webp", "eA=="),
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://e.example/b"}},
            ("image/jpeg", "eA=="),
        ),
    ],
)
def test_media_go_within_the_request(part: Any, said: tuple[str, str]) -> None:
    fetched = {
        "https://e.example/a.webp?x=1": Media("application/octet-stream", b"x"),
        "https://e.example/b": Media("", b"x"),
    }
    kind, data = said
    assert parts([part], media=fetched) == [{"inlineData": {"mimeType": kind, "data": data}}]


def file(identity: str) -> Any:
    return {"type": "file", "file": {"file_id": identity}}


@pytest.mark.parametrize(
    ("provider", "part", "said"),
    [
        (
            STUDIO,
            file("files/a-b"),
            {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/a-b"},
        ),
        (
            CLOUD,
            file("gs://b/x.mp3"),
            {"fileUri": "gs://b/x.mp3", "mimeType": "audio/mp3"},
        ),
        (
            CLOUD,
            {"type": "image_url", "image_url": {"url": "gs://b/x"}},
            {"fileUri": "gs://b/x", "mimeType": "image/jpeg"},
        ),
        (
            STUDIO,
            {"type": "video_url", "video_url": {"url": "https://youtu.be/x"}},
            {"fileUri": "https://youtu.be/x", "mimeType": "video/mp4"},
        ),
    ],
)
def test_what_google_has_already_goes_by_its_address(
    provider: Provider, part: Any, said: Any
) -> None:
    assert parts([part], provider=provider) == [{"fileData": said}]


@pytest.mark.parametrize(
    ("provider", "part", "param"),
    [
        (STUDIO, file("file-abc"), "file.file_id"),
        (STUDIO, file("gs://b/x"), "file.file_id"),
        (CLOUD, file("files/a-b"), "file.file_id"),
        (STUDIO, {"type": "image_url", "image_url": {"url": "gs://b/x"}}, "image_url.url"),
        (
            STUDIO,
            {"type": "image_url", "image_url": {"url": "https://gone.example"}},
            "image_url.url",
        ),
    ],
)
def test_media_that_mean_nothing_to_google_are_refused_by_name(
    provider: Provider, part: Any, param: str
) -> None:
    with pytest.raises(ApiError) as raised:
        parts([part], provider=provider)
    assert (raised.value.status, raised.value.param) == (400, f"messages[0].content[0].{param}")


def test_addresses_that_gemini_does_not_fetch_are_asked_for_once_each() -> None:
    def image(url: str) -> Any:
        return {"type": "image_url", "image_url": {"url": url}}

    messages: Any = [
        {"role": "user", "content": [image("https://a.example/1"), image(PNG), image("gs://b/c")]},
        {"role": "assistant", "tool_calls": [call("c1", "find")]},
        {"role": "tool", "tool_call_id": "c1", "content": [image("http://b.example/2")]},
        {"role": "user", "content": [image("https://a.example/1"), image("https://youtu.be/x")]},
    ]
    chat = ChatRequest("m", {"messages": messages})
    wanted = ("https://a.example/1", "http://b.example/2")
    assert Gemini().needs(chat, Channel(STUDIO, "m", "m")) == wanted
    blind = Provider("g", base_url=STUDIO.base_url, image=False)
    assert Gemini().needs(chat, Channel(blind, "m", "m")) == ()


def call(identity: str, name: str, arguments: str = "{}", **more: Any) -> Any:
    return {
        "id": identity,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
        **more,
    }


def test_a_turn_of_results_holds_nothing_else_and_pictures_follow_it() -> None:
    made = body(
        messages=[
            *HI,
            {"role": "assistant", "tool_calls": [call("c1", "find")]},
            {
                "role": "tool",
                "tool_call_id": "c1",
                "content": [
                    {"type": "text", "text": "1e999"},
                    {"type": "image_url", "image_url": {"url": PNG}},
                ],
            },
            {"role": "user", "content": "Well?"},
        ]
    )
    assert made["contents"][2:] == [
        {
            "role": "user",
            "parts": [{"functionResponse": {"name": "find", "response": {"result": "1e999"}}}],
        },
        {
            "role": "user",
            "parts": [
                {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
                {"text": "Well?"},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("content", "response"),
    [
        ('{"a":1}', {"a": 1}),
        ("[1]", {"result": [1]}),
        ("42", {"result": "42"}),
        ("null", {"result": "null"}),
        ("", {"result": ""}),
        ('{"a":1e999}', {"result": '{"a":1e999}'}),
        ('{"a":"\\ud800"}', {"result": '{"a":"\\ud800"}'}),
    ],
)
def test_a_result_is_an_object_or_wrapped_in_one(content: str, response: Any) -> None:
    made = body(
        messages=[
            *HI,
            {"role": "assistant", "tool_calls": [call("c1", "find")]},
            {"role": "tool", "tool_call_id": "c1", "content": content},
        ]
    )
    assert made["contents"][2]["parts"][0]["functionResponse"]["response"] == response


def signatures(model: str, *calls: Any) -> list[Any]:
    made = body(
        model=model,
        messages=[
            *HI,
            {"role": "assistant", "content": "I look.", "tool_calls": list(calls)},
            *({"role": "tool", "tool_call_id": each["id"], "content": ""} for each in calls),
        ],
    )
    return [part.get("thoughtSignature") for part in made["contents"][1]["parts"]]


def test_signatures_come_back_from_the_id_or_from_googles_own_field() -> None:
    extra: Any = {"extra_content": {"google": {"thought_signature": "QUJD"}}}
    found = signatures("gemini-3-pro", call("c1_sig_REVG", "find"), call("c2", "find", **extra))
    assert found == [None, "REVG", "QUJD"]


def test_only_gemini_3_needs_a_stand_in_and_only_for_the_first_call() -> None:
    plain = (call("toolu_1", "find"), call("toolu_2", "find"))
    stand_in = "skip_thought_signature_validator"
    assert signatures("gemini-3-flash-preview", *plain) == [None, stand_in, None]
    assert signatures("gemini-2.5-pro", *plain) == [None, None, None]


def test_thoughts_are_not_sent_back_and_a_turn_of_nothing_else_is_no_turn() -> None:
    made = body(
        messages=[
            *HI,
            {"role": "assistant", "content": "", "reasoning_content": "Hm."},
            {"role": "user", "content": "Well?"},
        ]
    )
    assert made["contents"] == [{"role": "user", "parts": [{"text": "Hi"}, {"text": "Well?"}]}]


def test_the_first_turn_is_the_users_and_a_refusal_is_text() -> None:
    made = body(messages=[{"role": "assistant", "content": None, "refusal": "No."}, *HI])
    assert made["contents"] == [
        {"role": "user", "parts": [{"text": " "}]},
        {"role": "model", "parts": [{"text": "No."}]},
        {"role": "user", "parts": [{"text": "Hi"}]},
    ]
