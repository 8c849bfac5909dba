"""What is remembered of one request, and of each attempt it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that machines ask every few seconds: they would be most of a log, and most of a file."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """One attempt of a request that is over.

    Attributes:
        provider: its name in the configuration.
        upstream: the provider's name for the model.
        key: digest of the provider's key; empty for none.
        outcome: `ok`, `cancelled`, or the kind of failure.
        why: what it was started for: empty for its turn, `hedge` or `rescue`.
        seconds: from its start to its end.
        first: seconds to the first token; None when there was none.
        tokens: that the provider counted; 0 when it did not say.
    """

    provider: str
    upstream: str
    key: str
    outcome: str
    why: str
    seconds: float
    first: float | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Record:
    """One request that is over.

    Attributes:
        at: when it ended, unix seconds.
        id: what `x-request-id` says.
        endpoint: method and canonical path, as `POST /v1/chat/completions`; `other` for a path
            that is none of ours, so that it has few values.
        client: the peer's address.
        key: digest of the client key; empty when it had none that is known.
        model: as it was asked for; empty for requests about no model, when nobody was asked (a
            limit or a budget refused it), and for models that nobody serves for this key, so that
            it has as many values as the configuration has.
        stream: a stream was asked for.
        status: of the answer; 0 when there was none.
        outcome: `ok`, `client_left`, `error`, `cancelled`, `crashed` or the kind of failure that
            cut the answer.
        limit: the rate limit that refused it; empty when none did.
        provider: whose answer the client got; empty for nobody's.
        upstream: that provider's name for the model.
        seconds: from its first byte to its end.
        first: seconds to the first token; None when there was none.
        prompt: tokens, as the provider counted them.
        completion: likewise.
        total: likewise.
        cost: US dollars by the configuration's `model_price`.
        via: digests of the nested client keys that the answer came through, outermost first.
        attempts: in the order they were begun.
        parts: by those of `via` that only a part of the answer came through: US dollars of it.
    """

    at: float
    id: str
    endpoint: str
    client: str
    key: str
    model: str
    stream: bool
    status: int
    outcome: str
    limit: str
    provider: str
    upstream: str
    seconds: float
    first: float | None
    prompt: int
    completion: int
    total: int
    cost: float
    via: tuple[str, ...]
    attempts: tuple[Attempted, ...]
    parts: Mapping[str, float] = field(default_factory=dict)

    def paid_through(self, nested: str) -> float:
        """US dollars of what came through this one of `via`."""
        return self.parts.get(nested, self.cost)
