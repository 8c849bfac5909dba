"""The `gpt` engine: any server that speaks OpenAI's chat completions.

Passing through means: what the client sent, unknown fields included, goes on as it is except for
the model's name; nothing is added but `stream_options`, so that usage is always known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from uniapi import __version__, codec
from uniapi.chat import ChatRequest
from uniapi.codec import Json, JsonObject
from uniapi.config.types import Provider, Secret
from uniapi.engines import failures
from uniapi.engines.base import Call, Decoder, Engine, Recipient, Relay
from uniapi.engines.openai_decoder import OpenAIDecoder
from uniapi.engines.overrides import override, override_own
from uniapi.engines.urls import host_of, place
from uniapi.errors import Failure
from uniapi.events import Start
from uniapi.framing import Framing
from uniapi.relay import RelayRequest

_CHAT: Final = "chat/completions"
_NEW: Final = re.compile(r"o\d|gpt-5")  # families that renamed max_tokens
_JSON: Final = "application/json"
# Between the id of a tool call and the signature that rides in it, as the Gemini engine has it.
_SIGNED: Final = "_sig_"
_TOOL_FIELDS: Final = ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")


class OpenAI(Engine):
    """OpenAI's own dialect, and so the one whose frames reach clients verbatim."""

    names: tuple[str, ...] = ("gpt",)

    def claims(self, provider: Provider, upstream: str) -> int:  # noqa: ARG002 - by address only
        """Any server with an address, for want of a better claim."""
        return 0 if provider.base_url is None else 1

    def encode(self, chat: ChatRequest, to: Recipient) -> Call:
        """The client's own body under the provider's name for the model."""
        channel = to.channel
        body: JsonObject = {**chat.fields, "model": channel.upstream}
        provider = channel.provider
        if not provider.tools:
            body = _without_tools(body)
        if not provider.image:
            body = _without_images(body)
        body = _with_plain_ids(body)
        if chat.stream:
            options = body.get("stream_options")
            body["stream_options"] = {
                **(options if isinstance(options, dict) else {}),
                "include_usage": True,
            }
        body, dropped = self.shape(body, provider)
        body = override(body, channel)
        return Call(
            method="POST",
            url=self.url(provider, channel.upstream),
            headers=headers(provider, self.auth(to.key), to.passed),
            body=codec.dumps(body),
            framing="sse" if body.get("stream") is True else "json",
            notes=dropped,
        )

    def relay(self, request: RelayRequest, to: Recipient) -> Relay | None:
        """The client's own body under the provider's name for the model, wherever it goes.

        Who has no such endpoint answers 404, and the next is asked.
        """
        channel = to.channel
        notes: tuple[str, ...] = ()
        if request.form is None:
            kind = _JSON
            fields = override_own({**request.fields, "model": channel.upstream}, channel)
            body = codec.dumps(fields)
        else:
            kind = request.form.content_type
            body = request.form.with_text("model", channel.upstream)
            if override_own({}, channel):
                notes = ("post_body_parameter_overrides",)  # a form is sent as it came
        url = self.url(channel.provider, channel.upstream, request.endpoint.removeprefix("/v1/"))
        shown = (("content-type", kind), *self.auth(to.key))
        made = headers(channel.provider, shown, to.passed)
        return Relay(Call("POST", url, made, body, notes=notes))

    # What cousins of the dialect do differently.

    def root(self, provider: Provider) -> str:
        """The URL that every endpoint is found from."""
        return provider.base_url or ""

    def url(self, provider: Provider, upstream: str, endpoint: str = _CHAT) -> str:  # noqa: ARG002 - for cousins
        """Where an endpoint is."""
        return place(self.root(provider), endpoint)

    def auth(self, key: Secret | None) -> tuple[tuple[str, str], ...]:
        """The headers that show the key."""
        return bearer(key)

    def shape(self, body: JsonObject, provider: Provider) -> tuple[JsonObject, tuple[str, ...]]:
        """The body as this provider takes it, and the names of fields left out."""
        if host_of(provider) == "api.openai.com" and _NEW.match(str(body["model"])):
            # The o-series and gpt-5 answer 400 to the old name.
            limit = body.get("max_tokens")
            if limit is not None and "max_completion_tokens" not in body:
                body = {k: v for k, v in body.items() if k != "max_tokens"}
                body["max_completion_tokens"] = limit
        return body, ()

    def decoder(self, chat: ChatRequest, framing: Framing, default: Start) -> Decoder:
        """A decoder that reads the events and keeps the bytes."""
        return OpenAIDecoder(chat, framing, default)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """OpenAI's error object, or whatever an OpenAI-format server sends in its place."""
        return failures.refused(status, headers, body)

    def catalogue(self, to: Recipient) -> Call | None:
        """`GET .../models`."""
        provider = to.channel.provider
        url = place(self.root(provider), "models")
        return Call("GET", url, headers(provider, self.auth(to.key), to.passed))

    def models(self, body: bytes) -> tuple[str, ...]:
        """Names from `data[].id`, `models[].name` or a bare list (GitHub Models)."""
        match codec.loads_mended(body):
            case {"data": list(entries)} | {"models": list(entries)} | list(entries):
                names = [_model_name(entry) for entry in entries]
            case _:
                raise ValueError("not a list of models")
        return tuple(dict.fromkeys(name for name in names if name))


def bearer(key: Secret | None) -> tuple[tuple[str, str], ...]:
    """The usual way to show a key; nothing when there is none."""
    return (("authorization", f"Bearer {key.reveal()}"),) if key is not None else ()


def headers(
    provider: Provider,
    auth: Sequence[tuple[str, str]],
    passed: Sequence[tuple[str, str]] = (),
) -> tuple[tuple[str, str], ...]:
    """The headers of a call, built from nothing.

    Later ones replace earlier ones: ours, the engine's, what the config lets through from the
    client, what the config sets.
    """
    built = {
        "content-type": _JSON,
        # Some providers compress even streams when offered to; a burst would be held back.
        "accept-encoding": "identity",
        "user-agent": f"uniapi/{__version__}",
        **dict(auth),
        **dict(passed),
    }
    for name, value in provider.preferences.headers:
        built[name.lower()] = value
    return tuple(built.items())


def _without_tools(body: JsonObject) -> JsonObject:
    """The request for a provider with `tools: false`: no tools, and no history of their use."""
    slim = {name: value for name, value in body.items() if name not in _TOOL_FIELDS}
    messages = body.get("messages")
    if isinstance(messages, list):
        slim["messages"] = [
            plain for message in messages if (plain := _plain_turn(message)) is not None
        ]
    return slim


def _plain_turn(message: Json) -> Json:
    """A turn without tool calls; None for one that was nothing else."""
    if not isinstance(message, dict):
        return message
    if message.get("role") in {"tool", "function"}:
        return None
    if not message.keys() & {"tool_calls", "function_call"}:
        return message
    rest = {k: v for k, v in message.items() if k not in {"tool_calls", "function_call"}}
    return rest if rest.get("content") else None


def _with_plain_ids(body: JsonObject) -> JsonObject:
    """Tool call ids without another provider's signature: OpenAI takes 40 characters at most."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not any(_is_signed(message) for message in messages):
        return body
    return {**body, "messages": [_with_plain_id(message) for message in messages]}


def _is_signed(message: Json) -> bool:
    match message:
        case {"tool_call_id": str(identity)}:
            return _SIGNED in identity
        case {"tool_calls": list(calls)}:
            return any(
                isinstance(call, dict) and _SIGNED in str(call.get("id", "")) for call in calls
            )
        case _:
            return False


def _with_plain_id(message: Json) -> Json:
    if not isinstance(message, dict) or not _is_signed(message):
        return message
    plain = dict(message)
    if isinstance(identity := plain.get("tool_call_id"), str):
        plain["tool_call_id"] = identity.partition(_SIGNED)[0]
    if isinstance(calls := plain.get("tool_calls"), list):
        plain["tool_calls"] = [
            {**call, "id": str(call.get("id", "")).partition(_SIGNED)[0]}
            if isinstance(call, dict)
            else call
            for call in calls
        ]
    return plain


def _without_images(body: JsonObject) -> JsonObject:
    """The request for a provider with `image: false`: text parts only."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return body
    return {**body, "messages": [_without_image_parts(message) for message in messages]}


def _without_image_parts(message: Json) -> Json:
    if not isinstance(message, dict) or not isinstance(parts := message.get("content"), list):
        return message
    kept = [
        part for part in parts if not (isinstance(part, dict) and part.get("type") == "image_url")
    ]
    return {**message, "content": kept}


def _model_name(entry: Json) -> str:
    match entry:
        case {"id": str(name)} if not name.startswith("azureml:"):
            return name
        case {"name": str(name)}:
            return name.removeprefix("models/")
        case str(name):
            return name
        case _:
            return ""
