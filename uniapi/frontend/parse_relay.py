"""From request bytes to a `RelayRequest`: what the endpoints other than chat must have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from uniapi import relay
from uniapi.codec import Json, JsonObject
from uniapi.errors import ApiError
from uniapi.frontend.asgi import FORM, JSON_TYPES
from uniapi.frontend.parse import ROUTING_FIELDS, json_object, model_in, stream_in, wrong
from uniapi.multipart import Form, parse
from uniapi.relay import RelayRequest

Check: TypeAlias = Callable[[Mapping[str, Json]], None]


def media_types(endpoint: str) -> frozenset[str]:
    """The content types an endpoint reads: JSON, a form, or either."""
    if endpoint == relay.TRANSCRIPTIONS:
        return frozenset({FORM})
    return JSON_TYPES | {FORM} if endpoint in relay.FORMS else JSON_TYPES


def parse_json(endpoint: str, body: bytes, model: str | None = None) -> RelayRequest:
    """Read a JSON request.

    Args:
        endpoint: the canonical path.
        body: the request's.
        model: who is asked when the request names none; None to insist on a name.

    Raises:
        ApiError: 400 for what is not a JSON object, 422 for a field that is missing or wrong.
    """
    fields = json_object(body)
    if fields.get("model") is None and model is not None:
        fields["model"] = model
    name, stream = model_in(fields), stream_in(fields)
    _CHECKS[endpoint](fields)
    return RelayRequest(endpoint, name, fields, stream=stream, size=len(body))


def parse_form(endpoint: str, content_type: str, body: bytes) -> RelayRequest:
    """Read a form.

    Raises:
        ApiError: 400 for what is not a form, 422 for a field that is missing or wrong.
    """
    try:
        form = parse(content_type, body).without(ROUTING_FIELDS)
    except ValueError as error:
        raise ApiError(
            400, f"the request body is not a form: {error}", code="invalid_form"
        ) from None
    for name in _ONCE:
        if len(form.named(name)) > 1 or any(p.name.startswith(f"{name}[") for p in form.parts):
            raise wrong(name, "must be given once")  # readers differ in which of two they take
    fields = _fields(form)
    if isinstance(wish := fields.get("stream"), str):
        fields["stream"] = _FLAGS.get(wish.strip().lower(), wish)
    model, stream = model_in(fields), stream_in(fields)
    if endpoint == relay.TRANSCRIPTIONS:
        if not form.named("file"):
            raise wrong("file", "must be a sound file")
    else:
        if not (form.named("image") or form.named("image[]")):
            raise wrong("image", "must be a picture, or several as image[]")
        _prompt(fields)
    return RelayRequest(endpoint, model, fields, form, stream, len(body))


_ONCE: Final = ("model", "stream", "response_format", "prompt")
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False, "": False}


def _fields(form: Form) -> JsonObject:
    """The short text fields; those given more than once as lists."""
    fields: JsonObject = {}
    for name, value in form.texts():
        match fields.get(name):
            case None:
                fields[name] = value
            case list(values):
                values.append(value)
            case first:
                fields[name] = [first, value]
    return fields


def _prompt(fields: Mapping[str, Json]) -> None:
    prompt = fields.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise wrong("prompt", "must be a text")


def _spoken(fields: Mapping[str, Json]) -> None:
    text = fields.get("input")
    if not isinstance(text, str) or not text.strip():
        raise wrong("input", "must be the text to speak")


def _input(fields: Mapping[str, Json]) -> None:
    match fields.get("input"):
        case str(text) if text:
            return
        case [_, *_]:
            return
        case _:
            raise wrong("input", "must be a text, or a list that is not empty")


_CHECKS: Final[Mapping[str, Check]] = {
    relay.EMBEDDINGS: _input,
    relay.MODERATIONS: _input,
    relay.IMAGES: _prompt,
    relay.IMAGE_EDITS: _prompt,
    relay.SPEECH: _spoken,
}
