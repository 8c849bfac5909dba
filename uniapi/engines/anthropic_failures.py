"""What Anthropic's refusals mean: its error types, with and without an HTTP status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from uniapi.codec import Json
from uniapi.engines import failures
from uniapi.errors import Failure, Kind

_STATUS: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 503,  # 529 on the wire, which clients do not know
}
_POLICY: Final = ("content filtering policy",)
_CONTEXT: Final = ("exceed context limit",)


def refused(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """The failure that an HTTP answer of status 300 or more is; header names are lower-case."""
    return _sharper(failures.refused(status, headers, body))


def in_band(value: Json) -> Failure:
    """The failure that an error event or an error object under a 200 is."""
    message, _, words = failures.words(value)
    kind = words.partition(" ")[0]
    status = _STATUS.get(kind)
    failure = failures.in_band(value)
    if status is None:
        return failure
    known = failures.kind_of(status, f"{kind} {message}")
    if known is Kind.SERVER:
        known = Kind.GARBAGE  # as `failures.in_band`: a 200 that fails is not asked again
    return _sharper(replace(failure, kind=known, status=status, code=failure.code or kind))


def _sharper(failure: Failure) -> Failure:
    """The failure with the class that Anthropic's own phrases tell."""
    said = failure.message.lower()
    kind = failure.kind
    if kind is Kind.REQUEST:
        if any(phrase in said for phrase in _POLICY):
            kind = Kind.POLICY
        elif any(phrase in said for phrase in _CONTEXT):
            kind = Kind.CONTEXT
    return replace(failure, kind=kind)
