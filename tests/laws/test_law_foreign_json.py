"""Any JSON in any place of an answer or of a request: a failure or a refusal, never a bug."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Final, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.golden import Case, cases, collected, events_of, failed
from uniapi import codec
from uniapi.codec import Json
from uniapi.errors import ApiError
from uniapi.framing import framer
from uniapi.frontend.parse import parse_chat

Path: TypeAlias = tuple[str | int, ...]
HUGE: Final = 10**400  # more than a float can hold

NOTHING: Final[list[Json]] = [
    None,
    True,
    0,
    -1,
    1.5,
    HUGE,
    -HUGE,
    2**64,
    [],
    {},
    [None],
    [[]],
    [{}],
]
TEXTS: Final[list[Json]] = ["", "x", "a\0é😀", "{}", "data:image/png;base64,é", "https://[::1"]
MAPS: Final[list[Json]] = [{"": ""}, {"type": []}, {"type": "text"}]
ODD: Final[st.SearchStrategy[Json]] = st.sampled_from([*NOTHING, *TEXTS, *MAPS])
CASES: Final = cases()
SOUND: Final = [case for case in CASES if case.status is None and case.body is not None]
STREAMED: Final = [case for case in CASES if case.stream is not None]
REFUSED: Final = [case for case in CASES if case.status is not None]


def places(value: Json, at: Path = ()) -> Iterator[Path]:
    """Where something else can stand."""
    yield at
    match value:
        case dict():
            for name, inner in value.items():
                yield from places(inner, (*at, name))
        case list():
            for number, inner in enumerate(value):
                yield from places(inner, (*at, number))
        case _:
            pass


def put(value: Json, at: Path, what: Json) -> Json:
    """The value with something else at a place."""
    if not at:
        return what
    changed = deepcopy(value)
    inner = changed
    for step in at[:-1]:
        inner = inner[step]  # type: ignore[index]  # `places` knows what is there
    inner[at[-1]] = what  # type: ignore[index]  # as above
    return changed


def altered(draw: st.DataObject, value: Json) -> Json:
    """The value with one to three of its places taken by something odd."""
    for _ in range(draw.draw(st.integers(1, 3))):
        found = list(places(value))
        value = put(value, draw.draw(st.sampled_from(found)), draw.draw(ODD))
    return value


def fed(case: Case, frames: list[bytes], *, upstream: bool, client: bool) -> None:
    """Decode the frames and fold what they say."""
    _, decoder = case.decoder(upstream=upstream, client=client)
    events = events_of([*(decoder.feed([frame]) for frame in frames), decoder.end()])
    if not failed(events):
        collected(events)


@settings(max_examples=300)
@given(st.sampled_from(SOUND), st.booleans(), st.data())
def test_no_whole_body_breaks_a_decoder(case: Case, client: bool, draw: st.DataObject) -> None:
    body = codec.dumps(altered(draw, codec.loads(case.body or b"")))
    fed(case, [body], upstream=False, client=client)


@settings(max_examples=300)
@given(st.sampled_from(STREAMED), st.booleans(), st.data())
def test_no_frame_of_a_stream_breaks_a_decoder(
    case: Case,
    client: bool,
    draw: st.DataObject,
) -> None:
    cutter = framer(case.call(stream=True).framing)
    frames = cutter.feed(case.stream or b"") + cutter.end()
    at = draw.draw(st.integers(0, len(frames) - 1))
    try:
        frames[at] = codec.dumps(altered(draw, codec.loads(frames[at])))
    except ValueError:
        frames[at] = codec.dumps(draw.draw(ODD))
    fed(case, frames, upstream=True, client=client)


@given(st.sampled_from(REFUSED), st.data())
def test_no_body_of_an_error_breaks_an_engine(case: Case, draw: st.DataObject) -> None:
    status = case.status or {}
    try:
        body = codec.dumps(altered(draw, codec.loads(case.body or b"{}")))
    except ValueError:
        body = codec.dumps(draw.draw(ODD))
    case.engine.failure(status["status"], status.get("headers", {}), body)


REQUESTS: Final = st.sampled_from(CASES)
MODES: Final = ("tools", "tool_choice", "response_format", "modalities", "audio", "thinking")
SETTINGS: Final = ("temperature", "max_tokens", "n", "stop", "seed", "reasoning_effort", "metadata")
FIELDS: Final = st.sampled_from([*MODES, *SETTINGS])


def asked(case: Case, fields: Json) -> None:
    """Read a request and encode it, as for its channel."""
    try:
        chat = parse_chat(codec.dumps(fields))
        case.engine.needs(chat, case.channel)
        call = case.engine.encode(chat, case.recipient)
    except ApiError:
        return
    call.url.encode("ascii")
    for name, value in call.headers:
        (name + value).encode("latin-1")


@settings(max_examples=300)
@given(REQUESTS, st.dictionaries(FIELDS, ODD, max_size=2), st.data())
def test_no_request_breaks_an_engine(
    case: Case, more: dict[str, Json], draw: st.DataObject
) -> None:
    fields = altered(draw, case.ask["request"])
    asked(case, {**fields, **more} if isinstance(fields, dict) else fields)


ENGINES: Final = [
    next(case for case in CASES if case.folder.parent == folder)
    for folder in sorted({case.folder.parent for case in CASES})
]


@pytest.mark.parametrize("case", ENGINES, ids=[case.folder.parent.name for case in ENGINES])
@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image_url", "image_url": {"url": "https://[::1"}}],
        [{"type": "file", "file": {"file_data": "data:text/plain;base64,é", "filename": "a.txt"}}],
        [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": []}}],
    ],
    ids=["no-address", "no-base64", "no-ttl"],
)
def test_odd_content_is_taken_or_refused_by_every_engine(case: Case, content: Json) -> None:
    asked(case, {**case.ask["request"], "messages": [{"role": "user", "content": content}]})
