"""What can go wrong, in two words: a provider's `Failure` is a value, an `ApiError` is raised.

A `Failure` says how one attempt ended; the race passes it around and decides. An `ApiError` is
the answer to a client: the edge turns it into the OpenAI error object and its status.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from uniapi import codec


class Kind(StrEnum):
    """The classes of failure an attempt can end with; `routing.failures` says what each means."""

    CONNECT = "connect"
    """Refused, unreachable, no such host, TLS refused, proxy refused."""
    RESET = "reset"
    """The connection broke before the answer began."""
    SERVER = "server_error"
    """500, 502, 503, 504, 529 and other 5xx."""
    FIRST_TOKEN = "first_token_timeout"  # noqa: S105 - a kind of timeout, not a secret
    IDLE = "idle_timeout"
    TOTAL = "total_timeout"
    DEADLINE = "deadline"
    """The request's own deadline passed, whoever was being asked."""
    RATE_LIMIT = "rate_limit"
    KEY = "key"
    """401, 403 or a provider's own words for a bad key."""
    QUOTA = "quota"
    """402 or a provider's own words for an empty account."""
    CONTEXT = "context_length"
    POLICY = "content_filter"
    REQUEST = "bad_request"
    """Other 400, 404, 413, 422."""
    GARBAGE = "bad_response"
    """A 200 that is an error object, HTML, or not the dialect at all."""
    TRIGGER = "error_trigger"
    EMPTY = "empty_response"
    CUT = "cut"
    """The stream ended without its terminator."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt ended, when it did not end well.

    Attributes:
        kind: the class, on which every decision rests.
        message: the provider's words or ours; scrubbed of keys and capped before it gets here.
        status: the upstream's HTTP status, or the one the client is to see when there is none.
        code: the OpenAI error object's `code`.
        type: the OpenAI error object's `type`; derived from the status when None.
        param: the OpenAI error object's `param`.
        retry_after: seconds the provider asked us to wait, when it did.
    """

    kind: Kind
    message: str
    status: int
    code: str | None = None
    type: str | None = None
    param: str | None = None
    retry_after: float | None = None


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def error_type(status: int) -> str:
    """The OpenAI error object's `type` that goes with a status."""
    if status >= 500:
        return "server_error"
    return _TYPES.get(status, "invalid_request_error")


def error_object(
    message: str,
    *,
    status: int,
    type: str | None = None,  # noqa: A002 - the wire's own name
    code: str | None = None,
    param: str | None = None,
) -> codec.JsonObject:
    """The OpenAI error object: all four keys, always."""
    return {
        "error": {
            "message": message,
            "type": type or error_type(status),
            "param": param,
            "code": code,
        }
    }


@dataclass(slots=True)
class ApiError(Exception):
    """An answer to the client that is an error.

    Attributes:
        status: HTTP status, 400 to 599.
        message: for a person; never holds a secret.
        code: a stable word for programs.
        type: OpenAI's class of error; derived from the status when None.
        param: the request field at fault.
        headers: extra response headers, such as `retry-after` or `allow`.
    """

    status: int
    message: str
    code: str | None = None
    type: str | None = None
    param: str | None = None
    headers: Sequence[tuple[bytes, bytes]] = field(default=())

    def __str__(self) -> str:
        """The message, for logs and tracebacks."""
        return self.message

    def body(self) -> bytes:
        """The OpenAI error object as JSON bytes."""
        return codec.dumps(
            error_object(
                self.message,
                status=self.status,
                type=self.type,
                code=self.code,
                param=self.param,
            )
        )
