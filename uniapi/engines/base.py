"""What an engine is: pure functions from a request to a call, and from frames to events.

Adding a provider is adding one file with one subclass of `Engine`. An engine does no I/O and asks
no clock: what it needs of the world (a token, the time, a picture behind a URL) is in the
`Recipient` it is given, and what it cannot have yet it asks for (`grant`, `needs`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from uniapi.chat import ChatRequest
from uniapi.config.types import Channel, Provider, Secret
from uniapi.errors import Failure
from uniapi.events import Batch, Start
from uniapi.framing import Framing
from uniapi.relay import RelayRequest


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request to a provider.

    Attributes:
        method: GET or POST.
        url: absolute, with the query.
        headers: built from nothing; no client header gets here unless the config names it.
        body: the bytes to send; empty for GET.
        framing: how the answer is expected to be cut into frames.
        notes: request fields the provider has no word for, which were left out.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    framing: Framing = "json"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Media:
    """What was behind a URL."""

    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Recipient:
    """To whom a call goes, and what there is to reach them.

    Attributes:
        channel: the provider and its name for the model.
        key: one of the provider's keys, or the token that `grant` brought; None sends none.
        passed: client headers the config lets through, lower-case names.
        now: unix seconds; signatures carry it.
        media: by URL, what `needs` asked for.
    """

    channel: Channel
    key: Secret | None = None
    passed: Sequence[tuple[str, str]] = ()
    now: float = 0.0
    media: Mapping[str, Media] = field(default_factory=dict)


Translate: TypeAlias = Callable[[bytes], bytes | Failure]
"""The provider's whole body to the body clients know, or the failure it is in truth.

Raises ValueError for what is no answer.
"""


@dataclass(frozen=True, slots=True)
class Relay:
    """One call to an endpoint other than chat, and what becomes of its answer.

    Attributes:
        call: what is asked.
        translate: None when the provider speaks the clients' dialect: its bytes and its content
            type go through as they are.
    """

    call: Call
    translate: Translate | None = None


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


class Engine(ABC):
    """One wire dialect.

    Attributes:
        names: what `engine:` may call it, the usual name first.
    """

    names: tuple[str, ...]

    @abstractmethod
    def claims(self, provider: Provider, upstream: str) -> int:
        """How surely the provider speaks this: 0 not, 1 as a fallback, 2 by path, 3 by host."""

    @abstractmethod
    def encode(self, chat: ChatRequest, to: Recipient) -> Call:
        """The call that asks this channel.

        Raises:
            ApiError: 400 naming the parameter, for what cannot be honoured safely.
        """

    @abstractmethod
    def decoder(self, chat: ChatRequest, framing: Framing, default: Start) -> Decoder:
        """A fresh decoder for an answer that arrives in this framing.

        `default` is the id, model and creation time for an upstream that gives none.
        """

    @abstractmethod
    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What a response with a status of 300 or more means."""

    @abstractmethod
    def catalogue(self, to: Recipient) -> Call | None:
        """The call that lists the provider's models; None when it cannot be asked.

        The channel's model is empty here.
        """

    @abstractmethod
    def models(self, body: bytes) -> tuple[str, ...]:
        """The model names in the answer to `catalogue`.

        Raises:
            ValueError: when it is not a listing.
        """

    def relay(self, request: RelayRequest, to: Recipient) -> Relay | None:  # noqa: ARG002 - for subclasses
        """The call that relays a request to another endpoint; None where there is no such thing.

        Raises:
            ApiError: 400 naming the parameter, for what cannot be honoured.
        """
        return None

    def needs(self, chat: ChatRequest, channel: Channel) -> tuple[str, ...]:  # noqa: ARG002 - for subclasses
        """URLs in the request that the provider does not fetch itself: `Recipient.media`."""
        return ()

    def continues(self, upstream: str) -> bool:  # noqa: ARG002 - for subclasses
        """Whether this model goes on with a conversation that ends in the assistant's words.

        False where it is not known to: many answer 400, or begin anew.
        """
        return False

    def grant(self, provider: Provider, now: float) -> Call | None:  # noqa: ARG002 - for subclasses
        """The call that brings a short-lived token to use as the key; None when keys are used.

        `now` is unix seconds.
        """
        return None

    def granted(self, body: bytes) -> tuple[Secret, float]:  # noqa: ARG002 - for subclasses
        """The token in the answer to `grant`, and the seconds it is good for.

        Raises:
            ValueError: when it is not a token.
        """
        raise ValueError(f"{self.names[0]} grants no tokens")
