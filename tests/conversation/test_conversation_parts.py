"""Every kind of part, and what is none."""

from __future__ import annotations

import base64

import pytest

from tests.kit.histories import read, user
from uniapi.codec import Json
from uniapi.conversation import Audio, File, Image, Inline, Refusal, Remote, Text, Uploaded


def block(part: Json) -> object:
    return read(user([part])).turns[0].blocks[0]


def test_refusals_are_kept_as_part_and_as_field() -> None:
    part: Json = {"type": "refusal", "refusal": "no"}
    found = read({"role": "assistant", "content": [part], "refusal": "never"})
    assert found.turns[0].blocks == (Refusal("no"), Refusal("never"))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"type": "text", "text": "t"}, Text("t")),
        (
            {"type": "image_url", "image_url": {"url": "https://a.b/c.png", "detail": "low"}},
            Image(Remote("https://a.b/c.png"), "low", None, "messages[0].content[0].image_url.url"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "DATA:Image/PNG;charset=x;Base64,AA\nBB"}},
            Image(Inline("image/png", "AABB"), param="messages[0].content[0].image_url.url"),
        ),
        (
            {"type": "image_url", "image_url": "data:image/svg+xml,%3Csvg/%3E"},
            Image(
                Inline("image/svg+xml", base64.b64encode(b"<svg/>").decode()),
                param="messages[0].content[0].image_url",
            ),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
            Audio("UklG", "wav", param="messages[0].content[0].input_audio"),
        ),
        (
            {
                "type": "input_audio",
                "input_audio": {"data": "data:a/b;base64,UA==", "format": "mp3"},
            },
            Audio("UA==", "mp3", param="messages[0].content[0].input_audio"),
        ),
        (
            {
                "type": "file",
                "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
            },
            File(
                Inline("application/pdf", "JVBE"),
                "a.pdf",
                param="messages[0].content[0].file.file_data",
            ),
        ),
        (
            {"type": "file", "file": {"file_id": "file-1"}},
            File(Uploaded("file-1"), param="messages[0].content[0].file.file_id"),
        ),
        (
            {"type": "video_url", "video_url": {"url": "gs://bucket/film.mp4"}},
            File(Remote("gs://bucket/film.mp4"), param="messages[0].content[0].video_url.url"),
        ),
    ],
)
def test_every_kind_of_part_is_read(part: Json, expected: object) -> None:
    assert block(part) == expected
