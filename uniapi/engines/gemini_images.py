"""Google's pictures, asked and answered in OpenAI's words.

POST {model}:generateContent, of the Gemini models that paint
POST {model}:predict, of Imagen
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from uniapi import codec, relay
from uniapi.codec import Json, JsonObject
from uniapi.engines.gemini_relay import Asked, count, no_answer
from uniapi.engines.relay_answers import Picture, images, left_out, number
from uniapi.errors import ApiError, Failure, Kind
from uniapi.relay import RelayRequest

_SIZE: Final = re.compile(r"(\d{1,5})x(\d{1,5})")
_RATIOS: Final = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
_IMAGEN_RATIOS: Final = ("1:1", "3:4", "4:3", "9:16", "16:9")
_DATA_URI: Final = re.compile(r"data:(image/[a-z0-9.+-]+);base64,(.+)", re.IGNORECASE | re.DOTALL)
_PAINT: Final = ("prompt", "n", "size", "response_format", "stream")
_BLOCKED: Final = frozenset(
    {
        "SAFETY",
        "PROHIBITED_CONTENT",
        "BLOCKLIST",
        "SPII",
        "RECITATION",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
    }
)


def imagen(request: RelayRequest, now: int) -> Asked:
    """The call of a model that only makes pictures.

    Raises:
        ApiError: 400 naming the field that cannot be honoured.
    """
    _no_stream(request)
    parameters: JsonObject = {"sampleCount": number(request, "n") or 1, "includeRaiReason": True}
    if (ratio := _ratio(request, _IMAGEN_RATIOS)) is not None:
        parameters["aspectRatio"] = ratio
    body: JsonObject = {
        "instances": [{"prompt": request.fields["prompt"]}],
        "parameters": parameters,
    }
    notes = left_out(request, *_PAINT)
    return Asked("predict", body, notes, lambda answer: _imagined(request, now, answer))


def _imagined(request: RelayRequest, now: int, body: bytes) -> bytes | Failure:
    value = codec.loads_mended(body)
    if not isinstance(value, dict) or value.get("error"):
        return no_answer(value)
    pictures: list[Picture] = []
    reasons: list[str] = []
    found = value.get("predictions")
    for one in found if isinstance(found, list) else []:
        match one:
            case {"bytesBase64Encoded": str(data), **rest}:
                pictures.append(Picture(data, str(rest.get("mimeType") or "image/png")))
            case {"raiFilteredReason": str(reason)}:
                reasons.append(reason)
            case _:
                pass
    if pictures:
        return images(request, pictures, now, None)
    if reasons:
        return Failure(Kind.POLICY, reasons[0], 400, code="content_policy_violation")
    return Failure(Kind.REQUEST, "the provider gave no picture", 400, code="no_image")


def painting(request: RelayRequest, now: int) -> Asked:
    """The call of a Gemini model that paints, and may be shown pictures.

    Raises:
        ApiError: 400 naming the field that cannot be honoured.
    """
    _no_stream(request)
    if (number(request, "n") or 1) > 1:
        raise _unsupported("n", "this provider paints one picture a request")
    setting: JsonObject = {"responseModalities": ["TEXT", "IMAGE"]}
    if (ratio := _ratio(request, _RATIOS)) is not None:
        setting["imageConfig"] = {"aspectRatio": ratio}
    parts: list[Json] = [*_given(request), {"text": request.fields["prompt"]}]
    body: JsonObject = {
        "contents": [{"role": "user", "parts": parts}],
        "generationConfig": setting,
    }
    notes = left_out(request, *_PAINT, "images")
    return Asked("generateContent", body, notes, lambda answer: _painted(request, now, answer))


def _given(request: RelayRequest) -> Iterator[JsonObject]:
    """The pictures to be edited."""
    if request.endpoint != relay.IMAGE_EDITS:
        return
    form = request.form
    if (form is not None and form.named("mask")) or request.fields.get("mask") is not None:
        raise _unsupported("mask", "this provider knows no masks")
    for part in (*form.named("image"), *form.named("image[]")) if form is not None else ():
        data = base64.b64encode(form.data(part)).decode() if form is not None else ""
        kind = part.content_type or "image/png"
        yield _inline(kind if kind.startswith("image/") else "image/png", data)
    listed = request.fields.get("images")
    for one in listed if form is None and isinstance(listed, list) else []:
        match one:
            case {"image_url": str(url)} if found := _DATA_URI.fullmatch(url):
                yield _inline(found[1].lower(), found[2])
            case _:
                raise _unsupported("images", "this provider takes data URIs or a form")


def _inline(kind: str, data: str) -> JsonObject:
    return {"inlineData": {"mimeType": kind, "data": data}}


def _painted(request: RelayRequest, now: int, body: bytes) -> bytes | Failure:
    value = codec.loads_mended(body)
    if not isinstance(value, dict) or value.get("error"):
        return no_answer(value)
    reply = _Reply()
    reply.read(value)
    if reply.pictures:
        return images(request, reply.pictures, now, _usage(value))
    words = " ".join(reply.words)
    if reply.reason:
        said = words or f"blocked: {reply.reason}"
        return Failure(Kind.POLICY, said[:1000], 400, code="content_policy_violation")
    said = f"it answered in words: {words}" if words else "the provider gave no picture"
    return Failure(Kind.REQUEST, said[:1000], 400, code="no_image")


@dataclass(slots=True)
class _Reply:
    """What a model that paints answered."""

    pictures: list[Picture] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    reason: str = ""

    def read(self, value: JsonObject) -> None:
        match value.get("promptFeedback"):
            case {"blockReason": str(reason)}:
                self.reason = reason
            case _:
                pass
        candidates = value.get("candidates")
        for candidate in candidates if isinstance(candidates, list) else []:
            match candidate:
                case {"finishReason": str(reason)} if reason in _BLOCKED:
                    self.reason = reason
                case _:
                    pass
            for part in _parts(candidate):
                self._part(part)

    def _part(self, part: Json) -> None:
        match part:
            case {"thought": True}:
                pass  # a draft
            case {"inlineData": {"mimeType": str(kind), "data": str(data)}}:
                self.pictures.append(Picture(data, kind))
            case {"text": str(text)}:
                self.words.append(text)
            case _:
                pass


def _parts(candidate: Json) -> Sequence[Json]:
    match candidate:
        case {"content": {"parts": list(parts)}}:
            return parts
        case _:
            return ()


def _usage(value: JsonObject) -> JsonObject | None:
    if not isinstance(value.get("usageMetadata"), dict):
        return None
    prompt, total = count(value, "promptTokenCount"), count(value, "totalTokenCount")
    return {"input_tokens": prompt, "output_tokens": total - prompt, "total_tokens": total}


def _ratio(request: RelayRequest, known: Sequence[str]) -> str | None:
    """The ratio nearest to the size asked for; None when none was.

    Raises:
        ApiError: 400 for what is no size.
    """
    found = None
    match request.fields.get("size"):
        case None | "" | "auto":
            return None
        case str(size):
            found = _SIZE.fullmatch(size)
        case _:
            pass
    if found is None or not (int(found[1]) and int(found[2])):
        raise _unsupported("size", "must be like 1024x1024, or auto")
    wanted = math.log(int(found[1]) / int(found[2]))

    def distance(ratio: str) -> float:
        wide, high = ratio.split(":")
        return abs(math.log(int(wide) / int(high)) - wanted)

    return min(known, key=distance)


def _no_stream(request: RelayRequest) -> None:
    if request.stream:
        raise _unsupported("stream", "this provider gives a picture when it is done")


def _unsupported(param: str, said: str) -> ApiError:
    return ApiError(400, f"{param}: {said}", "unsupported", param=param)
