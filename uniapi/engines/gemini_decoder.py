"""Reading Gemini's answers: every event of a stream is a whole response with a piece of each part.

There is no last event: the body's end is the end. So what closes an answer (annotations, finish
reasons, usage) is said then, and an answer is cut when a candidate has no finish reason by then.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from uniapi import codec
from uniapi.chat import ChatRequest
from uniapi.codec import Json, JsonObject
from uniapi.engines import failures, gemini_errors
from uniapi.engines.gemini_candidate import Candidate
from uniapi.engines.gemini_names import original
from uniapi.errors import Failure, Kind
from uniapi.events import Batch, Event, Start, StreamFailed, Usage
from uniapi.framing import DONE, Framing

_KNOWN: Final = frozenset({"candidates", "promptFeedback", "usageMetadata", "responseId"})


class GeminiDecoder:
    """One answer of Gemini's, as a stream or whole."""

    def __init__(self, chat: ChatRequest, framing: Framing, default: Start) -> None:
        self._stream = framing == "sse"
        self._start = default
        self._started = False
        self._names = original(chat.fields.get("tools")) | original(chat.fields.get("functions"))
        asked = chat.fields.get("n")
        self._asked = asked if isinstance(asked, int) else 1
        self._seed = re.sub(r"[^A-Za-z0-9]", "", default.id)[-12:]
        self._candidates: dict[int, Candidate] = {}
        self._counts: dict[str, int] = {}
        self._done = False

    def feed(self, frames: Sequence[bytes]) -> Batch:
        """Decode the frames of one read."""
        events: list[Event] = []
        for frame in frames:
            if self._done:
                break
            if frame.strip() == DONE:  # a proxy's; Google sends none
                self._end(events)
                continue
            try:
                self._frame(codec.loads_mended(frame), events)
            except ValueError:
                self._fail(failures.BROKEN, events)
        return Batch(events)

    def finished(self) -> bool:
        """After a whole body, a failure or a proxy's `[DONE]`."""
        return self._done

    def complete(self) -> bool:
        """Whether every candidate asked for has its finish reason."""
        return len(self._candidates) >= self._asked and self._all_finished()

    def end(self) -> Batch:
        """How it ended, or the failure that a cut answer is."""
        events: list[Event] = []
        if not self._done:
            self._end(events)
        return Batch(events)

    def _all_finished(self) -> bool:
        found = self._candidates.values()
        return bool(found) and all(candidate.finished for candidate in found)

    def _fail(self, failure: Failure, events: list[Event]) -> None:
        self._done = True
        events.append(StreamFailed(failure))

    def _end(self, events: list[Event]) -> None:
        if self._all_finished():
            self._close(events)
        else:
            self._fail(failures.CUT, events)

    def _frame(self, value: Json, events: list[Event]) -> None:
        if self._stream:
            self._response(value, events)
        elif isinstance(value, list):
            # A stream without `alt=sse`: a proxy lost the parameter.
            for each in value:
                if not self._done:
                    self._response(each, events)
            if not self._done:
                self._end(events)
        else:
            self._response(value, events)
            if not self._done:
                self._body_end(events)

    def _body_end(self, events: list[Event]) -> None:
        """A body is whole by being there; only one without any answer is none."""
        if self._candidates:
            self._close(events)
        else:
            said = "the provider sent no candidates"
            self._fail(Failure(Kind.EMPTY, said, 502, code="empty_response"), events)

    def _response(self, value: Json, events: list[Event]) -> None:
        """One response object, or a piece of one."""
        match value:
            case [dict(only)] if only.get("error"):
                value = only
            case _:
                pass
        if not isinstance(value, dict) or value.get("error") or not value.keys() & _KNOWN:
            self._fail(gemini_errors.in_band(value), events)
            return
        self._begin(value, events)
        usage = value.get("usageMetadata")
        if isinstance(usage, dict):
            # Repeated and corrected from event to event: the last value of each counts.
            self._counts |= {name: n for name, n in usage.items() if isinstance(n, int)}
        candidates = value.get("candidates")
        for place, candidate in enumerate(candidates if isinstance(candidates, list) else []):
            if isinstance(candidate, dict):
                number = candidate.get("index", place)
                self._candidate(number if isinstance(number, int) else place).read(
                    candidate, events
                )
        if not candidates:
            self._feedback(value.get("promptFeedback"))

    def _begin(self, response: JsonObject, events: list[Event]) -> None:
        if self._started:
            return
        self._started = True
        own, model = response.get("responseId"), response.get("modelVersion")
        self._start = Start(
            own if isinstance(own, str) and own else self._start.id,
            model if isinstance(model, str) and model else self._start.model,
            self._start.created,
        )
        events.append(self._start)

    def _candidate(self, number: int) -> Candidate:
        found = self._candidates.get(number)
        if found is None:
            found = self._candidates[number] = Candidate(number, self._seed, self._names)
        return found

    def _feedback(self, feedback: Json) -> None:
        match feedback:
            case {"blockReason": str(reason), "blockReasonMessage": str(said)}:
                self._candidate(0).blocked(reason, said)
            case {"blockReason": str(reason)}:
                self._candidate(0).blocked(reason, "")
            case _:
                pass

    def _close(self, events: list[Event]) -> None:
        self._done = True
        for _, candidate in sorted(self._candidates.items()):
            candidate.close(events)
        if self._counts:
            events.append(_usage(self._counts))


def _usage(counts: dict[str, int]) -> Usage:
    """Google's counters in OpenAI's sense: what tools gave is input, thoughts are output."""
    thoughts = counts.get("thoughtsTokenCount", 0)
    prompt = counts.get("promptTokenCount", 0) + counts.get("toolUsePromptTokenCount", 0)
    completion = counts.get("candidatesTokenCount", 0) + thoughts
    return Usage(
        prompt,
        completion,
        counts.get("totalTokenCount", prompt + completion),
        {
            "prompt_tokens_details": {"cached_tokens": counts.get("cachedContentTokenCount", 0)},
            "completion_tokens_details": {"reasoning_tokens": thoughts},
        },
    )
