"""What an engine is: pure functions from a request to a call, and from frames to events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from uniapi.chat import ChatRequest
from uniapi.config.types import Channel, Provider, Secret
from uniapi.errors import Failure
from uniapi.events import Batch, Start
from uniapi.framing import Framing


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request to a provider.

    Attributes:
        method: GET or POST.
        url: absolute, with the query.
        headers: built from nothing; no client header gets here unless the config names it.
        body: the bytes to send; empty for GET.
        framing: how the answer is expected to be cut into frames.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    framing: Framing = "json"


class Decoder(Protocol):
    """Turns the frames of one answer into events, in order, once."""

    def feed(self, frames: Sequence[bytes]) -> Batch:
        """Decode the frames of one read: SSE event data, or one whole JSON body."""
        ...

    def finished(self) -> bool:
        """Whether the terminal frame was read: nothing that follows can matter."""
        ...

    def complete(self) -> bool:
        """Whether every choice has its finish reason: only usage can still come."""
        ...

    def end(self) -> Batch:
        """What is left to say when the body has ended.

        An answer that was cut ends in a `StreamFailed`; a complete one in what it still owes.
        """
        ...


class Engine(Protocol):
    """One wire dialect.

    Attributes:
        names: what `engine:` may call it, the usual name first.
    """

    names: tuple[str, ...]

    def claims(self, provider: Provider, upstream: str) -> int:
        """How surely the provider speaks this: 0 not, 1 as a fallback, 2 by path, 3 by host."""
        ...

    def encode(
        self,
        chat: ChatRequest,
        channel: Channel,
        key: Secret | None,
        passed: Sequence[tuple[str, str]] = (),
    ) -> Call:
        """The call that asks this channel; `passed` are client headers the config lets through.

        Raises:
            ApiError: 400 naming the parameter, for what cannot be honoured safely.
        """
        ...

    def decoder(self, chat: ChatRequest, framing: Framing, default: Start) -> Decoder:
        """A fresh decoder for an answer that arrives in this framing.

        `default` is the id, model and creation time for an upstream that gives none.
        """
        ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What a response with a status of 300 or more means."""
        ...

    def catalogue(self, provider: Provider, key: Secret | None) -> Call | None:
        """The call that lists the provider's models; None when it cannot be asked."""
        ...

    def models(self, body: bytes) -> tuple[str, ...]:
        """The model names in the answer to `catalogue`.

        Raises:
            ValueError: when it is not a listing.
        """
        ...
