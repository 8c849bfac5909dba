"""ENGINES.md, made from what the golden cases show: `python -m tests.kit.engines_md` writes it.

A feature is there when a case of the engine shows it: what was asked is in the call, or what is
told was in the recorded answer. Nothing in the table is anybody's opinion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

from tests.kit.golden import Case, events_of
from tests.kit.variants import everywhere
from uniapi import multipart, relay
from uniapi.config.types import Channel
from uniapi.engines import registry
from uniapi.engines.base import Engine, Recipient
from uniapi.errors import ApiError, Failure, Kind
from uniapi.events import Event, Extra, Finish, Reasoning, StreamFailed, Text, ToolCall, Usage
from uniapi.relay import RelayRequest

PATH: Final = Path(__file__).resolve().parents[2] / "ENGINES.md"
YES, REFUSED, NOTHING, PASSED = "yes", "400", "·", "passed on"


@dataclass(frozen=True)
class Shown:
    """One case, and what can be seen in it."""

    case: Case

    @cached_property
    def request(self) -> dict[str, Any]:
        return dict(self.case.ask["request"])

    @cached_property
    def sent(self) -> str | None:
        """The body that is sent; None for a request that is refused."""
        try:
            return self.case.call().body.decode()
        except ApiError:
            return None

    @cached_property
    def streamed(self) -> list[Event]:
        """The events of the recorded stream."""
        data = None if self.case.status or self.sent is None else self.case.stream
        return events_of(self.case.decode(data, upstream=True, client=True)) if data else []

    @cached_property
    def whole(self) -> list[Event]:
        """The events of the recorded body."""
        data = None if self.case.status or self.sent is None else self.case.body
        return events_of(self.case.decode(data, upstream=False, client=False)) if data else []

    @property
    def told(self) -> list[Event]:
        return self.streamed + self.whole

    @cached_property
    def failure(self) -> Failure | None:
        """What the recorded refusal means."""
        status = self.case.status
        if status is None:
            return None
        headers = status.get("headers", {})
        return self.case.engine.failure(status["status"], headers, self.case.body or b"")

    def parts(self, kind: str) -> Iterator[dict[str, Any]]:
        """The content parts of a type."""
        for message in self.request["messages"]:
            content = message.get("content")
            for part in content if isinstance(content, list) else ():
                if isinstance(part, dict) and part.get("type") == kind:
                    yield part

    def roles(self) -> set[str]:
        return {str(message.get("role")) for message in self.request["messages"]}


Sees: TypeAlias = Callable[[Shown], bool]
"""Whether a case shows a feature."""


def asks(wish: Sees) -> Callable[[Sequence[Shown]], str]:
    """A feature of the request: sent somehow, or refused."""

    def cell(cases: Sequence[Shown]) -> str:
        wishing = [shown for shown in cases if wish(shown)]
        if any(shown.sent is not None for shown in wishing):
            return YES
        return REFUSED if wishing else NOTHING

    return cell


def tells(sees: Sees) -> Callable[[Sequence[Shown]], str]:
    """A feature of the answer."""
    return lambda cases: YES if any(sees(shown) for shown in cases) else NOTHING


def carried(kind: str, starts: str) -> Callable[[Sequence[Shown]], str]:
    """Whether content parts of a type get to the provider, data and all."""

    def payloads(shown: Shown) -> list[str]:
        found = []
        for part in shown.parts(kind):
            match part.get(kind):
                case {"url": str(data)} | {"file_data": str(data)} if data.startswith(starts):
                    found.append(data.rpartition(",")[2])
                case {"data": str(data)}:
                    found.append(data)
                case _:
                    pass
        return found

    def cell(cases: Sequence[Shown]) -> str:
        asked = [(shown, payloads(shown)) for shown in cases]
        if any(shown.sent and any(data in shown.sent for data in found) for shown, found in asked):
            return YES
        return REFUSED if any(found and shown.sent is None for shown, found in asked) else NOTHING

    return cell


def fetched(cases: Sequence[Shown]) -> str:
    """What becomes of a picture's address: it is fetched here, or by the provider."""
    for shown in cases:
        urls = [
            url
            for part in shown.parts("image_url")
            if (url := str(part["image_url"].get("url"))).startswith("https:")
        ]
        if not urls or shown.sent is None:
            continue
        needed = shown.case.engine.needs(shown.case.chat(), shown.case.channel)
        if set(urls) & set(needed):
            return "fetched here"
        if any(url in shown.sent for url in urls):
            return "by the provider"
    return NOTHING


def calls(shown: Shown) -> int:
    """How many tools one answer calls."""
    return max(
        len({event.index for event in events if isinstance(event, ToolCall)})
        for events in (shown.streamed, shown.whole)
    )


def says(*kinds: type[Event]) -> Sees:
    return lambda shown: any(isinstance(event, kinds) for event in shown.told)


def extra(name: str) -> Sees:
    return lambda shown: any(
        isinstance(event, Extra) and (name in event.fields or name in event.beside)
        for event in shown.told
    )


def ends(reason: str) -> Sees:
    return lambda shown: any(isinstance(e, Finish) and e.reason == reason for e in shown.told)


def refuses(*kinds: Kind) -> Sees:
    return lambda shown: shown.failure is not None and shown.failure.kind in kinds


def breaks(shown: Shown) -> bool:
    events = shown.streamed
    return bool(events) and isinstance(events[-1], StreamFailed)


def cached(shown: Shown) -> bool:
    for event in shown.told:
        if isinstance(event, Usage):
            match event.detail:
                case {"prompt_tokens_details": {"cached_tokens": int(count)}} if count > 0:
                    return True
                case _:
                    pass
    return False


def format_of(shown: Shown) -> str | None:
    kind = shown.request.get("response_format")
    return str(kind.get("type")) if isinstance(kind, dict) else None


def chosen(shown: Shown) -> bool:
    choice = shown.request.get("tool_choice")
    return isinstance(choice, dict) or choice in {"required", "none"}


FEATURES: Final[dict[str, dict[str, Callable[[Sequence[Shown]], str]]]] = {
    "Answers": {
        "streamed": tells(lambda shown: any(isinstance(e, Text) for e in shown.streamed)),
        "whole": tells(lambda shown: any(isinstance(e, Text) for e in shown.whole)),
        "one tool called": tells(lambda shown: calls(shown) >= 1),
        "several tools called at once": tells(lambda shown: calls(shown) > 1),
        "reasoning": tells(says(Reasoning)),
        "citations": tells(extra("annotations")),
        "pictures": tells(extra("images")),
        "speech": tells(extra("audio")),
        "log probabilities": tells(extra("logprobs")),
        "usage": tells(says(Usage)),
        "usage: cached tokens": tells(cached),
        "cut at the limit": tells(ends("length")),
        "filtered or refused": tells(ends("content_filter")),
    },
    "Requests": {
        "system and developer turns": asks(lambda s: bool(s.roles() & {"system", "developer"})),
        "tool results": asks(lambda s: "tool" in s.roles() and "tool_calls" in str(s.request)),
        "`tool_choice`": asks(chosen),
        "pictures (data)": carried("image_url", "data:image/"),
        "pictures (address)": fetched,
        "files (PDF)": carried("file", "data:application/pdf"),
        "sound": carried("input_audio", ""),
        "`response_format`: JSON": asks(lambda s: format_of(s) == "json_object"),
        "`response_format`: a schema": asks(lambda s: format_of(s) == "json_schema"),
        "`reasoning_effort`": asks(lambda s: "reasoning_effort" in s.request),
        "`stop`": asks(lambda s: "stop" in s.request),
    },
    "Failures, told apart": {
        "a bad key": tells(refuses(Kind.KEY)),
        "an empty account": tells(refuses(Kind.QUOTA)),
        "too many requests": tells(refuses(Kind.RATE_LIMIT)),
        "a context too long": tells(refuses(Kind.CONTEXT)),
        "an error in mid-stream, or a cut": tells(breaks),
    },
}


def endpoint(path: str) -> Callable[[Engine, Case], str]:
    """Whether an endpoint other than chat is served: in translation, or passed on."""
    form = multipart.parse(
        "multipart/form-data; boundary=b",
        b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n'
        b'--b\r\ncontent-disposition: form-data; name="prompt"\r\n\r\nx\r\n'
        b'--b\r\ncontent-disposition: form-data; name="image"; filename="a.png"\r\n'
        b"content-type: image/png\r\n\r\n\x89PNG\r\n--b--\r\n",
    )

    def cell(engine: Engine, case: Case) -> str:
        request = RelayRequest(
            path,
            "m",
            {"model": "m", "input": "x", "prompt": "x", "voice": "alloy"},
            form if path in relay.FORMS else None,
        )
        answered = engine.relay(request, _recipient(case))
        if answered is None:
            return NOTHING
        return PASSED if answered.translate is None else YES

    return cell


def listing(engine: Engine, case: Case) -> str:
    """Whether the provider can be asked for its models."""
    return NOTHING if engine.catalogue(_recipient(case)) is None else YES


def _recipient(case: Case) -> Recipient:
    return Recipient(Channel(case.provider, "m", "m"), case.recipient.key, now=0.0)


ENDPOINTS: Final[dict[str, Callable[[Engine, Case], str]]] = {
    "models listed by the provider": listing,
    **{f"`{path}`": endpoint(path) for path in relay.ENDPOINTS},
}

_HEAD: Final = f"""\
# Engines

What each engine does, as the recorded cases in `tests/wire/` show it. This file is made from them:
`python -m tests.kit.engines_md` writes it, and a test fails when it says anything else. Azure,
Cloudflare, Groq, OpenRouter and Vertex are asked the common cases of the dialect they share too.
Nothing here was tried on a provider's account.

- **{YES}**: a case shows it, in the call that is sent or in the answer that is read.
- **{REFUSED}**: refused before it is sent, naming the parameter; the next channel is asked.
- **{PASSED}**: sent and answered in the client's own words; who has no such endpoint answers 404,
  and the next channel is asked.
- **{NOTHING}**: no case, or no such thing. The OpenAI-format engines (azure, cloudflare, gpt, groq,
  openrouter) pass on all they are asked and all they are answered, shown here or not.
"""


def render() -> str:
    """The file."""
    engines = {engine.names[0]: engine for engine in registry.ENGINES}
    found: dict[str, list[Shown]] = {name: [] for name in engines}
    for case in everywhere():
        found[case.name.partition("/")[0]].append(Shown(case))
    names = sorted(engines)
    text = _HEAD
    for title, features in FEATURES.items():
        rows = [[label, *(cell(found[name]) for name in names)] for label, cell in features.items()]
        text += f"\n## {title}\n\n{_table(names, rows)}"
    at_home = {
        name: next(s.case for s in found[name] if s.case.name.endswith("/text")) for name in names
    }
    others = [
        [label, *(cell(engines[name], at_home[name]) for name in names)]
        for label, cell in ENDPOINTS.items()
    ]
    return f"{text}\n## Other endpoints\n\n{_table(names, others)}"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = ["", *names]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    rule = [
        ":" + "-" * (width + 1) if place else "-" * (width + 2)
        for place, width in enumerate(widths)
    ]
    lines = [_line(head, widths), "|" + "|".join(rule) + "|", *(_line(row, widths) for row in rows)]
    return "".join(f"{line}\n" for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return (
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        + " |"
    )


if __name__ == "__main__":
    PATH.write_text(render())
