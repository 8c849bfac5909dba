"""The `cohere` engine: Cohere's v2 chat."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from uniapi import codec
from uniapi.chat import ChatRequest
from uniapi.codec import JsonObject
from uniapi.config.types import Provider
from uniapi.engines import cohere_relay, failures
from uniapi.engines.base import Call, Decoder, Engine, Recipient, Relay
from uniapi.engines.cohere_decoder import CohereDecoder
from uniapi.engines.cohere_request import Request
from uniapi.engines.fit import fitted
from uniapi.engines.openai import bearer, headers
from uniapi.engines.overrides import override, override_own
from uniapi.engines.urls import host_of
from uniapi.errors import Failure, Kind
from uniapi.events import Start
from uniapi.framing import Framing
from uniapi.relay import EMBEDDINGS, RelayRequest

_BASE: Final = "https://api.cohere.com"
_HOSTS: Final = (".api.cohere.com", ".api.cohere.ai")
_VERSION: Final = re.compile(r"/v\d+(/|$)")


class Cohere(Engine):
    """Version 2 whatever the base_url says: version 1 is another dialect, and a dead one."""

    names: tuple[str, ...] = ("cohere",)

    def claims(self, provider: Provider, upstream: str) -> int:  # noqa: ARG002 - by address only
        """Cohere's hosts, or `/v2/chat` elsewhere; its `/compatibility` door speaks `gpt`."""
        path = urlsplit(provider.base_url or "").path.rstrip("/")
        if "/compatibility/" in f"{path}/":
            return 0
        if f".{host_of(provider)}".endswith(_HOSTS):
            return 3
        return 2 if path.endswith("/v2/chat") else 0

    def encode(self, chat: ChatRequest, to: Recipient) -> Call:
        """`POST /v2/chat`."""
        channel = to.channel
        provider = channel.provider
        asked = fitted(chat, provider)
        request = Request(chat, asked, channel.upstream)
        body: JsonObject = {"model": channel.upstream, **request.body, "stream": chat.stream}
        body = override(body, channel)
        return Call(
            method="POST",
            url=_place(provider, "v2/chat"),
            headers=headers(provider, bearer(to.key), to.passed),
            body=codec.dumps(body),
            framing="sse" if body.get("stream") is True else "json",
            notes=tuple(dict.fromkeys(request.notes)),
        )

    def relay(self, request: RelayRequest, to: Recipient) -> Relay | None:
        """`POST /v2/embed`; there is nothing else."""
        if request.endpoint != EMBEDDINGS:
            return None
        channel = to.channel
        body, notes = cohere_relay.asked(request, channel.upstream)
        call = Call(
            method="POST",
            url=_place(channel.provider, "v2/embed"),
            headers=headers(channel.provider, bearer(to.key), to.passed),
            body=codec.dumps(override_own(body, channel)),
            notes=notes,
        )
        return Relay(call, partial(cohere_relay.translate, request, channel.upstream))

    def decoder(self, chat: ChatRequest, framing: Framing, default: Start) -> Decoder:  # noqa: ARG002 - as the client streams or not
        """A decoder for either form."""
        return CohereDecoder(framing, default)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """Cohere's flat `{"id", "message"}`; 498 is a token it does not know."""
        failure = failures.refused(status, headers, body)
        if status == 498:
            return replace(failure, kind=Kind.KEY)
        if status == 429 and "/ month" in failure.message:
            return replace(failure, kind=Kind.QUOTA)  # a trial key's calls are used up
        return failure

    def catalogue(self, to: Recipient) -> Call | None:
        """`GET /v1/models`, those that chat; 1000 is the longest page."""
        provider = to.channel.provider
        url = _place(provider, "v1/models", "endpoint=chat&page_size=1000")
        return Call("GET", url, headers(provider, bearer(to.key), to.passed))

    def models(self, body: bytes) -> tuple[str, ...]:
        """Names from `models[].name`."""
        match codec.loads_mended(body):
            case {"models": list(entries)}:
                names = [entry.get("name") for entry in entries if isinstance(entry, dict)]
                return tuple(name for name in names if isinstance(name, str) and name)
            case _:
                raise ValueError("not a list of models")


def _place(provider: Provider, endpoint: str, query: str = "") -> str:
    """The URL of an endpoint beside the one in base_url, whose own version is replaced."""
    parts = urlsplit(provider.base_url or _BASE)
    root = _VERSION.split(parts.path, maxsplit=1)[0].rstrip("/")
    asked = "&".join(part for part in (parts.query, query) if part)
    return urlunsplit((parts.scheme, parts.netloc, f"{root}/{endpoint}", asked, ""))
