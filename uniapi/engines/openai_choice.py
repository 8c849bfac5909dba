"""One choice of an OpenAI-format answer: its events, and what of it has to be mended.

The same reading serves the deltas of a stream and the message of a whole body. Every method
returns whether it changed the JSON it was given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.events import Event, Extra, Finish, FinishReason, Reasoning, Text, ToolCall

_MODELLED: Final = frozenset({"role", "content", "reasoning_content", "reasoning", "tool_calls"})
_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "tool_calls",  # legal on the wire for legacy functions
}


@dataclass(slots=True)
class _Call:
    """One tool call as far as it has been read."""

    index: int
    id: str
    named: bool = False
    argued: bool = False


class Choice:
    """One choice as far as it has been read."""

    def __init__(self, number: int, *, stream: bool, seed: str) -> None:
        """`seed` makes the ids of calls that come without one; unique per answer."""
        self.finished = False
        self._begun = False
        self._number = number
        self._stream = stream
        self._seed = seed
        self._calls: dict[str, _Call] = {}  # by the provider's index, or by its id
        self._last = ""

    def read(self, message: JsonObject, events: list[Event]) -> bool:
        """A delta or a message."""
        mended = not self._begun and not message.get("role")
        if mended:
            message["role"] = "assistant"  # once, and first, is what clients count on
        self._begun = True
        content = message.get("content")
        if isinstance(content, list):
            content, mended = _flatten(message, content), True
        thought = message.get("reasoning_content") or message.get("reasoning")
        if isinstance(thought, str) and thought:
            events.append(Reasoning(thought, self._number))
        if isinstance(content, str) and content:
            events.append(Text(content, self._number))
        if "tool_calls" in message:
            mended |= self._tool_calls(message, events)
        if not message.keys() <= _MODELLED:
            extra: JsonObject = {k: v for k, v in message.items() if v and k not in _MODELLED}
            if extra:
                events.append(Extra(extra, choice=self._number))
        return mended

    def beside(self, choice: JsonObject, events: list[Event]) -> None:
        """What stands beside the message: logprobs."""
        if logprobs := choice.get("logprobs"):
            events.append(Extra(beside={"logprobs": logprobs}, choice=self._number))

    def finish(self, choice: JsonObject, message: JsonObject, events: list[Event]) -> bool:
        """The finish reason, when the choice has one: exactly one, of the legal four or five."""
        given = choice.get("finish_reason")
        if given is None:
            return False
        if not given or not isinstance(given, str) or self.finished:
            choice["finish_reason"] = None  # "" is no reason, and a second one is one too many
            return True
        self.finished = True
        mended = self._owe_arguments(message, events)
        reason = _REASONS.get(given)
        if reason is None:
            choice["finish_reason"] = reason = self.natural_end
            mended = True
        events.append(Finish(reason, self._number))
        return mended

    @property
    def natural_end(self) -> FinishReason:
        """The reason of an answer that ended well without saying one."""
        return "tool_calls" if self._calls else "stop"

    def _tool_calls(self, message: JsonObject, events: list[Event]) -> bool:
        given = message["tool_calls"]
        pieces = given if isinstance(given, list) else []
        if not pieces:
            del message["tool_calls"]  # null or [] confuses clients
            return True
        mended = False
        for piece in pieces:
            if isinstance(piece, dict):
                mended |= self._tool_call(piece, events)
        return mended

    def _tool_call(self, piece: JsonObject, events: list[Event]) -> bool:
        call, fresh = self._which(piece)
        mended = self._mend_identity(piece, call, fresh=fresh)
        function = piece.get("function")
        if not isinstance(function, dict):
            piece["function"] = function = {}
            mended = True
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(arguments, str):
            # Absent (OpenRouter), null, or an object where text belongs.
            mended |= fresh or arguments is not None
            arguments = "" if arguments is None else codec.dumps(arguments).decode()
            if mended:
                function["arguments"] = arguments
        shown = None
        if isinstance(name, str) and name:
            if call.named:
                del function["name"]  # the SDKs concatenate: a repeated name would double
                mended = True
            else:
                call.named, shown = True, name
        call.argued |= bool(arguments)
        given_id = call.id if fresh else None
        events.append(ToolCall(call.index, given_id, shown, arguments, self._number))
        return mended

    def _mend_identity(self, piece: JsonObject, call: _Call, *, fresh: bool) -> bool:
        """Give a piece the index, id and type the contract wants where it stands."""
        right: JsonObject = {"id": call.id, "type": "function"} if fresh else {}
        if self._stream:
            right["index"] = call.index
        wrong = {name: value for name, value in right.items() if piece.get(name) != value}
        piece.update(wrong)
        again = not fresh and "id" in piece
        if again:
            del piece["id"]
        return bool(wrong) or again

    def _which(self, piece: JsonObject) -> tuple[_Call, bool]:
        """The call this piece belongs to, and whether it is its first piece."""
        given, index = piece.get("id"), piece.get("index")
        own = given if isinstance(given, str) else ""
        if isinstance(index, int) and self._stream:
            key = f"#{index}"
        elif own:
            key = own
        elif self._stream and self._last:
            key = self._last
        else:
            key = f"+{len(self._calls)}"
        self._last = key
        if call := self._calls.get(key):
            return call, False
        place = len(self._calls)
        call = _Call(place, own or f"call_{self._seed}_{self._number}_{place}")
        self._calls[key] = call
        return call, True

    def _owe_arguments(self, message: JsonObject, events: list[Event]) -> bool:
        """No arguments means `{}`: give it to calls that never got any."""
        owing = [call for call in self._calls.values() if not call.argued]
        if not owing:
            return False
        given = message.setdefault("tool_calls", [])
        pieces = given if isinstance(given, list) else []
        for call in owing:
            call.argued = True
            events.append(ToolCall(call.index, arguments="{}", choice=self._number))
            function = self._function_of(call, pieces)
            if function is not None:
                function["arguments"] = "{}"
            else:
                pieces.append({"index": call.index, "function": {"arguments": "{}"}})
        return True

    def _function_of(self, call: _Call, pieces: list[Json]) -> JsonObject | None:
        for place, piece in enumerate(pieces):
            if not isinstance(piece, dict):
                continue
            index = piece.get("index") if self._stream else place
            function = piece.get("function")
            if index == call.index and isinstance(function, dict):
                return function
        return None


def _flatten(message: JsonObject, parts: list[Json]) -> str:
    """Content as a list of typed chunks (Mistral): text stays, thinking becomes reasoning."""
    text: list[str] = []
    thoughts: list[str] = []
    for part in parts:
        match part:
            case {"type": "thinking", "thinking": list(inner)}:
                thoughts += [str(p.get("text", "")) for p in inner if isinstance(p, dict)]
            case {"type": "thinking", "thinking": str(thought)}:
                thoughts.append(thought)
            case {"text": str(piece)} | str(piece):
                text.append(piece)
            case _:
                pass
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    message["content"] = "".join(text)
    return "".join(text)
