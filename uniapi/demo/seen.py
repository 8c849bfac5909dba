"""A request to a scripted provider, and what became of it: what tests assert on."""

from __future__ import annotations

from dataclasses import dataclass

from uniapi.codec import Json, JsonObject
from uniapi.demo.completions import Ask


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked, before anything is answered.

    Attributes:
        time: `trio.current_time()` when it had been read.
        method: as sent.
        path: without the query.
        headers: names in lower case.
        body: the parsed JSON; None when there is none or it is not JSON.
        nth: which request for this model it is, from 1.
        elapsed: seconds since the first request for this model.
        nth_on_connection: which request on its connection it is, from 1.
    """

    time: float
    method: str
    path: str
    headers: dict[str, str]
    body: Json = None
    nth: int = 1
    elapsed: float = 0.0
    nth_on_connection: int = 1

    @property
    def model(self) -> str:
        """The model asked for, or an empty string."""
        match self.body:
            case {"model": str() as model}:
                return model
            case _:
                return ""

    def ask(self) -> Ask:
        """The part of the request that an answer depends on."""
        match self.body:
            case dict() as body:
                return Ask(
                    self.model,
                    stream=body.get("stream") is True,
                    include_usage=_wants_usage(body),
                    prefill=_prefill(body),
                )
            case _:
                return Ask()


def _wants_usage(body: JsonObject) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _prefill(body: JsonObject) -> str | None:
    """The text of the assistant message the conversation ends with."""
    match body.get("messages"):
        case [*_, {"role": "assistant", "content": str() as text}]:
            return text
        case _:
            return None


@dataclass(slots=True)
class Seen:
    """A request and how it ended; times are `trio.current_time()`.

    Attributes:
        request: what was asked.
        closed_at: when nothing more was to be sent, whoever ended it; None while it runs.
        disconnected_at: when the peer left before the script had ended, else None.
        finished: the script ran to its end, broken as it may be.
    """

    request: Request
    closed_at: float | None = None
    disconnected_at: float | None = None
    finished: bool = False

    @property
    def time(self) -> float:
        """When it was asked."""
        return self.request.time

    @property
    def method(self) -> str:
        """GET or POST, as sent."""
        return self.request.method

    @property
    def path(self) -> str:
        """The path asked for."""
        return self.request.path

    @property
    def headers(self) -> dict[str, str]:
        """Headers by lower-case name."""
        return self.request.headers

    @property
    def body(self) -> Json:
        """The parsed body."""
        return self.request.body

    @property
    def model(self) -> str:
        """The model asked for."""
        return self.request.model
