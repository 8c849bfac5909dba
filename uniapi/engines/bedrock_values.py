"""What Converse's words mean in OpenAI's: finish reasons, exceptions, usage, citations."""

from __future__ import annotations

from typing import Final

from uniapi.codec import Json, JsonObject
from uniapi.engines import failures, values
from uniapi.errors import Failure, Kind
from uniapi.events import FinishReason, Usage

REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
# By the name of an exception, in lower case and without that very word.
_STATUSES: Final = {
    "accessdenied": 403,
    "internalserver": 500,
    "modelerror": 502,
    "modelnotready": 429,
    "modelstreamerror": 502,
    "modeltimeout": 504,
    "resourcenotfound": 404,
    "serviceunavailable": 503,
    "throttling": 429,
    "validation": 400,
}


def exception(name: str, message: str) -> Failure:
    """The failure that an exception within a stream is.

    Args:
        name: such as `throttlingException`.
        message: the service's words.
    """
    word = name.removesuffix("Exception").lower()
    status = _STATUSES.get(word, 502)
    kind = failures.kind_of(status, f"{name} {message}")
    if too_long(message):
        kind = Kind.CONTEXT
    elif kind is Kind.SERVER:
        kind = Kind.GARBAGE  # who says 200 and means 500 is not asked the same thing again
    return Failure(kind, message or name or "the provider failed in mid-answer", status, name)


def too_long(message: str) -> bool:
    """Whether Bedrock says, in its own words, that the prompt does not fit."""
    return "input is too long" in message.lower()


def usage(counts: JsonObject) -> Usage:
    """OpenAI's counts: what was read from and written to the cache is part of the prompt."""
    read, written = (
        values.number(counts, "cacheReadInputTokens"),
        values.number(counts, "cacheWriteInputTokens"),
    )
    prompt = values.number(counts, "inputTokens") + read + written
    completion = values.number(counts, "outputTokens")
    detail: dict[str, Json] = {}
    if read or written:
        detail["prompt_tokens_details"] = {"cached_tokens": read}
    return Usage(
        prompt, completion, values.number(counts, "totalTokens") or prompt + completion, detail
    )


def annotation(citation: JsonObject, start: int, end: int) -> Json:
    """A citation as an annotation; None for one of a document, which has no address."""
    match citation:
        case {"location": {"web": {"url": str(url)}}}:
            pass
        case {"source": str(url)} if url.startswith(("http://", "https://")):
            pass
        case _:
            return None
    title = citation.get("title")
    cited: JsonObject = {
        "url": url,
        "title": title if isinstance(title, str) else url,
        "start_index": start,
        "end_index": end,
    }
    return {"type": "url_citation", "url_citation": cited}
