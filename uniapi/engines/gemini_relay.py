"""What Google's embeddings and pictures have in common beside the engine's own address and key."""

from __future__ import annotations

from dataclasses import dataclass

from uniapi.codec import Json, JsonObject
from uniapi.engines import gemini_errors, values
from uniapi.engines.base import Translate
from uniapi.errors import Failure


@dataclass(frozen=True, slots=True)
class Asked:
    """A request in Google's words.

    Attributes:
        verb: the model's method.
        body: of the call.
        notes: fields that have no place in it.
        translate: what makes OpenAI's answer of Google's.
    """

    verb: str
    body: JsonObject
    notes: tuple[str, ...]
    translate: Translate


def count(value: Json, name: str) -> int:
    """One of the tokens' counts; 0 when it was not told."""
    match value:
        case {"usageMetadata": dict(counts)}:
            return values.number(counts, name)
        case _:
            return 0


def no_answer(value: Json) -> Failure:
    """The failure that an error in place of an answer is.

    Raises:
        ValueError: when it is not even that.
    """
    match value:
        case {"error": _} | [{"error": _}, *_]:
            return gemini_errors.in_band(value)
        case _:
            raise ValueError("not an answer of Google's")
