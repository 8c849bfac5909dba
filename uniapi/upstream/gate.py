"""Commit: the moment after which the client has seen output, decided on what the output is.

Not a 200, not an empty role chunk, and nothing before the error triggers had their look. What
came before is held and goes out with the first that counts. Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from uniapi.chat import ChatRequest
from uniapi.errors import Failure, Kind
from uniapi.events import Batch, Extra, Finish, Reasoning, StreamFailed, Text, ToolCall

_TOKENS: Final = frozenset({Text, Reasoning, ToolCall, Extra, Finish})
_NOTHING: Final = Failure(Kind.EMPTY, "the provider answered nothing", 502, code="empty_response")


class Gate:
    """Holds the batches of one attempt until one of them counts."""

    def __init__(self, chat: ChatRequest, triggers: Sequence[str]) -> None:
        """`triggers` are the `error_triggers`: text that makes an answer a failure."""
        self._whole = not chat.stream  # a whole answer can still fail over until its last byte
        self._may_be_empty = chat.continues_assistant()
        self._triggers = tuple(trigger for trigger in triggers if trigger)
        self._longest = max((len(trigger) for trigger in self._triggers), default=0)
        self._held: list[Batch] = []
        self._text = ""
        self._substance = False
        self._excused = False  # it finished for a reason that explains an empty answer
        self.failure: Failure | None = None

    def look(self, batch: Batch, *, last: bool) -> list[Batch] | None:
        """Take a batch in; the batches to hand on when the gate opens, else None.

        After a failure (`self.failure`) nothing more may be asked of it. `last` says that nothing
        follows.
        """
        self._held.append(batch)
        self._weigh(batch)
        if self.failure is None and self._triggers and self._trigger_found():
            said = "the answer holds an error trigger"
            self.failure = Failure(Kind.TRIGGER, said, 502, code="error_trigger")
        if self.failure is not None:
            return None
        if last:
            if not (self._substance or self._excused or self._may_be_empty):
                self.failure = _NOTHING
                return None
        elif self._whole or not self._substance or self._undecided():
            return None
        held, self._held = self._held, []
        return held

    def _weigh(self, batch: Batch) -> None:
        for event in batch.events:
            match event:
                case Text():
                    self._substance = True
                    if self._triggers:
                        self._text += event.text
                case Reasoning() | ToolCall():
                    self._substance = True
                case Extra(fields=fields) if fields:
                    self._substance = True
                case Finish(reason="length" | "content_filter"):
                    self._excused = True
                case StreamFailed():
                    self.failure = event.failure
                case _:
                    pass

    def _trigger_found(self) -> bool:
        return any(trigger in self._text for trigger in self._triggers)

    def _undecided(self) -> bool:
        """Whether a trigger could still come together: too little text, or one has begun."""
        text = self._text
        return bool(text) and (
            len(text) < self._longest
            or any(
                text.endswith(trigger[:length])
                for trigger in self._triggers
                for length in range(1, len(trigger))
            )
        )


def counts(batch: Batch) -> bool:
    """Whether the batch brings a token: comments, roles and empty deltas do not."""
    for event in batch.events:  # noqa: SIM110 - a generator costs more than its two events
        if type(event) in _TOKENS:
            return True
    return False
