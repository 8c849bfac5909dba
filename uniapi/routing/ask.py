"""What routing knows of a request, and whether a rule of the config fits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from uniapi.config.types import Channel

Facts: TypeAlias = Mapping[str, tuple[str, ...]]
"""Field name to its values for one request on one channel; no values when it does not apply."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The part of a request that decides where it goes.

    Attributes:
        model: the name the client asked for.
        endpoint: the canonical path, `/v1` included, no trailing slash.
        size: bytes of the body.
        tokens: how many the request itself is thought to have.
        stream: the client wants server-sent events.
        reasoning_effort: as the client wrote it, or None.
        request_type: `compaction` is the only type files name so far; None is an ordinary request.
    """

    model: str
    endpoint: str = "/v1/chat/completions"
    size: int = 0
    tokens: int = 0
    stream: bool = False
    reasoning_effort: str | None = None
    request_type: str | None = None


def facts(ask: Ask, channel: Channel, role: str | None = None) -> Facts:
    """What a `match` in the config may speak of, for this request on this channel.

    `engine` is known only where the config forces one; an inferred engine has no value here.
    """
    return {
        "endpoint": (ask.endpoint,),
        "method": ("POST",),
        "stream": ("true" if ask.stream else "false",),
        "request_type": _given(ask.request_type),
        "reasoning_effort": _given(ask.reasoning_effort),
        "request_model": (ask.model,),
        "upstream_model": (channel.upstream,),
        "model": (ask.model, channel.upstream),
        "provider": (channel.provider.name,),
        "engine": _given(channel.provider.engine),
        "role": _given(role),
    }


def fits(match: tuple[tuple[str, tuple[str, ...]], ...], known: Facts) -> bool:
    """Whether every field has a value that one of its patterns fits.

    A pattern is a literal, `*` or `prefix*`, whatever the case. A field nobody knows fits nothing.
    """
    return all(
        any(_like(pattern, value) for value in known.get(field, ()) for pattern in patterns)
        for field, patterns in match
    )


def _like(pattern: str, value: str) -> bool:
    pattern, value = pattern.casefold(), value.casefold()
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return pattern == value


def _given(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)
