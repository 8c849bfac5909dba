"""How a scripted provider behaves: one frozen value, healthy unless told otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from uniapi import codec

SIXTY: Final = (
    "A gateway stands between one client and many providers and keeps its promises when they "
    "break theirs: it waits no longer than it must, asks the next one when the first is silent, "
    "never repeats a word that was already said, and tells the truth about how the answer came "
    "to be, so that nobody ever has to guess again."
)  # sixty words, so sixty tokens

CREATED: Final = 1_700_000_000  # unix seconds; fixed, so that answers compare equal
ANSWER_ID: Final = "chatcmpl-scripted"
PROMPT_TOKENS: Final = 7  # fixed: what is asked does not change the usage


class Fault(StrEnum):
    """The ways to break. `at` and `pause` are the fields of `Behaviour`."""

    NONE = "none"
    REFUSE = "refuse"
    """No connection: a listener's matter (`Provider.refuses`); once connected, as RESET."""
    RESET = "reset"
    """The connection is reset before any byte."""
    RESET_IN_HEAD = "reset-head"
    """Reset after `at` bytes of the head."""
    HANG = "hang"
    """No byte for `pause` seconds, then close."""
    SILENT = "silent"
    """The head at once, then nothing for `pause` seconds, then close."""
    STALL = "stall"
    """`at` tokens, nothing for `pause` seconds, then close."""
    CUT = "cut"
    """`at` tokens, then a proper end of HTTP: no finish reason, no terminator."""
    ABORT = "abort"
    """`at` tokens, then the connection closes in the middle of the body."""
    BROKEN_JSON = "broken-json"
    """Event number `at` (from 1, the role chunk is the first) is half an object."""
    NO_DONE = "no-done"
    """A complete stream without `[DONE]`."""
    ERROR_OBJECT = "error-object"
    """Status 200, and the JSON body is an error object, to a stream ask too."""
    ERROR_EVENT = "error-event"
    """The error object as an event after `at` tokens; 0 makes it the first event of all."""
    EMPTY = "empty"
    """Status 200 and no body at all."""
    ONLY_DONE = "only-done"
    """A stream of `[DONE]` alone, or a JSON answer with no choices."""
    HTML = "html"
    """Status 200 and a web page."""
    COMMENTS = "comments"
    """SSE comments (blanks before a JSON body) for `pause` seconds, then the answer."""
    EMPTY_DELTAS = "empty-deltas"
    """Chunks that say nothing for `pause` seconds, then the answer."""
    DRIP_HEAD = "drip-head"
    """The head byte by byte, without end for `pause` seconds, then the answer."""
    SWAPPED = "swapped"
    """A JSON body to a stream ask, a stream to an ask for JSON."""
    HANG_UP = "hang-up"
    """A whole answer, then the kept-alive connection is closed without a word."""


class Prefill(StrEnum):
    """What a conversation that ends with an assistant message gets."""

    CONTINUE = "continue"
    """The rest of the text when that message is a prefix of it, else all of it."""
    RESTART = "restart"
    """All of it."""
    REFUSE = "refuse"
    """400."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What one request gets.

    Attributes:
        text: the answer; its words are its tokens, and the tokens join to exactly the text.
        tokens: when set, exactly so many: the words of `text`, cut or begun again.
        reasoning: words said before the text, as `reasoning_content`.
        tools: (name, arguments as JSON text) of each tool call; an answer with tools has no text.
        finish: the finish reason; None means `stop`, or `tool_calls` when there are tools.
        model: the name the answer reports; None means the one asked for.
        delay: seconds before the first byte of the head.
        ttft: seconds from the head (and the role chunk) to the first token.
        gap: seconds from token to token. A JSON answer comes when the last token would have.
        status: 300 or more answers `error`, or an error object that names the status.
        error: the body of an error, or of the error faults, as it goes on the wire.
        headers: added to the head.
        fault: how it breaks.
        at: tokens, events or bytes before the fault, as the fault says.
        pause: seconds of silence or dripping, as the fault says; the default never ends.
        drip: seconds between the drips of COMMENTS, EMPTY_DELTAS and DRIP_HEAD.
        prefill: what a conversation that ends with an assistant message gets.
        crlf: SSE lines end in CR LF.
        gzip: the body is compressed, flushed at every event.
        content_type: in place of the right one.
        piece: bytes a write at most; 1 cuts everywhere, 0 does not cut.
        piece_gap: seconds between two pieces.
        keep_alive: False says `connection: close` and does so.
    """

    text: str = SIXTY
    tokens: int | None = None
    reasoning: str = ""
    tools: tuple[tuple[str, str], ...] = ()
    finish: str | None = None
    model: str | None = None
    delay: float = 0.0
    ttft: float = 0.0
    gap: float = 0.0
    status: int = 200
    error: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    fault: Fault = Fault.NONE
    at: int = 0
    pause: float = math.inf
    drip: float = 1.0
    prefill: Prefill = Prefill.CONTINUE
    crlf: bool = False
    gzip: bool = False
    content_type: str | None = None
    piece: int = 0
    piece_gap: float = 0.0
    keep_alive: bool = True


def error_body(message: str, *, type: str, code: str | None = None) -> bytes:  # noqa: A002 - the wire's own name
    """The OpenAI error object as JSON bytes."""
    error: codec.JsonObject = {"message": message, "type": type, "param": None, "code": code}
    return codec.dumps({"error": error})
