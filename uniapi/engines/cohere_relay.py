"""Cohere's v2 embed, asked and answered in OpenAI's words."""

from __future__ import annotations

from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.engines import failures
from uniapi.engines.relay_answers import embeddings, inputs, left_out, number
from uniapi.errors import Failure
from uniapi.relay import RelayRequest

_KNOWN = ("input", "encoding_format", "dimensions", "input_type", "truncate")


def asked(request: RelayRequest, model: str) -> tuple[JsonObject, tuple[str, ...]]:
    """The body of the call, and the fields that have no place in it.

    Cohere insists on knowing what the embeddings are for; `input_type` goes through when the
    client says it, and documents to be searched is the guess that does least harm.

    Raises:
        ApiError: 400 for tokens, or dimensions that are no number.
    """
    fields = request.fields
    body: JsonObject = {
        "model": model,
        "texts": list(inputs(request)),
        "input_type": fields.get("input_type") or "search_document",
        "embedding_types": ["float"],
    }
    if (dimensions := number(request, "dimensions")) is not None:
        body["output_dimension"] = dimensions
    if (truncate := fields.get("truncate")) is not None:
        body["truncate"] = truncate
    return body, left_out(request, *_KNOWN)


def translate(request: RelayRequest, model: str, body: bytes) -> bytes | Failure:
    """OpenAI's list from Cohere's answer.

    Raises:
        ValueError: when it is none.
    """
    match value := codec.loads_mended(body):
        case {"embeddings": {"float": vectors}}:
            return embeddings(request, vectors, model, _tokens(value))
        case {"message": str()}:
            return failures.in_band(value)
        case _:
            raise ValueError("no embeddings")


def _tokens(value: Json) -> int:
    match value:
        case {"meta": {"billed_units": {"input_tokens": int(count)}}}:
            return count
        case _:
            return 0
