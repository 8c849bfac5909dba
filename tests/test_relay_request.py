"""What is known of a request that is relayed."""

from __future__ import annotations

import pytest

from uniapi.codec import Json
from uniapi.relay import EMBEDDINGS, IMAGES, SPEECH, TRANSCRIPTIONS, RelayRequest, texts


@pytest.mark.parametrize(
    ("endpoint", "wanted", "stream", "whole"),
    [
        (EMBEDDINGS, None, False, True),
        (IMAGES, "url", False, True),
        (IMAGES, None, True, False),
        (SPEECH, "mp3", False, False),
        (TRANSCRIPTIONS, None, False, True),
        (TRANSCRIPTIONS, "json", False, True),
        (TRANSCRIPTIONS, "verbose_json", False, True),
        (TRANSCRIPTIONS, "diarized_json", False, True),
        (TRANSCRIPTIONS, "json", True, False),
        (TRANSCRIPTIONS, "text", False, False),
        (TRANSCRIPTIONS, "srt", False, False),
        (TRANSCRIPTIONS, "vtt", False, False),
    ],
)
def test_which_answers_are_one_body(
    endpoint: str, wanted: str | None, stream: bool, whole: bool
) -> None:
    request = RelayRequest(endpoint, "m", {"response_format": wanted}, stream=stream)
    assert request.whole is whole


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([], None),
        ([1, 2], None),
        (["a", 1], None),
        ([["a"]], None),
        (None, None),
    ],
)
def test_the_texts_of_an_input(value: Json, found: tuple[str, ...] | None) -> None:
    assert texts(value) == found
