"""Google's Gemini API (AI Studio), and what Vertex shares with it.

POST {base}/models/{model}:generateContent
POST {base}/models/{model}:streamGenerateContent?alt=sse
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from uniapi import codec, relay
from uniapi.chat import ChatRequest
from uniapi.codec import Json
from uniapi.config.types import Channel, Provider, Secret
from uniapi.engines import gemini_embeddings, gemini_errors, gemini_images
from uniapi.engines.base import Call, Decoder, Engine, Recipient, Relay
from uniapi.engines.fit import fitted
from uniapi.engines.gemini_decoder import GeminiDecoder
from uniapi.engines.gemini_family import family
from uniapi.engines.gemini_media import Shelf, fetched_by_us
from uniapi.engines.gemini_relay import Asked
from uniapi.engines.gemini_request import Setting, request
from uniapi.engines.openai import headers
from uniapi.engines.overrides import override, override_own
from uniapi.engines.urls import host_of
from uniapi.errors import Failure
from uniapi.events import Start
from uniapi.framing import Framing
from uniapi.relay import RelayRequest

HOST: Final = "generativelanguage.googleapis.com"
STREAM: Final = "streamGenerateContent"
WHOLE: Final = "generateContent"
_BEYOND: Final = re.compile(r"/(?:models|tunedModels)(?:/.*)?$")
_SEARCH: Final = "-search"


class Gemini(Engine):
    """The dialect by its own address and key."""

    names: tuple[str, ...] = ("gemini",)
    vertex = False

    def claims(self, provider: Provider, upstream: str) -> int:  # noqa: ARG002 - by address only
        """Google's host, or any with `/v1beta` in its path; not its OpenAI-format endpoint."""
        path = urlsplit(provider.base_url or "").path.rstrip("/")
        segments = path.split("/")
        if "openai" in segments or path.endswith("/chat/completions"):
            return 0
        if host_of(provider) == HOST:
            return 3
        return 2 if "v1beta" in segments else 0

    def encode(self, chat: ChatRequest, to: Recipient) -> Call:
        """The conversation in Gemini's words."""
        channel = to.channel
        setting = Setting(
            of=family(channel.upstream),
            shelf=Shelf(self.vertex, to.media),
            plain=self.plain(channel.provider),
            search=_searches(channel),
            voice=_voice(chat),
        )
        body, notes = request(fitted(chat, channel.provider), setting)
        body = override(body, channel)
        # There is no such field in the body; the wish to stream is in the address.
        wish = body.pop("stream", chat.stream)
        stream = wish is True and not channel.upstream.endswith("-tts")  # speech comes whole
        return Call(
            method="POST",
            url=self.url(channel, STREAM if stream else WHOLE),
            headers=headers(channel.provider, self.auth(channel.provider, to.key), to.passed),
            body=codec.dumps(body),
            framing="sse" if stream else "json",
            notes=notes,
        )

    def relay(self, request: RelayRequest, to: Recipient) -> Relay | None:
        """Embeddings and pictures in Google's words; there is nothing else."""
        channel = to.channel
        asked = self._asked(request, channel.upstream.rpartition("/")[2], int(to.now))
        if asked is None:
            return None
        call = Call(
            method="POST",
            url=self.url(channel, asked.verb),
            headers=headers(channel.provider, self.auth(channel.provider, to.key), to.passed),
            body=codec.dumps(override_own(asked.body, channel)),
            notes=asked.notes,
        )
        return Relay(call, asked.translate)

    def _asked(self, request: RelayRequest, model: str, now: int) -> Asked | None:
        imagen = "imagen" in model
        match request.endpoint:
            case relay.EMBEDDINGS:
                return gemini_embeddings.asked(request, model, vertex=self.vertex)
            case relay.IMAGES if imagen:
                return gemini_images.imagen(request, now)
            case relay.IMAGES | relay.IMAGE_EDITS if not imagen:
                return gemini_images.painting(request, now)
            case _:
                return None

    def decoder(self, chat: ChatRequest, framing: Framing, default: Start) -> Decoder:
        """A fresh decoder."""
        return GeminiDecoder(chat, framing, default)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """Google's error object, also alone in an array."""
        return gemini_errors.refused(status, headers, body)

    def catalogue(self, to: Recipient) -> Call | None:
        """`GET {base}/models`, all on one page."""
        provider = to.channel.provider
        return Call(
            method="GET",
            url=_with(_root(provider), "models", pageSize="1000"),
            headers=headers(provider, self.auth(provider, to.key)),
        )

    def models(self, body: bytes) -> tuple[str, ...]:
        """The names of the models that can chat."""
        match codec.loads_mended(body):
            case {"models": list(entries)}:
                return tuple(dict.fromkeys(name for name in map(_chats, entries) if name))
            case _:
                raise ValueError("not a list of models")

    def needs(self, chat: ChatRequest, channel: Channel) -> tuple[str, ...]:
        """All http(s) addresses but Google's own: Gemini fetches none."""
        return fetched_by_us(fitted(chat, channel.provider))

    # What differs on Vertex.

    def plain(self, provider: Provider) -> bool:
        """Whether the address is of the first version, which knows fewer fields."""
        return urlsplit(_root(provider)).path.endswith("/v1")

    def url(self, channel: Channel, verb: str) -> str:
        """The address of a model's method."""
        model = channel.upstream
        where = model if model.startswith("tunedModels/") else f"models/{_bare(model)}"
        query = {"alt": "sse"} if verb == STREAM else {}
        return _with(_root(channel.provider), f"{quote(where)}:{verb}", **query)

    def auth(self, provider: Provider, key: Secret | None) -> tuple[tuple[str, str], ...]:  # noqa: ARG002 - Vertex looks at the provider
        """How the key is shown: in a header, since addresses end up in logs."""
        return (("x-goog-api-key", key.reveal()),) if key is not None else ()


def _searches(channel: Channel) -> bool:
    """Whether the model goes by a name of ours that asks for search, as in `model-search`."""
    return channel.name.endswith(_SEARCH) and not channel.upstream.endswith(_SEARCH)


def _voice(chat: ChatRequest) -> str | None:
    match chat.fields.get("audio"):
        case {"voice": str(voice)}:
            return voice
        case _:
            return None


def _root(provider: Provider) -> str:
    """The address up to the version; what was written beyond it is understood."""
    parts = urlsplit(provider.base_url or f"https://{HOST}")
    path = _BEYOND.sub("", parts.path.rstrip("/")) or "/v1beta"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _with(root: str, where: str, **query: str) -> str:
    """An address below the root; the root's own query is kept, some proxies want one."""
    parts = urlsplit(root)
    asked = "&".join(piece for piece in (parts.query, urlencode(query)) if piece)
    return urlunsplit((parts.scheme, parts.netloc, f"{parts.path}/{where}", asked, ""))


def _bare(model: str) -> str:
    return model.removeprefix("models/")


def _chats(entry: Json) -> str:
    """A model's name when it generates content, or does not say what it does."""
    match entry:
        case {"name": str(name), "supportedGenerationMethods": list(methods)}:
            return _bare(name) if WHOLE in methods else ""
        case {"name": str(name)}:
            return _bare(name)
        case _:
            return ""
