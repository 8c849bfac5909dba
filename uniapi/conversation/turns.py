"""From OpenAI's list of messages to system texts and alternating turns.

A result belongs right after the assistant turn that made the call, whatever was said in between;
so the messages are first grouped into entries, results are hung on the entry whose call they
answer, and only then the turns are laid out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, assert_never

from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.conversation import (
    Audio,
    Block,
    File,
    Image,
    Refusal,
    Role,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    Turn,
)
from uniapi.conversation.fields import an_object, entries, maybe_object, maybe_text, text, wrong
from uniapi.conversation.parts import parts, texts, thought_signature
from uniapi.conversation.reshape import alternating

RAW = "_raw"
"""The key under which arguments are kept that are no JSON object (`ToolUse.arguments`)."""

_CLAUDE: Final = "anthropic-claude-v1"  # `thinking_blocks` are Anthropic's own


@dataclass(slots=True)
class _Entry:
    """Consecutive messages of one role, and the results of the calls made in them.

    Attributes:
        open: calls that no result has answered yet, by id, with their place in the request.
    """

    role: Role
    blocks: list[Block] = field(default_factory=list)
    results: list[ToolResult] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    open: dict[str, str] = field(default_factory=dict)


def read_messages(messages: Json) -> tuple[tuple[Text, ...], tuple[Turn, ...]]:
    """The system texts, and the turns.

    Raises:
        ApiError: 400 naming the message or part at fault; also for a result no call in the history
            asked for, and for a call left without a result, as OpenAI does.
    """
    system: list[Text] = []
    told: list[_Entry] = []
    for place, value in enumerate(entries(messages, "messages")):
        param = f"messages[{place}]"
        message = an_object(value, param)
        cache = maybe_object(message.get("cache_control"), f"{param}.cache_control")
        content = message.get("content")
        match message.get("role"):
            case "system" | "developer":
                system += _system(texts(content, f"{param}.content"), cache)
            case "user":
                blocks: list[Block] = [*parts(content, f"{param}.content")]
                _entry(told, "user").blocks += _hinted(blocks, cache)
            case "assistant":
                _assistant(_entry(told, "assistant"), message, param, cache)
            case "tool":
                identity = text(message.get("tool_call_id"), f"{param}.tool_call_id")
                entry = _asker(told, identity, f"{param}.tool_call_id")
                _answer(entry, identity, content, param, cache)
            case "function":
                name = text(message.get("name"), f"{param}.name")
                entry, identity = _asker_by_name(told, name, f"{param}.name")
                _answer(entry, identity, content, param, cache)
            case other:
                raise wrong(f"{param}.role", f"{other!r} is not a role known here")
    return tuple(system), alternating(_laid_out(told))


def _laid_out(told: Iterable[_Entry]) -> Iterator[Turn]:
    for entry in told:
        for identity, param in entry.open.items():
            raise wrong(param, f"no tool message answers the call {identity!r}")
        yield Turn(entry.role, tuple(entry.blocks))
        if entry.results:
            order = list(entry.names)
            results = sorted(entry.results, key=lambda result: order.index(result.id))
            yield Turn("user", tuple(results))


def _entry(told: list[_Entry], role: Role) -> _Entry:
    """The entry a message of this role belongs to.

    A call that has its results is a step done: what the assistant says next is another turn.
    """
    if not told or told[-1].role != role or told[-1].results:
        told.append(_Entry(role))
    return told[-1]


def _system(found: list[Text], cache: JsonObject | None) -> list[Text]:
    if cache is None or not found or found[-1].cache is not None:
        return found
    return [*found[:-1], replace(found[-1], cache=cache)]


def _hinted(blocks: list[Block], cache: JsonObject | None) -> list[Block]:
    """A message's own cache hint goes to its last block, unless that has one or can have none."""
    if cache is None or not blocks:
        return blocks
    match blocks[-1]:
        case Refusal() | Thinking():
            return blocks
        case last if last.cache is not None:
            return blocks
        case last:
            return [*blocks[:-1], replace(last, cache=cache)]


def _assistant(entry: _Entry, message: JsonObject, param: str, cache: JsonObject | None) -> None:
    blocks: list[Block] = [*thoughts(message)]
    blocks += _signed(parts(message.get("content"), f"{param}.content"), message)
    refusal = maybe_text(message.get("refusal"), f"{param}.refusal")
    if refusal:
        blocks.append(Refusal(refusal))
    for place, value in enumerate(entries(message.get("tool_calls"), f"{param}.tool_calls")):
        use = _call(value, f"{param}.tool_calls[{place}]")
        _ask(entry, use, f"{param}.tool_calls[{place}].id")
        blocks.append(use)
    legacy = maybe_object(message.get("function_call"), f"{param}.function_call")
    if legacy is not None and not message.get("tool_calls"):
        # The old form has no id; its place in the history makes one that stays the same.
        use = _use(legacy, f"call_{param[9:-1]}", f"{param}.function_call")
        _ask(entry, use, f"{param}.function_call")
        blocks.append(use)
    entry.blocks += _hinted(blocks, cache)


def _signed(blocks: Sequence[Block], message: JsonObject) -> Sequence[Block]:
    """The last text with the message's own signature, where Google put one beside the text."""
    signature = thought_signature(message)
    match blocks:
        case [*before, Text() as last] if signature and last.signature is None:
            return [*before, replace(last, signature=signature)]
        case _:
            return blocks


def thoughts(message: JsonObject) -> list[Thinking]:
    """The thinking a client sent back, by whichever convention it kept it.

    `reasoning_details` (OpenRouter's, and what we send with Claude's tool calls) and
    `thinking_blocks` carry signatures; `reasoning_content` and `reasoning` are bare text, looked
    at only without those. What is malformed was not ours and is passed over.
    """
    found: list[Thinking] = []
    for name, maker in (("reasoning_details", ""), ("thinking_blocks", _CLAUDE)):
        kept = message.get(name)
        for value in kept if isinstance(kept, list) else []:
            match value:
                case {"format": str(told)} if told:
                    thought = _thought(value, told)
                case _:
                    thought = _thought(value, maker)
            if thought is not None:
                found.append(thought)
        if found:
            return found
    bare = message.get("reasoning_content") or message.get("reasoning")
    return [Thinking(bare)] if isinstance(bare, str) and bare else []


def _thought(value: Json, maker: str) -> Thinking | None:
    match value:
        case {"type": "reasoning.text", "text": str(thought), "signature": str(proof)}:
            return Thinking(thought, proof or None, format=maker)
        case {"type": "thinking", "thinking": str(thought), "signature": str(proof)}:
            return Thinking(thought, proof or None, format=maker)
        case {"type": "reasoning.text", "text": str(thought)} if thought:
            return Thinking(thought, format=maker)
        case {"type": "reasoning.encrypted" | "redacted_thinking", "data": str(data)}:
            return Thinking(sealed=data, format=maker)
        case {"type": "reasoning.summary", "summary": str(summary)} if summary:
            return Thinking(summary, format=maker)
        case _:
            return None


def _call(value: Json, param: str) -> ToolUse:
    call = an_object(value, param)
    if call.get("type", "function") != "function":
        raise wrong(f"{param}.type", "only function calls are known here")
    identity = text(call.get("id"), f"{param}.id")
    function = an_object(call.get("function"), f"{param}.function")
    use = _use(function, identity, f"{param}.function")
    cache = maybe_object(call.get("cache_control"), f"{param}.cache_control")
    return replace(use, cache=cache, signature=thought_signature(call))


def _use(function: JsonObject, identity: str, param: str) -> ToolUse:
    name = text(function.get("name"), f"{param}.name")
    return ToolUse(identity, name, _arguments(function.get("arguments"), f"{param}.arguments"))


def _arguments(value: Json, param: str) -> JsonObject:
    if value is None or isinstance(value, dict):
        return value or {}
    written = text(value, param)
    try:
        parsed = codec.loads(written) if written.strip() else None
        codec.dumps(parsed)  # 1e999 and a lone surrogate parse, and could not be sent on
    except ValueError:
        return {RAW: written}
    match parsed:
        case dict():
            return parsed
        case None:
            return {}
        case _:
            return {RAW: written}


def _ask(entry: _Entry, use: ToolUse, param: str) -> None:
    if use.id in entry.names:
        raise wrong(param, f"two calls of one turn have the id {use.id!r}")
    entry.names[use.id] = use.name
    entry.open[use.id] = param


def _asker(told: Sequence[_Entry], identity: str, param: str) -> _Entry:
    """The latest entry with this call: some providers count ids from zero in every turn."""
    for entry in reversed(told):
        if identity in entry.open:
            return entry
    raise wrong(param, f"no open call before has the id {identity!r}")


def _asker_by_name(told: Sequence[_Entry], name: str, param: str) -> tuple[_Entry, str]:
    for entry in reversed(told):
        for identity in entry.open:
            if entry.names[identity] == name:
                return entry, identity
    raise wrong(param, f"no open call before is of the function {name!r}")


def _answer(
    entry: _Entry, identity: str, content: Json, param: str, cache: JsonObject | None
) -> None:
    found: list[Text | Image | Audio | File] = []
    for block in parts(content, f"{param}.content"):
        match block:
            case Text() | Image() | Audio() | File():
                found.append(block)
            case Refusal():
                raise wrong(f"{param}.content", "a tool's answer cannot hold a refusal")
            case _:
                assert_never(block)
    del entry.open[identity]
    entry.results.append(ToolResult(identity, entry.names[identity], tuple(found), cache))
