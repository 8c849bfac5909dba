"""Reading the answers of Cohere's v2 chat: the events of a stream, or one body told as them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.engines import failures, values
from uniapi.errors import Failure
from uniapi.events import (
    Batch,
    Event,
    Extra,
    Finish,
    FinishReason,
    Reasoning,
    Start,
    StreamFailed,
    Text,
    ToolCall,
    Usage,
)
from uniapi.framing import DONE, Framing

_REASONS: Final[dict[str, FinishReason]] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
}
_ELSEWHERE: Final = ("PLAN", "THINKING_CONTENT")  # where a citation may point but the answer
_NULL: Final = "null"  # what Cohere writes for the arguments of a call without any


@dataclass(slots=True)
class _Call:
    """One tool call: its number, and the arguments held back while they may turn out null."""

    number: int
    held: str = ""
    argued: bool = False


class CohereDecoder:
    """One answer, as a stream or whole."""

    def __init__(self, framing: Framing, default: Start) -> None:
        self._stream = framing != "json"
        self._start = default
        self._started = False
        self._calls: dict[int, _Call] = {}  # by Cohere's own index
        self._offsets: dict[int, int] = {}  # characters of text before each content block
        self._length = 0  # characters of text so far
        self._annotations: list[Json] = []
        self._done = False

    def feed(self, frames: Sequence[bytes]) -> Batch:
        """Decode the frames of one read."""
        events: list[Event] = []
        for frame in frames:
            if self._done:
                break
            if frame.strip() != DONE:
                self._frame(frame, events)
        return Batch(events)

    def finished(self) -> bool:
        """After `message-end`, a whole body or a failure."""
        return self._done

    def complete(self) -> bool:
        """The same: finish reason and usage come in one event."""
        return self._done

    def end(self) -> Batch:
        """Nothing after `message-end`; else the answer was cut."""
        if self._done:
            return Batch(())
        events: list[Event] = []
        self._fail(failures.CUT, events)
        return Batch(events)

    def _fail(self, failure: Failure, events: list[Event]) -> None:
        self._done = True
        events.append(StreamFailed(failure))

    def _frame(self, frame: bytes, events: list[Event]) -> None:
        try:
            value = codec.loads_mended(frame)
        except ValueError:
            self._fail(failures.BROKEN, events)
            return
        if not isinstance(value, dict):
            self._fail(failures.in_band(value), events)
            return
        match value:
            case {"type": str(name)} if self._stream:
                self._event(name, value, events)
            case {"message": dict(message)}:
                self._begin(value, events)
                self._body(message, value, events)
            case _:
                self._fail(failures.in_band(value), events)

    def _begin(self, answer: JsonObject, events: list[Event]) -> None:
        if not self._started:
            self._started = True
            given, default = answer.get("id"), self._start
            name = given if isinstance(given, str) and given else default.id
            events.append(Start(name, default.model, default.created))

    def _event(self, name: str, event: JsonObject, events: list[Event]) -> None:
        self._begin(event, events)
        given, delta = event.get("index"), event.get("delta")
        index = given if isinstance(given, int) else 0
        message: Json = delta.get("message") if isinstance(delta, dict) else None
        part = message if isinstance(message, dict) else {}
        match name:
            case "content-start" | "content-delta":
                self._content(index, part.get("content"), events)
            case "tool-plan-delta":
                self._plan(part.get("tool_plan"), events)
            case "tool-call-start" | "tool-call-delta":
                self._call(index, part.get("tool_calls"), events)
            case "tool-call-end":
                self._settle(index, events)
            case "citation-start":
                self._cite(part.get("citations"))
            case "message-end":
                self._end(delta if isinstance(delta, dict) else {}, events)
            case _:
                pass

    def _content(self, index: int, content: Json, events: list[Event]) -> None:
        """A block or a piece of one; which kind is told by its key, for pieces have no type."""
        self._offsets.setdefault(index, self._length)
        match content:
            case {"text": str(text)} if text:
                self._length += len(text)
                events.append(Text(text))
            case {"thinking": str(thought)} if thought:
                events.append(Reasoning(thought))
            case _:
                pass

    def _plan(self, plan: Json, events: list[Event]) -> None:
        if isinstance(plan, str) and plan:
            events.append(Reasoning(plan))

    def _call(self, index: int, given: Json, events: list[Event]) -> None:
        """A call or a piece of one: an object in a stream, where others have a list."""
        call = self._calls.get(index)
        match given[0] if isinstance(given, list) and given else given:
            case {"id": str(identity), "function": {"name": str(name), **rest}} if call is None:
                call = self._calls[index] = _Call(len(self._calls))
                events.append(ToolCall(call.number, identity, name))
                fragment: object = rest.get("arguments")
            case {"function": {"arguments": str() as fragment}}:
                pass
            case _:
                return
        if call is None or not isinstance(fragment, str) or not fragment:
            return
        call.held += fragment
        if call.argued or not _NULL.startswith(call.held):
            events.append(ToolCall(call.number, arguments=call.held))
            call.held, call.argued = "", True

    def _settle(self, index: int, events: list[Event]) -> None:
        """A call is complete: without arguments, or with `null`, they are `{}`."""
        call = self._calls.get(index)
        if call is not None and not call.argued:
            call.held, call.argued = "", True
            events.append(ToolCall(call.number, arguments="{}"))

    def _cite(self, given: Json) -> None:
        """A citation as annotations, one a source; a source without an address is its id.

        Those of thoughts and plans are left out: annotations point into the answer.
        """
        for citation in given if isinstance(given, list) else [given]:
            if not isinstance(citation, dict) or citation.get("type") in _ELSEWHERE:
                continue
            match citation:
                case {"start": int(start), "end": int(end), "sources": list(sources)}:
                    index = citation.get("content_index")
                    # Positions count from the block's own start.
                    base = self._offsets.get(index, 0) if isinstance(index, int) else 0
                    span: JsonObject = {"start_index": base + start, "end_index": base + end}
                    self._annotations += [
                        {"type": "url_citation", "url_citation": _cited(source) | span}
                        for source in sources
                        if isinstance(source, dict)
                    ]
                case _:
                    pass

    def _end(self, delta: JsonObject, events: list[Event]) -> None:
        for index in self._calls:
            self._settle(index, events)
        reason = values.text(delta, "finish_reason")
        if reason in {"ERROR", "TIMEOUT", "ERROR_LIMIT"} or delta.get("error"):
            self._fail(_failure(delta), events)
            return
        if self._annotations:
            events.append(Extra({"annotations": self._annotations}))
        self._done = True
        natural: FinishReason = "tool_calls" if self._calls else "stop"
        given = _REASONS.get(reason, "stop")
        events.append(Finish(natural if given in {"stop", "tool_calls"} else given))
        usage = delta.get("usage")
        if isinstance(usage, dict) and usage:
            events.append(_usage(usage))

    def _body(self, message: JsonObject, answer: JsonObject, events: list[Event]) -> None:
        """A whole answer, told as the events of a stream."""
        self._plan(message.get("tool_plan"), events)
        content = message.get("content")
        for index, part in enumerate(content if isinstance(content, list) else []):
            self._content(index, part, events)
        calls = message.get("tool_calls")
        for index, call in enumerate(calls if isinstance(calls, list) else []):
            self._call(index, call, events)
        self._cite(message.get("citations"))
        self._end(answer, events)


def _failure(delta: JsonObject) -> Failure:
    """What `ERROR` and its like mean; the words are in `error`, the class in `error_type`."""
    said, kind = delta.get("error"), delta.get("error_type")
    reason = str(delta.get("finish_reason"))
    error: JsonObject = {
        "message": said if isinstance(said, str) and said else f"the answer ended with {reason}",
        "type": kind if isinstance(kind, str) else reason,
        "code": kind if isinstance(kind, str) else None,
    }
    if reason == "TIMEOUT":
        error["status"] = 504
    return failures.in_band({"error": error})


def _cited(source: JsonObject) -> JsonObject:
    """Address and title of a source, as far as what the client gave with it tells."""
    about = source.get("document") or source.get("tool_output")
    fields = about if isinstance(about, dict) else {}
    name = values.text(source, "id")
    return {
        "url": values.text(fields, "url") or name,
        "title": values.text(fields, "title") or name,
    }


def _usage(usage: JsonObject) -> Usage:
    """The real counts; `billed_units` leaves out Cohere's own preamble and is the last resort."""
    tokens = usage.get("tokens") or usage.get("billed_units")
    counts = tokens if isinstance(tokens, dict) else {}
    prompt, completion = (
        values.number(counts, "input_tokens"),
        values.number(counts, "output_tokens"),
    )
    detail: dict[str, Json] = {}
    if cached := values.number(usage, "cached_tokens"):
        detail["prompt_tokens_details"] = {"cached_tokens": cached}
    return Usage(prompt, completion, prompt + completion, detail)
