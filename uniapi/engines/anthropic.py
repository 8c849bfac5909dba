"""The `claude` engine: Anthropic's Messages API, and servers that speak it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from uniapi import codec
from uniapi.chat import ChatRequest
from uniapi.codec import JsonObject
from uniapi.config.types import Channel, Provider, Secret
from uniapi.engines import anthropic_failures as failures
from uniapi.engines.anthropic_blocks import addresses
from uniapi.engines.anthropic_body import body
from uniapi.engines.anthropic_decoder import AnthropicDecoder
from uniapi.engines.anthropic_models import family
from uniapi.engines.base import Call, Decoder, Engine, Recipient
from uniapi.engines.fit import fitted
from uniapi.engines.openai import headers
from uniapi.engines.overrides import override
from uniapi.engines.urls import host_of
from uniapi.errors import Failure
from uniapi.events import Start
from uniapi.framing import Framing

_HOST: Final = "api.anthropic.com"
_VERSION: Final = "2023-06-01"
_KNOWN: Final = ("/messages", "/models", "/chat/completions")
_OAUTH: Final = "sk-ant-oat"  # how Anthropic's OAuth tokens begin


class Anthropic(Engine):
    """Claude at Anthropic's, or behind a URL that ends in `/v1/messages`."""

    names: tuple[str, ...] = ("claude", "anthropic")

    def claims(self, provider: Provider, upstream: str) -> int:  # noqa: ARG002 - by address only
        """Anthropic's host, a path of its API, or a path called after it (DeepSeek, Moonshot)."""
        if host_of(provider) == _HOST:
            return 3
        path = urlsplit(provider.base_url or "").path.rstrip("/")
        return 2 if path.endswith(("/v1/messages", "/anthropic")) else 0

    def encode(self, chat: ChatRequest, to: Recipient) -> Call:
        """`POST .../v1/messages`."""
        channel = to.channel
        made, notes = body(
            fitted(chat, channel.provider), family(channel.upstream), media=to.media, fetches=True
        )
        whole: JsonObject = {"model": channel.upstream, **made}
        if chat.stream:
            whole["stream"] = True
        whole = override(whole, channel)
        return Call(
            method="POST",
            url=_place(channel.provider, "messages"),
            headers=headers(channel.provider, _auth(to.key), to.passed),
            body=codec.dumps(whole),
            framing="sse" if whole.get("stream") is True else "json",
            notes=notes,
        )

    def continues(self, upstream: str) -> bool:
        """Claude does up to 4.5; from 4.6 on it refuses."""
        return family(upstream).continues

    def needs(self, chat: ChatRequest, channel: Channel) -> tuple[str, ...]:
        """Plain http addresses: Anthropic fetches over https only."""
        return addresses(fitted(chat, channel.provider).turns, fetches=True)

    def decoder(self, chat: ChatRequest, framing: Framing, default: Start) -> Decoder:  # noqa: ARG002 - the form is the writer's business
        """A decoder of typed events, or of one message."""
        return AnthropicDecoder(framing, default)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """`{"type":"error","error":{"type","message"}}`."""
        return failures.refused(status, headers, body)

    def catalogue(self, to: Recipient) -> Call | None:
        """`GET .../v1/models`, in one page."""
        provider = to.channel.provider
        url = f"{_place(provider, 'models')}?limit=1000"
        return Call("GET", url, headers(provider, _auth(to.key), to.passed))

    def models(self, body: bytes) -> tuple[str, ...]:
        """Names from `data[].id`."""
        match codec.loads_mended(body):
            case {"data": list(entries)}:
                names = [entry.get("id") for entry in entries if isinstance(entry, dict)]
                return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))
            case _:
                raise ValueError("not a list of models")


def _auth(key: Secret | None) -> tuple[tuple[str, str], ...]:
    version = ("anthropic-version", _VERSION)
    if key is None:
        return (version,)
    value = key.reveal()
    if value.startswith(_OAUTH):
        return (version, ("authorization", f"Bearer {value}"))
    return (version, ("x-api-key", value))


def _place(provider: Provider, endpoint: str) -> str:
    """The URL of `messages` or `models` beside the one in `base_url`.

    A full URL of an endpoint is understood; a path that ends in a version is the root, any other
    has the API under `/v1`. The query is kept.
    """
    parts = urlsplit(provider.base_url or f"https://{_HOST}")
    path = parts.path.rstrip("/")
    for known in _KNOWN:
        if path.endswith(known):
            path = path.removesuffix(known)
            break
    else:
        if not path.endswith("/v1"):
            path += "/v1"
    return urlunsplit((parts.scheme, parts.netloc, f"{path}/{endpoint}", parts.query, ""))
