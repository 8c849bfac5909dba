"""The `aws` engine: models on Amazon Bedrock, through Converse."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from uniapi import codec
from uniapi.chat import ChatRequest
from uniapi.codec import Json
from uniapi.config.types import Channel, Provider
from uniapi.engines import failures
from uniapi.engines.base import Call, Decoder, Engine, Recipient
from uniapi.engines.bedrock_blocks import remote
from uniapi.engines.bedrock_decoder import BedrockDecoder
from uniapi.engines.bedrock_models import Model
from uniapi.engines.bedrock_request import Request
from uniapi.engines.bedrock_values import too_long
from uniapi.engines.fit import fitted
from uniapi.engines.openai import bearer, headers
from uniapi.engines.overrides import override
from uniapi.engines.sigv4 import Signer
from uniapi.engines.urls import host_of
from uniapi.errors import Failure, Kind
from uniapi.events import Start
from uniapi.framing import Framing

_REGION: Final = "us-east-1"  # where nothing names one; it has the most models
# Also with -fips, in a VPC's own endpoint, and in China (amazonaws.com.cn).
_HOST: Final = re.compile(r"(?:^|\.)bedrock(?:-runtime)?(?:-fips)?\.([a-z0-9-]+)\.")
_SIGNED: Final = ("content-type", "host")  # beside x-amz-*: proxies may change the others
_OPENAI_DOORS: Final = ("/chat/completions", "/openai/v1")


class Bedrock(Engine):
    """Converse with AWS keys (SigV4), or with a Bedrock API key as the bearer.

    AWS keys win where both are given. The region is `aws_region`, else the host's, else us-east-1.
    """

    names: tuple[str, ...] = ("aws", "bedrock")

    def claims(self, provider: Provider, upstream: str) -> int:  # noqa: ARG002 - by address and keys
        """AWS's hosts, or AWS keys; Bedrock's OpenAI-compatible door is left to `gpt`."""
        if provider.base_url is None:
            return 3 if provider.aws_access_key is not None else 0
        if urlsplit(provider.base_url).path.rstrip("/").endswith(_OPENAI_DOORS):
            return 0
        host = host_of(provider)
        if host.removesuffix(".cn").endswith(".amazonaws.com"):
            return 3
        return 2 if provider.aws_access_key is not None else 0

    def encode(self, chat: ChatRequest, to: Recipient) -> Call:
        """`POST /model/{id}/converse` or `/converse-stream`, signed as it will be sent."""
        channel = to.channel
        provider = channel.provider
        asked = fitted(chat, provider)
        request = Request(chat, asked, Model(channel), to.media)
        body = codec.dumps(override(request.body, channel))
        url = _url(provider, channel.upstream, stream=chat.stream)
        return Call(
            method="POST",
            url=url,
            headers=_signed(provider, to, url, body),
            body=body,
            framing="eventstream" if chat.stream else "json",
            notes=tuple(dict.fromkeys(request.notes)),
        )

    def needs(self, chat: ChatRequest, channel: Channel) -> tuple[str, ...]:
        """Every http(s) address of a picture or file: Converse takes bytes only."""
        found = remote(fitted(chat, channel.provider))
        return tuple(dict.fromkeys(url for url in found if not url.lower().startswith("gs:")))

    def decoder(self, chat: ChatRequest, framing: Framing, default: Start) -> Decoder:  # noqa: ARG002 - as the client streams or not
        """A decoder for either form."""
        return BedrockDecoder(framing, default)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """AWS's flat body; the class of error is in `x-amzn-errortype`."""
        failure = failures.refused(status, headers, body)
        name = headers.get("x-amzn-errortype", "").partition(":")[0]
        kind = failure.kind
        if too_long(failure.message):
            kind = Kind.CONTEXT
        elif name == "ServiceQuotaExceededException":
            kind = Kind.QUOTA
        elif status == 424:
            kind = Kind.SERVER  # ModelErrorException: the model failed, not the request
        return replace(failure, kind=kind, code=failure.code or name or None)

    def catalogue(self, to: Recipient) -> Call | None:
        """AWS's listing of text models that are called on demand, on the control plane's host.

        Inference profiles are not in it: they are written under `model:`. Behind another host
        than AWS's nothing is known of a listing.
        """
        provider = to.channel.provider
        if provider.base_url is not None and not _HOST.search(host_of(provider)):
            return None
        url = f"https://bedrock.{_region(provider)}.amazonaws.com/foundation-models"
        url += "?byInferenceType=ON_DEMAND&byOutputModality=TEXT"
        return Call("GET", url, _signed(provider, to, url, b"", method="GET"))

    def models(self, body: bytes) -> tuple[str, ...]:
        """`modelSummaries[].modelId`, less what AWS calls legacy."""
        match codec.loads_mended(body):
            case {"modelSummaries": list(entries)}:
                found = [_listed(entry) for entry in entries]
            case _:
                raise ValueError("not a list of models")
        return tuple(dict.fromkeys(name for name in found if name))


def _listed(entry: Json) -> str:
    match entry:
        case {"modelLifecycle": {"status": "LEGACY"}}:
            return ""
        case {"modelId": str(name)}:
            return name
        case _:
            return ""


def _region(provider: Provider) -> str:
    found = _HOST.search(host_of(provider))
    return provider.aws_region or (found[1] if found else _REGION)


def _url(provider: Provider, model: str, *, stream: bool) -> str:
    """Where the model is asked; what the user wrote from `/model/` on is replaced."""
    base = provider.base_url or f"https://bedrock-runtime.{_region(provider)}.amazonaws.com"
    parts = urlsplit(base)
    root = parts.path.partition("/model/")[0].rstrip("/")
    verb = "converse-stream" if stream else "converse"
    path = f"{root}/model/{quote(model, safe='')}/{verb}"
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def _signed(
    provider: Provider, to: Recipient, url: str, body: bytes, *, method: str = "POST"
) -> tuple[tuple[str, str], ...]:
    """The headers, with a signature over the final body unless the config brings its own proof."""
    access, secret = provider.aws_access_key, provider.aws_secret_key
    if access is None or secret is None:
        return headers(provider, bearer(to.key), to.passed)
    built = headers(provider, (), to.passed)
    if "authorization" in dict(built):
        return built
    signer = Signer(access, secret, _region(provider), "bedrock", provider.aws_session_token)
    signed = [
        (name, value) for name, value in built if name in _SIGNED or name.startswith("x-amz-")
    ]
    proof = signer.sign(method, url, signed, body, to.now)
    ours = dict(proof)
    return (*((name, value) for name, value in built if name not in ours), *proof)
