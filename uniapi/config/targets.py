"""What a client key may use: its `model:` list as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Everything:
    """`all`: every model of every provider."""


@dataclass(frozen=True, slots=True)
class AnyProvider:
    """`gpt-4o` or `<a/b>`: this model, from whoever has it."""

    model: str


@dataclass(frozen=True, slots=True)
class OneProvider:
    """`gemini/*` (model None) or `gemini/gemini-1.5-pro`."""

    provider: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class NestedKey:
    """`sk-.../*` (model None) or `sk-.../gpt-4o`: another client key as a channel.

    Attributes:
        key: the digest of that key's secret.
        model: one model of it, or all when None.
    """

    key: str
    model: str | None = None


Target: TypeAlias = Everything | AnyProvider | OneProvider | NestedKey


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a client key's `model:` list.

    Attributes:
        target: what it allows.
        weight: the positive integer after the colon, or None.
        text: the rule as written, with keys shown as digests.
    """

    target: Target
    weight: int | None = None
    text: str = ""
