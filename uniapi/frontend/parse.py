"""From request bytes to a `ChatRequest`: after this nobody sees request JSON unparsed."""

from __future__ import annotations

from typing import Final

from uniapi import codec
from uniapi.chat import ChatRequest
from uniapi.codec import Json, JsonObject
from uniapi.errors import ApiError

_MAX_DEPTH: Final = 128  # levels of nesting; tool schemas of real clients stay below 30
# What must never steer a call from inside a request: other gateways sent their keys to strangers
# because of fields like these.
_ROUTING_FIELDS: Final = (
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
    fields = _object(body)
    model = fields.get("model")
    if not isinstance(model, str) or not model.strip():
        raise _wrong("model", "must be a model's name, such as gpt-4o")
    stream = fields.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _wrong("stream", "must be true or false")
    _check_messages(fields.get("messages"))
    options = fields.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise _wrong("stream_options", "must be an object")
    usage = options.get("include_usage") if isinstance(options, dict) else None
    for name in _ROUTING_FIELDS:
        fields.pop(name, None)
    return ChatRequest(
        model=model.strip(),
        fields=fields,
        stream=stream is True,
        include_usage=usage is True,
        size=len(body),
    )


def _object(body: bytes) -> JsonObject:
    if not body.strip():
        raise ApiError(400, "the request body is empty; send a JSON object", code="empty_body")
    try:
        value = codec.loads(body)
        if codec.deeper(value, _MAX_DEPTH):
            raise ValueError(f"nested more than {_MAX_DEPTH} deep")  # noqa: TRY301 - same answer
        if b"\\u" in body:
            codec.dumps(value)  # an escaped lone surrogate parses, but is not text
    except ValueError as error:
        said = "not UTF-8" if isinstance(error, UnicodeError) else str(error)
        raise ApiError(
            400, f"the request body is not JSON: {said[:200]}", code="invalid_json"
        ) from None
    if not isinstance(value, dict):
        raise ApiError(400, "the request body must be a JSON object", code="invalid_json")
    return value


def _check_messages(messages: Json) -> None:
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "must be a list with at least one message")
    for place, message in enumerate(messages):
        name = f"messages[{place}]"
        if not isinstance(message, dict):
            raise _wrong(name, "must be an object with a role and content")
        role = message.get("role")
        if not isinstance(role, str) or not role:
            raise _wrong(f"{name}.role", "must be system, developer, user, assistant or tool")
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            raise _wrong(f"{name}.content", "must be text, a list of parts, or null")


def _wrong(param: str, said: str) -> ApiError:
    return ApiError(422, f"{param}: {said}", code="invalid_request", param=param)
