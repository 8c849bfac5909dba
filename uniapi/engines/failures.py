"""What a provider's refusal means, read from its status and the words it used.

The shapes are those recorded from the providers: OpenAI's object, Azure's, Anthropic's, Google's
(also inside a one-element array), Cohere's and Mistral's flat ones, FastAPI's `detail`.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

from uniapi import codec
from uniapi.codec import Json
from uniapi.errors import Failure, Kind

_MAX_TEXT: Final = 1000  # characters of a provider's words that reach a client or a log

CUT: Final = Failure(Kind.CUT, "the answer ended before it was complete", 502)
BROKEN: Final = Failure(Kind.GARBAGE, "the provider sent broken JSON", 502)

# Words are matched in lower case, in this order: the first class with a hit wins.
_WORDS: Final[tuple[tuple[Kind, tuple[str, ...]], ...]] = (
    (
        Kind.POLICY,
        (
            "content_filter",
            "content_policy_violation",
            "content management policy",
            "responsibleaipolicyviolation",
            "prohibited_content",
        ),
    ),
    (
        Kind.CONTEXT,
        (
            "context_length_exceeded",
            "maximum context length",
            "context window",
            "context length",
            "prompt is too long",
            "input token count exceeds",
            "exceeds the maximum number of tokens",
            "too many tokens",
        ),
    ),
    (
        Kind.KEY,
        (
            "api_key_invalid",
            "api key not valid",
            "invalid api key",
            "invalid_api_key",
            "incorrect api key",
            "api key expired",
            "authentication_error",
            "user location is not supported",
        ),
    ),
)
_QUOTA_WORDS: Final = (
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_error",
    "out of credits",
    "insufficient credits",
    "insufficient balance",
    "payment required",
    "credit balance is too low",
)


def refused(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """The failure that an HTTP answer of status 300 or more is.

    Args:
        status: HTTP status.
        headers: with lower-case names.
        body: as much of it as was read.
    """
    value = parsed(body)
    message, code, kind_word = words(value)
    if not message:
        message = _plain(body) or f"HTTP {status}"
    return Failure(
        kind=kind_of(status, f"{code} {kind_word} {message}"),
        message=message[:_MAX_TEXT],
        status=status,
        code=code or None,
        param=_param(value),
        retry_after=retry_after(headers),
    )


def in_band(value: Json) -> Failure:
    """The failure that an error object inside a 200 is: status from the object, else 502."""
    message, code, kind_word = words(value)
    status = _status_in(value)
    text = f"{code} {kind_word} {message}"
    kind = kind_of(status, text) if status else _by_words(text) or _by_type(kind_word)
    if kind is Kind.SERVER:
        kind = Kind.GARBAGE  # who says 200 and means 500 is not asked the same thing again
    return Failure(
        kind=kind,
        message=(message or "the provider answered with an error")[:_MAX_TEXT],
        status=status or _STATUS_OF.get(kind, 503 if "overloaded" in text.lower() else 502),
        code=code or None,
        param=_param(value),
    )


_STATUS_OF: Final = {
    Kind.POLICY: 400,
    Kind.CONTEXT: 400,
    Kind.KEY: 401,
    Kind.QUOTA: 402,
    Kind.RATE_LIMIT: 429,
}


def kind_of(status: int, text: str) -> Kind:
    """The class of a refusal, from its status and everything the provider said."""
    if status in {400, 403, 404, 413, 422}:
        return _by_words(text) or _BY_STATUS.get(status, Kind.REQUEST)
    if status == 429 and _by_words(text) is Kind.QUOTA:
        return Kind.QUOTA
    if status >= 500:
        return Kind.SERVER
    # A redirect is not followed: it would carry the prompt to a place nobody configured.
    return Kind.GARBAGE if status < 400 else _BY_STATUS.get(status, Kind.REQUEST)


_BY_STATUS: Final = {
    401: Kind.KEY,
    402: Kind.QUOTA,
    403: Kind.KEY,
    408: Kind.SERVER,  # like 409 and 425: a moment later the same request may pass
    409: Kind.SERVER,
    425: Kind.SERVER,
    429: Kind.RATE_LIMIT,
}


def _by_words(text: str) -> Kind | None:
    text = text.lower()
    for kind, phrases in _WORDS:
        if any(phrase in text for phrase in phrases):
            return kind
    return Kind.QUOTA if any(word in text for word in _QUOTA_WORDS) else None


def _by_type(word: str) -> Kind:
    """The class of an error that came without a status, by the providers' own type names."""
    word = word.lower()
    if "rate_limit" in word or "throttling" in word:
        return Kind.RATE_LIMIT
    return Kind.GARBAGE


def words(value: Json) -> tuple[str, str, str]:
    """Message, code and type of an error body, each empty when it has none."""
    match value:
        case [first, *_]:
            return words(first)
        case {"error": dict(error)} | {"errors": [dict(error), *_]}:
            return words(error)  # Cloudflare counts them
        case {"error": str(text)} | {"detail": str(text) | [{"msg": str(text)}, *_]}:
            return text, "", ""
        case dict():
            message = value.get("message")
            code = value.get("code")
            kind = value.get("type") or value.get("status") or value.get("error_type")
            return (
                message if isinstance(message, str) else "",
                str(code) if isinstance(code, str | int) and not isinstance(code, bool) else "",
                f"{kind if isinstance(kind, str) else ''} {_reasons(value)}".strip(),
            )
        case _:
            return "", "", ""


def _reasons(error: Mapping[str, Json]) -> str:
    """Google's `details[].reason`, where a bad key is named under a status of 400."""
    details = error.get("details")
    found = [
        detail["reason"]
        for detail in (details if isinstance(details, list) else [])
        if isinstance(detail, dict) and isinstance(detail.get("reason"), str)
    ]
    return " ".join(str(reason) for reason in found)


def _param(value: Json) -> str | None:
    match value:
        case {"error": {"param": str(param)}}:
            return param
        case _:
            return None


def _status_in(value: Json) -> int:
    """The HTTP status an error object names itself, else 0."""
    match value:
        case {"error": dict(error)}:
            for name in ("status", "status_code", "code"):
                number = error.get(name)
                if isinstance(number, str) and number.isdecimal():
                    number = int(number[:4])
                if isinstance(number, int) and 400 <= number <= 599:
                    return number
            return 0
        case _:
            return 0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `retry-after` (seconds, or a date).

    A date is measured against the answer's own `date`, so no clock of ours is asked.
    """
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        text = headers.get("retry-after", "").strip()
        if not text:
            return None
        if text.replace(".", "", 1).isdecimal():
            return float(text)
        until = parsedate_to_datetime(text)
        return max(0.0, (until - parsedate_to_datetime(headers["date"])).total_seconds())
    except (ValueError, KeyError, TypeError):
        return None  # a hint we cannot read is no hint


def parsed(body: bytes) -> Json:
    """A body as JSON; None when it is none."""
    try:
        return codec.loads_mended(body)
    except ValueError:
        return None


def _plain(body: bytes) -> str:
    """A body that is not JSON, when it is short plain text; a page of HTML tells nothing."""
    text = body.decode("utf-8", "replace").strip()
    return "" if "<" in text[:200] else " ".join(text.split())
