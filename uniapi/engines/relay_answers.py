"""OpenAI's answers with embeddings and pictures, for providers that say them in other words."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from uniapi import codec, relay
from uniapi.codec import Json, JsonObject
from uniapi.errors import ApiError
from uniapi.relay import RelayRequest


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture.

    Attributes:
        data: in base64.
        media_type: such as `image/png`.
    """

    data: str
    media_type: str


def inputs(request: RelayRequest) -> Sequence[str]:
    """The texts to embed.

    Raises:
        ApiError: 400 for tokens: every provider has its own.
    """
    texts = relay.texts(request.fields.get("input"))
    if texts is None:
        said = "input: this provider embeds texts, and no tokens"
        raise ApiError(400, said, "unsupported", param="input")
    return texts


def number(request: RelayRequest, name: str) -> int | None:
    """A whole number above zero, as JSON or as a form's text; None when there is none.

    Raises:
        ApiError: 400 for anything else.
    """
    match request.fields.get(name):
        case None | "":
            return None
        case bool():
            pass
        case int(value) if value > 0:
            return value
        case str(text) if text.isascii() and text.isdecimal() and int(text[:9]) > 0:
            return int(text[:9])
        case _:
            pass
    raise ApiError(400, f"{name}: must be a whole number above 0", "unsupported", param=name)


def left_out(request: RelayRequest, *known: str) -> tuple[str, ...]:
    """The fields nobody looked at."""
    return tuple(sorted(request.fields.keys() - {"model", *known}))


def embeddings(request: RelayRequest, vectors: Json, model: str, tokens: int) -> bytes:
    """The list of embeddings, in the encoding that was asked for.

    Args:
        request: with one text or several.
        vectors: a list of numbers for each text, in order.
        model: the provider's name for it.
        tokens: that the provider counted.

    Raises:
        ValueError: when they are not so many lists of numbers.
    """
    if not isinstance(vectors, list) or len(vectors) != len(inputs(request)):
        raise ValueError("not one embedding a text")
    packed = request.fields.get("encoding_format") == "base64"
    data: list[Json] = [
        {"object": "embedding", "index": index, "embedding": _vector(values, packed=packed)}
        for index, values in enumerate(vectors)
    ]
    usage: JsonObject = {"prompt_tokens": tokens, "total_tokens": tokens}
    return codec.dumps({"object": "list", "data": data, "model": model, "usage": usage})


def _vector(values: Json, *, packed: bool) -> Json:
    """A vector as it is, or as little-endian 32-bit floats in base64."""
    numbers = [
        value
        for value in (values if isinstance(values, list) else [])
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if not numbers or values != numbers:
        raise ValueError("an embedding that is not all numbers")
    if not packed:
        return values
    try:
        return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    except (struct.error, OverflowError):
        raise ValueError("an embedding of numbers too large") from None


def images(
    request: RelayRequest, pictures: Sequence[Picture], created: int, usage: JsonObject | None
) -> bytes:
    """The list of pictures; as data URIs where addresses were asked for.

    Args:
        request: says in which form.
        pictures: at least one.
        created: unix seconds.
        usage: tokens under OpenAI's names for images, or None.
    """
    linked = request.fields.get("response_format") == "url"
    answer: JsonObject = {
        "created": created,
        "data": [
            {"url": f"data:{one.media_type};base64,{one.data}"}
            if linked
            else {"b64_json": one.data}
            for one in pictures
        ],
        "output_format": pictures[0].media_type.removeprefix("image/"),
    }
    if usage is not None:
        answer["usage"] = usage
    return codec.dumps(answer)
