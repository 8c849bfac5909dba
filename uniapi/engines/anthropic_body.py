"""The body of a Messages request, wherever Claude is served: Anthropic, Vertex, and proxies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.conversation import (
    Conversation,
    JsonFormat,
    NamedTool,
    SchemaFormat,
    Text,
    Tool,
    Turn,
)
from uniapi.conversation.fields import wrong
from uniapi.engines.anthropic_blocks import Writer, system
from uniapi.engines.anthropic_models import Family
from uniapi.engines.anthropic_schema import closed
from uniapi.engines.anthropic_thinking import plan, sampling
from uniapi.engines.base import Media

_SERVER_TOOL: Final = re.compile(r"_\d{8}$")  # web_search_20250305, bash_20250124
_HINTS: Final = 4  # cache breakpoints in one request; a fifth is refused
_TIERS: Final = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
_ANY_JSON: Final = "Answer with one JSON object and nothing else: no prose, no code fence."
_BY_SCHEMA: Final = (
    "Answer with one JSON value that matches this JSON Schema and nothing else: no prose, no code"
    " fence.\n"
)
_MAX_USER: Final = 256  # characters of metadata.user_id


def body(
    conversation: Conversation,
    family: Family,
    *,
    media: Mapping[str, Media],
    fetches: bool,
) -> tuple[JsonObject, tuple[str, ...]]:
    """The body without `model` and `stream`, and the names of the fields left out.

    Args:
        conversation: what is asked.
        family: the rules of the model that is asked.
        media: what was fetched, by URL.
        fetches: whether the provider fetches https URLs.

    Raises:
        ApiError: 400 naming the parameter that cannot be honoured.
    """
    planned = plan(conversation, family)
    thinking = planned.thinking is not None
    writer = Writer(media, fetches=fetches, thinking=thinking)
    output, instruction = _output(conversation, family, planned.effort)
    texts = conversation.system
    if instruction:
        texts = (*texts, Text(instruction))
    turns = conversation.turns
    if not turns:
        # A request needs a turn: what there is of system texts is what the user says.
        turns, texts = (Turn("user", texts),) if texts else (), ()
    tools, tool_notes = _tools(conversation, family)
    drawn, drawn_notes = sampling(conversation, family, thinking=thinking)
    stop = [text for text in conversation.sampling.stop if text.strip()]
    made: JsonObject = {
        "max_tokens": planned.max_tokens,
        "system": system(texts),
        "messages": writer.turns(turns),
        "tools": tools,
        "tool_choice": _choice(conversation, family) if tools else None,
        "stop_sequences": [*stop],
        **drawn,
        "metadata": _metadata(conversation.user),
        "thinking": planned.thinking,
        "output_config": output,
        "service_tier": _TIERS.get(conversation.service_tier or ""),
    }
    made = {name: value for name, value in made.items() if value not in (None, [], {})}
    if not made.get("messages"):
        raise wrong("messages", "nothing is said in them that Claude could be given")
    notes = [*conversation.unread, *planned.notes, *drawn_notes, *tool_notes, *writer.notes]
    notes += _unsaid(conversation, made)
    if _spare_hints(made):
        notes.append("cache_control")
    return made, tuple(dict.fromkeys(notes))


def _unsaid(conversation: Conversation, made: JsonObject) -> list[str]:
    """The fields of the request that Anthropic has no word for, or not for this value."""
    asked = conversation.sampling
    unsaid = {
        "stop": len(asked.stop) != len(_list(made.get("stop_sequences"))),
        "presence_penalty": bool(asked.presence_penalty),
        "frequency_penalty": bool(asked.frequency_penalty),
        "seed": asked.seed is not None,
        "n": asked.n is not None and asked.n > 1,
        "logprobs": bool(asked.logprobs),
        "top_logprobs": bool(asked.top_logprobs),
        "modalities": any(kind != "text" for kind in conversation.modalities),
        "verbosity": conversation.verbosity is not None,
        "metadata": bool(conversation.metadata),
        "user": bool(conversation.user) and "metadata" not in made,
        "service_tier": conversation.service_tier is not None and "service_tier" not in made,
    }
    return [name for name, dropped in unsaid.items() if dropped]


def _metadata(user: str | None) -> JsonObject:
    return {"user_id": user} if user and len(user) <= _MAX_USER else {}


def _list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


# Tools.


def _tools(conversation: Conversation, family: Family) -> tuple[list[Json], list[str]]:
    notes: list[str] = []
    made: list[Json] = []
    for tool in conversation.tools:
        written = _tool(tool, family)
        if tool.strict and "strict" not in written:
            notes.append("tools.function.strict")
        made.append(written)
    for native in conversation.natives:
        kind = native.fields.get("type")
        own = isinstance(kind, str) and _SERVER_TOOL.search(kind) is not None
        if not own and not {"name", "input_schema"} <= native.fields.keys():
            raise wrong(f"{native.param}.type", f"Claude knows no tool of the type {kind!r}")
        made.append({**native.fields})
    if conversation.web_search is not None:
        made.append(_web_search(conversation.web_search))
    return made, notes


def _tool(tool: Tool, family: Family) -> JsonObject:
    made: JsonObject = {"name": tool.name}
    if tool.description:
        made["description"] = tool.description
    parameters = tool.parameters or {"properties": {}}
    made["input_schema"] = {"type": "object", **parameters}
    if tool.strict and family.structured and (strict := closed(parameters)) is not None:
        made |= {"input_schema": strict, "strict": True}
    if tool.cache is not None:
        made["cache_control"] = tool.cache
    return made


def _web_search(options: JsonObject) -> JsonObject:
    """OpenAI's `web_search_options` as Anthropic's server tool."""
    made: JsonObject = {"type": "web_search_20250305", "name": "web_search"}
    match options.get("user_location"):
        case {"approximate": dict(place)}:
            made["user_location"] = {"type": "approximate", **place}
        case _:
            pass
    return made


def _choice(conversation: Conversation, family: Family) -> JsonObject | None:
    choice: JsonObject
    match conversation.tool_choice:
        case "none":
            return {"type": "none"}
        case "required":
            choice = {"type": "any"}
        case NamedTool(name=name):
            choice = {"type": "tool", "name": name}
        case "auto":
            choice = {"type": "auto"}
        case None:
            if conversation.parallel_tool_calls is not False:
                return None
            choice = {"type": "auto"}
    if choice["type"] in {"any", "tool"} and not family.forced:
        raise wrong("tool_choice", "this model cannot be forced to call a tool: use auto")
    if conversation.parallel_tool_calls is False:
        choice["disable_parallel_tool_use"] = True
    return choice


# The form of the answer.


def _output(
    conversation: Conversation, family: Family, effort: str | None
) -> tuple[JsonObject, str]:
    """`output_config`, and the instruction that stands in where the format cannot be enforced."""
    output: JsonObject = {} if effort is None else {"effort": effort}
    match conversation.format:
        case None:
            return output, ""
        case JsonFormat():
            return output, _ANY_JSON
        case SchemaFormat(schema=schema):
            enforced = closed(schema) if family.structured else None
            if enforced is None:
                return output, _BY_SCHEMA + codec.dumps(schema).decode()
            return {**output, "format": {"type": "json_schema", "schema": enforced}}, ""


def _spare_hints(made: JsonObject) -> bool:
    """Take out the first cache hints beyond what is allowed; the last ones cover the most."""
    found = [block for part in ("tools", "system", "messages") for block in _hinted(made.get(part))]
    for block in found[:-_HINTS]:
        del block["cache_control"]
    return len(found) > _HINTS


def _hinted(value: Json) -> list[JsonObject]:
    """The blocks with a cache hint, in order; schemas and arguments are not looked into."""
    found: list[JsonObject] = []
    for entry in _list(value):
        if not isinstance(entry, dict):
            continue
        found += _hinted(entry.get("content"))
        if "cache_control" in entry:
            found.append(entry)
    return found
