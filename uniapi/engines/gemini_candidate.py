"""One candidate of a Gemini answer: its parts as events, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.engines.gemini_citations import Citations
from uniapi.engines.gemini_names import signed
from uniapi.events import Event, Extra, Finish, FinishReason, Reasoning, Text, ToolCall

_FILTERED: Final = frozenset(
    {
        *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "MODEL_ARMOR"),
        *("ESCALATION", "PUP_LIMITED_DISABLED"),
    }
)
# Rarely the enum's number comes in place of its name. Google's two services agree on what these
# mean, though 6 to 8 are different filters in each.
_NUMBERS: Final = {1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 6: "BLOCKLIST"} | {
    7: "PROHIBITED_CONTENT",
    8: "SPII",
}


class Candidate:
    """One candidate as far as it has been read."""

    def __init__(self, number: int, seed: str, names: Mapping[str, str]) -> None:
        """Open.

        Args:
            number: which of the `n` answers.
            seed: makes the ids of calls that come without one; unique per answer.
            names: functions that go by another name at Gemini, to the client's names.
        """
        self._number = number
        self._seed = seed
        self._names = names
        self._reason = ""
        self._refusal = ""
        self._ids: set[str] = set()
        self._calls = 0
        self._images = 0
        self._audio = False
        self._text: list[str] = []
        self._signature = ""
        self._citations = Citations()

    @property
    def finished(self) -> bool:
        """Whether it has a finish reason; early models gave one with every piece."""
        return bool(self._reason)

    def read(self, candidate: JsonObject, events: list[Event]) -> None:
        """What one event of a stream, or a whole body, says.

        Raises:
            ValueError: for arguments that are no JSON.
        """
        match candidate.get("content"):
            case {"parts": list(parts)}:
                for part in parts:
                    if isinstance(part, dict):
                        self._part(part, events)
            case _:
                pass  # blocked, or out of tokens while it thought
        self._citations.read(candidate)
        match candidate.get("logprobsResult"):
            case dict(result):
                beside: JsonObject = {"logprobs": _logprobs(result)}
                events.append(Extra(beside=beside, choice=self._number))
            case _:
                pass
        self._ending(candidate)

    def blocked(self, reason: str, said: str) -> None:
        """The prompt was blocked: an answer without a word, for a reason the client may see."""
        self._reason = "PROHIBITED_CONTENT"
        self._refusal = said or f"The prompt was blocked: {reason}."

    def _ending(self, candidate: JsonObject) -> None:
        given = candidate.get("finishReason")
        if isinstance(given, int):
            given = _NUMBERS.get(given, "OTHER")
        if isinstance(given, str) and given not in {"", "FINISH_REASON_UNSPECIFIED"}:
            self._reason = given
        said = candidate.get("finishMessage")
        if isinstance(said, str) and self._reason in _FILTERED:
            self._refusal = said

    def _part(self, part: JsonObject, events: list[Event]) -> None:
        thought = part.get("thought") is True
        signature = part.get("thoughtSignature")
        signature = signature if isinstance(signature, str) else ""
        match part:
            case {"functionCall": dict(call)}:
                events.append(self._call(call, signature))
                return
            case {"inlineData": {"mimeType": str(kind), "data": str(data)}} if not thought:
                self._media(kind, data, events)
            case {"executableCode": {"code": str(code), "language": str(language)}}:
                self._say(_fenced(code, language.lower()), events)
            case {"codeExecutionResult": {"output": str(output)}}:
                self._say(_fenced(output, ""), events)
            case {"text": str(text)} if text and thought:
                events.append(Reasoning(text, self._number))
            case {"text": str(text)}:
                self._say(text, events)
            case _:
                pass  # a draft of a picture, or what Google's own tools said to each other
        if not thought:
            self._signature = signature or self._signature

    def _say(self, text: str, events: list[Event]) -> None:
        if text:
            self._text.append(text)
            events.append(Text(text, self._number))

    def _call(self, call: JsonObject, signature: str) -> ToolCall:
        """A call, whole as Gemini gives it."""
        given, name, arguments = call.get("id"), call.get("name"), call.get("args")
        identity = given if isinstance(given, str) else ""
        if not identity or identity in self._ids:
            identity = f"call_{self._seed}_{self._number}_{self._calls}"
        self._ids.add(identity)
        index, self._calls = self._calls, self._calls + 1
        name = name if isinstance(name, str) else ""
        return ToolCall(
            index,
            signed(identity, signature),
            self._names.get(name, name),
            codec.dumps(arguments if isinstance(arguments, dict) else {}).decode(),
            self._number,
        )

    def _media(self, kind: str, data: str, events: list[Event]) -> None:
        """A picture as clients know it from OpenRouter; sound as OpenAI's own models give it."""
        fields: JsonObject
        if kind.startswith("audio/"):
            fields = {"audio": {"data": data}}
            if not self._audio:
                fields = {"audio": {"id": f"audio_{self._seed}_{self._number}", "data": data}}
            self._audio = True
        else:
            url = f"data:{kind};base64,{data}"
            image: JsonObject = {
                "index": self._images,
                "type": "image_url",
                "image_url": {"url": url},
            }
            fields = {"images": [image]}
            self._images += 1
        events.append(Extra(fields, choice=self._number))

    def close(self, events: list[Event]) -> None:
        """What can be said only at the end, and the finish reason, once."""
        fields: JsonObject = {}
        if annotations := self._citations.annotations("".join(self._text)):
            fields["annotations"] = annotations
        if self._refusal:
            fields["refusal"] = self._refusal
        if self._signature:
            fields["extra_content"] = {"google": {"thought_signature": self._signature}}
        if fields:
            events.append(Extra(fields, choice=self._number))
        events.append(Finish(self._outcome(), self._number))

    def _outcome(self) -> FinishReason:
        if self._reason == "MAX_TOKENS":
            return "length"
        if self._reason in _FILTERED:
            return "content_filter"
        # STOP ends turns with calls too; every other reason is an end of some kind.
        return "tool_calls" if self._calls else "stop"


def _fenced(text: str, language: str) -> str:
    """Code that ran at Google's, and what it printed, as the rest of the answer shows code."""
    return f"\n```{language}\n{text.rstrip()}\n```\n"


def _logprobs(result: JsonObject) -> JsonObject:
    """OpenAI's `logprobs` from `chosenCandidates` and, step by step, `topCandidates`."""
    chosen, top = result.get("chosenCandidates"), result.get("topCandidates")
    steps = top if isinstance(top, list) else []
    content: list[Json] = []
    for place, token in enumerate(chosen if isinstance(chosen, list) else []):
        others: Json = None
        if place < len(steps) and isinstance(step := steps[place], dict):
            others = step.get("candidates")
        shown = _token(token)
        shown["top_logprobs"] = [_token(t) for t in (others if isinstance(others, list) else [])]
        content.append(shown)
    return {"content": content, "refusal": None}


def _token(value: Json) -> JsonObject:
    match value:
        case {"token": str(token), "logProbability": int() | float() as logprob}:
            return {"token": token, "logprob": logprob, "bytes": list(token.encode())}
        case {"token": str(token)}:
            return {"token": token, "logprob": 0.0, "bytes": list(token.encode())}
        case _:
            return {"token": "", "logprob": 0.0, "bytes": []}
