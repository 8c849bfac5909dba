"""What a failure means: for the channel, for its key, and for the client.

The table is data; `walk` carries it out. It is the one place that says which failure may be
followed by which attempt.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from types import MappingProxyType
from typing import Final, assert_never

from uniapi.errors import ApiError, Failure, Kind


class SameChannel(Enum):
    """Whether the channel that failed is asked once more."""

    NEVER = auto()
    ONCE_AFTER_JITTER = auto()
    """After 50 to 250 ms, with the next key of the pool if there is one."""
    NEXT_KEY = auto()
    """At once, with a key that has not been refused."""


class Cools(Enum):
    """When the channel rests."""

    NEVER = auto()
    AT_ONCE = auto()
    WHEN_RETRY_FAILS = auto()
    WHEN_KEYS_COOL = auto()
    """When none of its keys is left."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row of the table.

    Attributes:
        same_channel: whether this channel is asked once more.
        next_channel: whether anybody else is asked.
        cools_channel: when this channel rests.
        cools_key: whether the key rests.
        passing: it may be gone a moment later, so a numbered AUTO_RETRY may come round again.
    """

    same_channel: SameChannel
    next_channel: bool
    cools_channel: Cools
    cools_key: bool
    passing: bool


_SHAKY = Meaning(
    SameChannel.ONCE_AFTER_JITTER,
    next_channel=True,
    cools_channel=Cools.WHEN_RETRY_FAILS,
    cools_key=False,
    passing=True,
)
_UNWELL = Meaning(
    SameChannel.NEVER,
    next_channel=True,
    cools_channel=Cools.AT_ONCE,
    cools_key=False,
    passing=True,
)
_REFUSED_KEY = Meaning(
    SameChannel.NEXT_KEY,
    next_channel=True,
    cools_channel=Cools.WHEN_KEYS_COOL,
    cools_key=True,
    passing=False,
)
_REFUSED_REQUEST = Meaning(
    SameChannel.NEVER,
    next_channel=True,
    cools_channel=Cools.NEVER,
    cools_key=False,
    passing=False,
)

MEANING: Final[Mapping[Kind, Meaning]] = MappingProxyType(
    {
        Kind.CONNECT: _SHAKY,
        Kind.RESET: _SHAKY,
        Kind.SERVER: _SHAKY,
        Kind.FIRST_TOKEN: _UNWELL,
        Kind.IDLE: _UNWELL,
        # A long answer that meets its `total` says nothing about the channel's health.
        Kind.TOTAL: Meaning(
            SameChannel.NEVER,
            next_channel=True,
            cools_channel=Cools.NEVER,
            cools_key=False,
            passing=True,
        ),
        # Nor does a deadline, which is the client's; and there is no time for anybody else.
        Kind.DEADLINE: Meaning(
            SameChannel.NEVER,
            next_channel=False,
            cools_channel=Cools.NEVER,
            cools_key=False,
            passing=False,
        ),
        Kind.RATE_LIMIT: Meaning(
            SameChannel.NEXT_KEY,
            next_channel=True,
            cools_channel=Cools.WHEN_KEYS_COOL,
            cools_key=True,
            passing=True,
        ),
        Kind.KEY: _REFUSED_KEY,
        Kind.QUOTA: _REFUSED_KEY,
        Kind.CONTEXT: _REFUSED_REQUEST,
        Kind.POLICY: Meaning(
            SameChannel.NEVER,
            next_channel=False,
            cools_channel=Cools.NEVER,
            cools_key=False,
            passing=False,
        ),
        Kind.REQUEST: _REFUSED_REQUEST,
        Kind.GARBAGE: _UNWELL,
        Kind.TRIGGER: _UNWELL,
        Kind.EMPTY: _UNWELL,
        Kind.CUT: _UNWELL,
    }
)

_TELLING: Final[Mapping[Kind, int]] = MappingProxyType(
    {
        kind: rank
        for rank, kinds in enumerate(
            (
                (Kind.CONNECT,),
                (Kind.RESET,),
                (Kind.GARBAGE, Kind.EMPTY, Kind.TRIGGER, Kind.CUT),
                (Kind.SERVER,),
                (Kind.FIRST_TOKEN, Kind.IDLE, Kind.TOTAL, Kind.DEADLINE),
                (Kind.KEY,),
                (Kind.RATE_LIMIT, Kind.QUOTA),
                (Kind.REQUEST,),
                (Kind.CONTEXT,),
                (Kind.POLICY,),
            )
        )
        for kind in kinds
    }
)


def tells(failure: Failure) -> int:
    """How much a failure tells the client: what it can act on itself ranks highest."""
    return _TELLING[Kind.KEY if _unusable(failure) else failure.kind]


def _unusable(failure: Failure) -> bool:
    """Whether nobody was asked, because the provider's entry in the configuration cannot be used.

    A provider refuses a key or a request with 4xx; with 5xx the refusal is the gateway's own.
    """
    return failure.kind in {Kind.KEY, Kind.REQUEST} and failure.status >= 500


def most_telling(failures: Sequence[Failure]) -> Failure:
    """The failure whose status and message help the client most; of equals the latest.

    Raises:
        ValueError: when there is none.
    """
    return max(reversed(failures), key=tells)


def for_client(failure: Failure, model: str, provider: str | None = None) -> ApiError:
    """The answer for a client whose every attempt failed, this failure being the most telling.

    A provider that refused the gateway's own key is a 502: with its 401 an SDK would tell a person
    that their key is wrong. What the gateway could not even ask for keeps its 500 and its code.

    Args:
        failure: what the provider said or did.
        model: its model, as the provider calls it.
        provider: its name, when there is one to blame.
    """
    whose = f"model {model}" if provider is None else f"provider {provider}, model {model}"
    status = _status(failure)
    own = status == failure.status
    wait = failure.retry_after
    aside = "" if _unusable(failure) else _ASIDES.get(failure.kind, "")
    return ApiError(
        status=status,
        message=f"{whose}: {aside}{failure.message}",
        code=_CODES.get(failure.kind)
        or (failure.code if own and failure.code else failure.kind.value),
        type=failure.type if own else None,
        param=failure.param,
        headers=(
            ((b"retry-after", str(math.ceil(wait)).encode()),)
            if status == 429 and wait is not None and 0 < wait < math.inf
            else ()
        ),
    )


_ASIDES: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        Kind.KEY: "it refused the gateway's own key: ",
        Kind.QUOTA: "the gateway's own account there is used up: ",
    }
)

# The word programs look for, whatever the provider's own is ("INVALID_ARGUMENT").
_CODES: Final[Mapping[Kind, str]] = MappingProxyType({Kind.CONTEXT: "context_length_exceeded"})

_SERVER: Final[Mapping[int, int]] = MappingProxyType(
    # 529 is Anthropic's "overloaded"; 520 to 526 are Cloudflare's words for a bad gateway.
    {500: 500, 501: 501, 502: 502, 503: 503, 504: 504, 529: 503}
)


def _status(failure: Failure) -> int:
    if _unusable(failure):
        return failure.status
    match failure.kind:
        case Kind.POLICY | Kind.CONTEXT | Kind.REQUEST:
            return failure.status if 400 <= failure.status < 500 else 400
        case Kind.RATE_LIMIT:
            return 429
        case Kind.KEY | Kind.QUOTA:
            return 429 if failure.kind is Kind.QUOTA and failure.status == 429 else 502
        case Kind.FIRST_TOKEN | Kind.IDLE | Kind.TOTAL | Kind.DEADLINE:
            return 504
        case Kind.SERVER:
            return _SERVER.get(failure.status, 502)
        case Kind.CONNECT | Kind.RESET | Kind.GARBAGE | Kind.EMPTY | Kind.TRIGGER | Kind.CUT:
            return 502
        case _:
            assert_never(failure.kind)
