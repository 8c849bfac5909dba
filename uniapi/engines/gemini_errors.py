"""Google's error object: what the common reading of errors does not know about it.

    {"error": {"code": 429, "message": ..., "status": "RESOURCE_EXHAUSTED", "details": [...]}}

also as the only element of an array. Google sends no Retry-After: the wait is in the details.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from uniapi.codec import Json, JsonObject
from uniapi.engines import failures
from uniapi.errors import Failure, Kind


def refused(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """The failure that an HTTP answer of status 300 or more is."""
    return _explained(failures.refused(status, headers, body), failures.parsed(body))


def in_band(value: Json) -> Failure:
    """The failure that an error in place of an answer is."""
    match value:
        case [{"error": _} as only, *_]:
            value = only
        case _:
            pass
    return _explained(failures.in_band(value), value)


def _explained(failure: Failure, value: Json) -> Failure:
    """The failure with Google's most telling word as its code, and with the wait the details name.

    A day's quota that is used up is no matter of seconds, whatever the wait says: the account is
    empty until tomorrow.
    """
    error = _error(value)
    words = [*(detail.get("reason") for detail in _details(error)), error.get("status")]
    word = next((word for word in words if isinstance(word, str) and word), failure.code)
    wait = failure.retry_after if failure.retry_after is not None else _wait(error)
    kind = failure.kind
    if kind is Kind.RATE_LIMIT and any("PerDay" in quota for quota in _quotas(error)):
        kind, wait = Kind.QUOTA, failure.retry_after
    return replace(failure, kind=kind, code=word, retry_after=wait)


def _error(value: Json) -> JsonObject:
    match value:
        case {"error": dict(error)} | [{"error": dict(error)}, *_]:
            return error
        case _:
            return {}


def _details(error: JsonObject) -> Iterator[JsonObject]:
    details = error.get("details")
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict):
            yield detail


def _wait(error: JsonObject) -> float | None:
    """Seconds, from `google.rpc.RetryInfo`: `{"retryDelay": "34.07s"}`."""
    for detail in _details(error):
        match detail.get("retryDelay"):
            case str(text) if text.endswith("s"):
                number = text.removesuffix("s")
                if number.replace(".", "", 1).isdecimal():
                    return float(number)
            case _:
                pass
    return None


def _quotas(error: JsonObject) -> Iterator[str]:
    """The quotas that were hit, from `google.rpc.QuotaFailure`."""
    for detail in _details(error):
        violations = detail.get("violations")
        for violation in violations if isinstance(violations, list) else []:
            match violation:
                case {"quotaId": str(quota)}:
                    yield quota
                case _:
                    pass
