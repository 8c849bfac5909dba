"""Google's embeddings, asked and answered in OpenAI's words.

POST {model}:batchEmbedContents
POST {model}:predict, on Vertex
"""

from __future__ import annotations

from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.engines import values
from uniapi.engines.gemini_relay import Asked, count, no_answer
from uniapi.engines.relay_answers import embeddings, inputs, left_out, number
from uniapi.errors import Failure
from uniapi.relay import RelayRequest


def asked(request: RelayRequest, model: str, *, vertex: bool) -> Asked:
    """The call for one text or several.

    Raises:
        ApiError: 400 naming the field that cannot be honoured.
    """
    texts, dimensions = inputs(request), number(request, "dimensions")
    task = request.fields.get("task_type")
    notes = left_out(request, "input", "dimensions", "encoding_format", "task_type")
    if vertex:
        given: JsonObject = {} if task is None else {"task_type": task}
        body: JsonObject = {"instances": [{"content": text, **given} for text in texts]}
        if dimensions is not None:
            body["parameters"] = {"outputDimensionality": dimensions}
        return Asked("predict", body, notes, lambda answer: _predicted(request, model, answer))
    given = {} if task is None else {"taskType": task}
    if dimensions is not None:
        given["outputDimensionality"] = dimensions
    each: list[Json] = [
        {"model": f"models/{model}", "content": {"parts": [{"text": text}]}, **given}
        for text in texts
    ]
    return Asked(
        "batchEmbedContents",
        {"requests": each},
        notes,
        lambda answer: _embedded(request, model, answer),
    )


def _embedded(request: RelayRequest, model: str, body: bytes) -> bytes | Failure:
    match value := codec.loads_mended(body):
        case {"embeddings": list(found)}:
            vectors: list[Json] = [
                one.get("values") if isinstance(one, dict) else None for one in found
            ]
            return embeddings(request, vectors, model, count(value, "promptTokenCount"))
        case _:
            return no_answer(value)


def _predicted(request: RelayRequest, model: str, body: bytes) -> bytes | Failure:
    match value := codec.loads_mended(body):
        case {"predictions": list(found)}:
            vectors: list[Json] = []
            tokens = 0
            for one in found:
                match one:
                    case {"embeddings": {"values": list(vector)}}:
                        vectors.append(vector)
                        tokens += _token_count(one)
                    case _:
                        raise ValueError("no embedding")
            return embeddings(request, vectors, model, tokens)
        case _:
            return no_answer(value)


def _token_count(prediction: Json) -> int:
    match prediction:
        case {"embeddings": {"statistics": dict(counted)}}:
            return values.number(counted, "token_count")  # Vertex counts in floats
        case _:
            return 0
