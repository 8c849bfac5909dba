"""What can be told of a relayed answer without understanding it: errors, ends, tokens. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from uniapi import codec
from uniapi.codec import Json
from uniapi.engines import failures, values
from uniapi.errors import Failure, Kind
from uniapi.events import Event, Start, Usage
from uniapi.relay import SPEECH

# Bytes of a JSON body that is parsed to see whether it is an error: takes 5 ms at most. Larger
# ones (pictures, thousands of embeddings) would stop every other request for their own check.
_PARSED: Final = 262_144
_TAIL: Final = 2048  # bytes at the end of a larger one in which its usage is looked for
_USAGE: Final = re.compile(rb'"usage"\s*:\s*(\{(?:[^{}]|\{[^{}]*\})*\})')
_TYPED: Final = re.compile(
    rb'"type"\s*:\s*"(?:image_generation|image_edit|transcript\.text|speech\.audio)\.(\w+)"'
)
_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")
BLANK: Final = b" \t\r\n"
EMPTY: Final = Failure(Kind.EMPTY, "the provider sent an empty body", 502, code="empty_response")


def whole(body: bytes, endpoint: str) -> tuple[Event, ...] | Failure:
    """What one JSON body tells: model and usage, or that it is no answer at all."""
    start, end = body[:_TAIL].lstrip(BLANK)[:1], body[-_TAIL:]
    if len(body) > _PARSED and endpoint != SPEECH:
        ended = start in {b"{", b"["} and end.rstrip(BLANK)[-1:] in {b"}", b"]"}
        return tuple(_usage_in(end)) if ended else garbage("half a body")
    if not body.strip(BLANK):
        return EMPTY
    try:
        value = codec.loads_mended(body)
    except ValueError:
        return garbage("a body that is not JSON")
    if _is_error(value):
        return failures.in_band(value)
    if endpoint == SPEECH:
        return garbage("JSON where audio was asked for")
    return tuple(_facts(value))


def _is_error(value: Json) -> bool:
    match value:
        case {"error": dict() | str() as error} if error:
            return True
        case {"errors": [_, *_], "success": False} | {"object": "error"}:
            return True
        case _:
            return False


def may_be_error(data: bytes) -> bool:
    """Whether this can be the beginning of an error object, or all of it."""
    start = data[:_TAIL].lstrip(BLANK)
    return len(data) <= _TAIL and start[:1] in {b"", b"{"}


def error_in(event: bytes) -> Failure | None:
    """The failure an event is, when it is one; only events that may be are parsed."""
    if b'"error"' not in event[:200]:
        return None
    value = failures.parsed(event)
    return failures.in_band(value) if _is_error(value) else None


def events_end(data: bytearray) -> int:
    """Where the last complete event ends; 0 when none does."""
    return max(data.rfind(end) + len(end) if end in data else 0 for end in _ENDS)


def unfinished(events: Sequence[bytes], before: bool) -> bool:
    """Whether a stream of OpenAI's own typed events still owes its last, after these."""
    for event in events:
        if (typed := _TYPED.search(event)) is not None:
            before = typed[1] not in {b"completed", b"done"}
    return before


def counted(events: Sequence[bytes]) -> Iterator[Event]:
    """Usage, from the event that ends a stream of partial images or of a transcript."""
    for event in events:
        if b'"usage"' in event[-_TAIL:]:
            yield from _usage_in(event[-_TAIL:])


def _facts(value: Json) -> Iterator[Event]:
    if not isinstance(value, dict):
        return
    if isinstance(model := value.get("model"), str):
        yield Start(model=model)
    yield from _usage(value.get("usage"))


def _usage_in(tail: bytes) -> Iterator[Event]:
    """Usage from the end of a body nobody parses."""
    for found in [*_USAGE.finditer(tail)][-1:]:
        try:
            yield from _usage(codec.loads(found[1]))
        except ValueError:
            return


def _usage(value: Json) -> Iterator[Usage]:
    """Tokens, under chat's names (embeddings) or those of images and audio."""
    if not isinstance(value, dict):
        return
    number = values.number
    prompt = number(value, "prompt_tokens") or number(value, "input_tokens")
    completion = number(value, "completion_tokens") or number(value, "output_tokens")
    total = number(value, "total_tokens") or prompt + completion
    if total:
        yield Usage(prompt, completion, total)


def garbage(said: str) -> Failure:
    """The failure that something else than an answer is."""
    return Failure(Kind.GARBAGE, f"the provider sent {said}", 502, code="bad_response")
