"""From request bytes to a `ChatRequest`: after this nobody sees request JSON unparsed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uniapi import codec
from uniapi.chat import ChatRequest
from uniapi.codec import Json, JsonObject
from uniapi.errors import ApiError

_MAX_NAME: Final = 1_000  # characters of a model's name, which goes into logs and statistics
_MAX_DEPTH: Final = 128  # levels of nesting; tool schemas of real clients stay below 30
# What must never steer a call from inside a request: other gateways sent their keys to strangers
# because of fields like these.
ROUTING_FIELDS: Final = (
    "base_url",
    "api_base",
    "api_key",
    "proxy",
    "extra_headers",
    "callback_url",
)


def parse_chat(body: bytes) -> ChatRequest:
    """Read a chat completion request.

    Raises:
        ApiError: 400 for what is not a JSON object, 422 for fields of the wrong shape; both name
            what to send instead.
    """
    fields = json_object(body)
    model = model_in(fields)
    stream = stream_in(fields)
    _check_messages(fields.get("messages"))
    options = fields.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise wrong("stream_options", "must be an object")
    usage = options.get("include_usage") if isinstance(options, dict) else None
    return ChatRequest(
        model=model,
        fields=fields,
        stream=stream,
        include_usage=usage is True,
        size=len(body),
    )


def model_in(fields: Mapping[str, Json]) -> str:
    """The model asked for.

    Raises:
        ApiError: 422 when there is none.
    """
    model = fields.get("model")
    if not isinstance(model, str) or not model.strip() or len(model) > _MAX_NAME:
        raise wrong("model", "must be a model's name, such as gpt-4o")
    return model.strip()


def stream_in(fields: Mapping[str, Json]) -> bool:
    """Whether a stream is asked for.

    Raises:
        ApiError: 422 when it is neither yes nor no.
    """
    match fields.get("stream"):
        case bool(stream):
            return stream
        case None:
            return False
        case _:
            raise wrong("stream", "must be true or false")


def json_object(body: bytes) -> JsonObject:
    """The JSON object of a request, without the fields that would steer a call.

    Raises:
        ApiError: 400 for what is not one.
    """
    if not body.strip():
        raise ApiError(400, "the request body is empty; send a JSON object", code="empty_body")
    try:
        value = codec.loads(body)
        if codec.deeper(value, _MAX_DEPTH):
            raise ValueError(f"nested more than {_MAX_DEPTH} deep")  # noqa: TRY301 - same answer
    except ValueError as error:
        said = "not UTF-8" if isinstance(error, UnicodeError) else str(error)
        raise ApiError(
            400, f"the request body is not JSON: {said[:200]}", code="invalid_json"
        ) from None
    if not isinstance(value, dict):
        raise ApiError(400, "the request body must be a JSON object", code="invalid_json")
    for name in ROUTING_FIELDS:
        value.pop(name, None)
    return value


def _check_messages(messages: Json) -> None:
    if not isinstance(messages, list) or not messages:
        raise wrong("messages", "must be a list with at least one message")
    for place, message in enumerate(messages):
        name = f"messages[{place}]"
        if not isinstance(message, dict):
            raise wrong(name, "must be an object with a role and content")
        role = message.get("role")
        if not isinstance(role, str) or not role:
            raise wrong(f"{name}.role", "must be system, developer, user, assistant or tool")
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            raise wrong(f"{name}.content", "must be text, a list of parts, or null")


def wrong(param: str, said: str) -> ApiError:
    """The answer to a field of the wrong shape."""
    return ApiError(422, f"{param}: {said}", code="invalid_request", param=param)
