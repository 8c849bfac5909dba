"""The thin layer over bare ASGI: a request that knows its limits.

There is no framework because of when a gateway works: most of a request's life is before the
response exists, and there a framework's handler is not cancelled when the client leaves.
"""

from __future__ import annotations

import re
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Mapping,
    MutableMapping,
)
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs

import trio

from uniapi.errors import ApiError
from uniapi.ids import fresh

# ASGI messages are what the server makes them; past this file nobody sees one.
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]
Leaving: TypeAlias = Callable[[], None]

BODY_TIMEOUT: Final = 60.0  # seconds for a request body to arrive
_PARAMETERS: Final = 100  # of a query string
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}")

JSON: Final = "application/json"
FORM: Final = "multipart/form-data"
JSON_TYPES: Final = frozenset({JSON, "text/json", "text/plain"})


class ClientLeft(Exception):  # noqa: N818 - an outcome, not an error
    """The client hung up."""


def _unknown() -> bool:
    return False


@dataclass(slots=True)
class Request:
    """One request as ASGI gave it.

    Attributes:
        method: upper case.
        path: decoded, without a trailing slash.
        headers: by lower-case name; the last of a repeated name counts.
        query: the raw query string.
        id: the client's `x-request-id` when it is a sane one, else ours.
        client: the peer's address, for the log.
        streams_share: HTTP/2, where a slow reader must be noticed per stream.
        on_leaving: takes whom to tell when the client leaves, or None; None where the server has
            no such thing, and somebody has to wait for it instead.
        arrived: whether the whole request has come, and its body need not be waited for.
        sending: sends a part of the answer's body without waiting, False when some of it is left;
            None where the server has no such thing.
    """

    method: str
    path: str
    headers: dict[str, str]
    query: bytes
    id: str
    client: str
    receive: Receive
    streams_share: bool = False
    on_leaving: Callable[[Leaving | None], None] | None = None
    arrived: Callable[[], bool] = _unknown
    sending: Callable[[bytes], bool] | None = None

    @classmethod
    def of(cls, scope: Message, receive: Receive) -> Request:
        """Read the scope."""
        headers: dict[str, str] = {}
        given = b""
        for name, value in scope["headers"]:
            lower = name.lower()
            headers[lower.decode("latin-1")] = value.decode("latin-1")
            if lower == b"x-request-id":
                given = value
        sane = _REQUEST_ID.fullmatch(given) is not None
        peer = scope.get("client")
        extensions = scope.get("extensions", {})
        return cls(
            method=scope["method"],
            path=scope["path"].rstrip("/") or "/",
            headers=headers,
            query=scope["query_string"],
            id=given.decode() if sane else fresh("req-"),
            client=str(peer[0]) if peer else "",
            receive=receive,
            streams_share=scope["http_version"] == "2",
            on_leaving=extensions.get("uniapi.leaving"),
            arrived=extensions.get("uniapi.arrived", _unknown),
            sending=extensions.get("uniapi.sending"),
        )

    def refuse_by_headers(self, limit: int, types: Collection[str] = JSON_TYPES) -> None:
        """Refuse what the headers alone condemn, before anything is read.

        Args:
            limit: bytes of a body.
            types: the content types that are read here; none at all is taken for JSON.

        Raises:
            ApiError: 413 for a declared size above `limit`, 415 for an encoding or a type that
                is not read here.
        """
        declared = self.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > limit:
            raise _too_large(limit)
        encoding = self.headers.get("content-encoding", "identity").lower()
        if encoding not in {"", "identity"}:
            raise ApiError(
                415,
                f"content-encoding {encoding!r} is not accepted here; send plain JSON",
                code="unsupported_content_encoding",
            )
        kind = self.media_type or JSON
        if kind not in types and not (kind.endswith("+json") and JSON in types):
            known = " or ".join(one for one in (JSON, FORM) if one in types)
            raise ApiError(
                415,
                f"content-type {kind[:80]!r} is not read here; send content-type: {known}",
                code="unsupported_media_type",
            )

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case; empty when none was sent."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def parameters(self) -> Mapping[str, str]:
        """The parameters of the query string; the last of a repeated name counts.

        Raises:
            ApiError: 400, for more than anybody needs.
        """
        try:
            found = parse_qs(self.query.decode("latin-1"), max_num_fields=_PARAMETERS)
        except ValueError:
            why = f"the query string has more than {_PARAMETERS} parameters"
            raise ApiError(400, why, "invalid_request") from None
        return {name: values[-1] for name, values in found.items()}

    async def body(self, limit: int) -> bytes:
        """The whole request body.

        Raises:
            ApiError: 413 above `limit` bytes, 408 when it takes longer than `BODY_TIMEOUT`.
            ClientLeft: when the client hung up before its end.
        """
        if self.arrived():
            return await self._body(limit)  # at once: a deadline would be for nothing
        with trio.move_on_after(BODY_TIMEOUT):
            return await self._body(limit)
        raise ApiError(
            408,
            f"the request body did not arrive within {BODY_TIMEOUT:g} s",
            code="request_timeout",
            headers=[(b"connection", b"close")],
        )

    async def _body(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    async def wait_for_disconnect(self) -> None:
        """Return when the client has hung up."""
        while (await self.receive())["type"] != "http.disconnect":
            pass


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413,
        f"the request body is larger than {limit} bytes, the limit here",
        code="request_too_large",
        headers=[(b"connection", b"close")],
    )
