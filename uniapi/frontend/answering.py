"""One streamed answer, whoever gives it: what breaks off is carried on by somebody else.

The client has seen text, so failing over is too late; what is left is to have another channel go
on and to hide the seam (`splice`). It is done where nothing but text was sent, and where nothing
but text may come. What was sent is kept for it, up to `MOST`; a longer answer is not carried on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, assert_never

import trio

from uniapi.codec import JsonObject
from uniapi.errors import Failure, Kind
from uniapi.events import (
    Batch,
    Event,
    Extra,
    Finish,
    Reasoning,
    Start,
    StreamFailed,
    Text,
    ToolCall,
    Usage,
)
from uniapi.frontend.asking import Asking
from uniapi.race import Leg
from uniapi.splice import Splice
from uniapi.upstream.translator import Translator

MOST: Final = 1_000_000  # bytes of an answer that are kept to be gone on with
_NOTHING: Final = Batch((), b"")  # wakes who has to send what is owing


@dataclass(slots=True)
class Answering:
    """The batches of one answer.

    Attributes:
        asking: finds somebody to go on.
        translate: runs attempts at this request.
        leg: who is answering.
        rescues: whether the answer may be carried on.
        show: sends a batch at once, False when some of it is owing; None where that cannot be.
        failure: why it broke off; None while it goes well and when it ended well.
    """

    asking: Asking
    translate: Translator
    leg: Leg
    rescues: bool
    show: Callable[[Batch], bool] | None = None
    failure: Failure | None = None
    _said: bytearray = field(default_factory=bytearray)  # a list would take 65 bytes a token
    _received: int = 0
    _parts: list[Usage] = field(default_factory=list)
    _splice: Splice | None = None

    async def next(self) -> Batch | None:
        """The next batch, without failures; None when nothing more comes. May be cancelled."""
        while self.failure is None:
            try:
                received = await self._receive()
                self._received += 1
                batch = self._taken(received)
            except trio.EndOfChannel:
                return None
            if batch is not None:
                return batch
        return None

    async def _receive(self) -> Batch:
        leg = self.leg
        if self.show is not None and self._received == leg.handed:  # nothing comes before it
            leg.taker = partial(self._take_now, self.show)
        try:
            return await leg.batches.receive()
        finally:
            leg.taker = None

    def _take_now(self, show: Callable[[Batch], bool], batch: Batch) -> Batch | None:
        """Show a batch while `next` waits for one; what is left for `next` to return."""
        if batch.events and isinstance(batch.events[-1], StreamFailed):
            return batch  # the writer finds somebody to go on while this leg still hangs up
        shown = self._taken(batch)
        return None if shown is None or show(shown) else _NOTHING

    def ready(self) -> Batch | None:
        """A batch that has come already; None when there is none."""
        # An exception for each batch that is not there would cost as much as the channel.
        while self.failure is None and self._received < self.leg.handed:
            try:
                received = self.leg.batches.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                return None
            self._received += 1
            batch = self._taken(received)
            if batch is not None:
                return batch
        return None

    async def carry_on(self) -> bool:
        """After a failure, have somebody else go on; False when it has to stand."""
        failure = self.failure
        assert failure is not None  # noqa: S101 - asked for nothing else
        if not self.leg.dropped:  # what was given up is not the channel's failure
            self.asking.broke_off(self.leg, failure)
        if not (self.rescues and self._said):
            return False
        said = self._said.decode()
        winner = await self.asking.another(replace(self.translate, said=said))
        if winner is None:
            return False
        if usage := self.leg.tally.usage:
            self._parts.append(usage)
        self.leg, self.failure, self._splice = winner, None, Splice(said)
        self._received = 0
        return True

    def _taken(self, batch: Batch) -> Batch | None:
        """What of a batch goes to the client."""
        events, failed = batch.events, None
        if events and isinstance(events[-1], StreamFailed):
            failed, events = events[-1].failure, events[:-1]
            batch = Batch(events, batch.wire)
        if self._splice is not None:
            batch = Batch(self._joined(events, self._splice))
        elif self.rescues:
            self._keep(events)
        if failed is not None and self.failure is None:
            self._fail(failed)
        return batch if batch.events or batch.wire is not None else None

    def _fail(self, failure: Failure) -> None:
        tally = self.leg.tally
        if tally.finish is not None and self.translate.chat.fields.get("n") in (None, 1):
            tally.failure = None  # the one choice has had its end: nothing is missing
        else:
            self.failure = failure

    def _keep(self, events: Sequence[Event]) -> None:
        """Remember what the client gets; what is more than text cannot be gone on with."""
        for event in events:
            match event:
                case Text(text, 0):
                    self._say(text)
                case Start() | Finish() | Usage():
                    pass
                case _:
                    self._give_up()

    def _say(self, text: str) -> None:
        self._said += text.encode()
        if len(self._said) > MOST:
            self._give_up()

    def _give_up(self) -> None:
        self.rescues = False
        self._said.clear()

    def _joined(self, events: Sequence[Event], splice: Splice) -> list[Event]:
        """What of the events goes on where the first answer stopped."""
        shown: list[Event] = []
        for event in events:
            match event:
                case Text(text=text):
                    self._add(splice.feed(text), shown)
                case Finish():
                    self._add(splice.end(), shown)
                    if not splice.diverged:
                        shown.append(event)
                case Usage():
                    shown.append(total([*self._parts, event]))
                case ToolCall():
                    self._does_not_fit("it calls a tool")
                case Start() | Reasoning() | Extra() | StreamFailed():
                    pass  # the first answer's stand; thoughts about going on are nobody's business
                case _:
                    assert_never(event)
            if splice.diverged:
                self._does_not_fit("it begins the same way and goes another")
            if self.failure is not None:
                break
        return shown

    def _add(self, text: str, shown: list[Event]) -> None:
        if text:
            shown.append(Text(text))
            if self.rescues:
                self._say(text)

    def _does_not_fit(self, why: str) -> None:
        """What comes is another answer: nothing of it is shown, and nobody else is asked."""
        self._give_up()
        said = f"the answer broke off, and the one that should go on does not fit: {why}"
        self.failure = Failure(Kind.CUT, said, 502)
        self.leg.tally.failure = self.failure
        self.leg.drop()


def total(parts: Sequence[Usage]) -> Usage:
    """The usage of an answer that one or several gave: what was paid for."""
    if len(parts) == 1:
        return parts[0]
    prompt, completion = sum(p.prompt for p in parts), sum(p.completion for p in parts)
    whole = sum(p.total for p in parts)
    told: JsonObject = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": whole,
    }
    return Usage(prompt, completion, whole, {**parts[-1].detail, **told})
