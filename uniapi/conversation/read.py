"""Reading a chat request into a `Conversation`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uniapi.chat import ChatRequest
from uniapi.codec import Json, JsonObject
from uniapi.conversation import (
    Conversation,
    Effort,
    JsonFormat,
    NamedTool,
    NativeTool,
    Sampling,
    SchemaFormat,
    Tool,
    ToolChoice,
)
from uniapi.conversation.fields import (
    an_object,
    count,
    entries,
    flag,
    maybe_object,
    maybe_text,
    number,
    text,
    wrong,
)
from uniapi.conversation.turns import read_messages

# Fields with a place in a Conversation, and those the gateway itself deals with.
_READ: Final = frozenset({
    "model", "messages", "stream", "stream_options", "tools", "functions", "tool_choice",
    "function_call", "parallel_tool_calls", "response_format", "max_tokens",
    "max_completion_tokens", "temperature", "top_p", "top_k", "presence_penalty",
    "frequency_penalty", "seed", "n", "stop", "logprobs", "top_logprobs", "reasoning_effort",
    "reasoning", "thinking", "user", "safety_identifier", "metadata", "modalities",
    "web_search_options", "service_tier", "verbosity",
})  # fmt: skip
_EFFORTS: Final[Mapping[str, Effort]] = {
    "none": "none",
    "minimal": "minimal",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "xhigh",
}


def conversation(chat: ChatRequest) -> Conversation:
    """The request in canonical form.

    Raises:
        ApiError: 400 with the parameter's name (`messages[3].content[1].image_url.url`) for what
            is malformed.
    """
    fields = chat.fields
    system, turns = read_messages(fields.get("messages"))
    tools, natives = _tools(fields)
    choice, tools = _choice(fields, tools)
    effort, budget = _thinking(fields)
    user = maybe_text(fields.get("user"), "user")
    return Conversation(
        system=system,
        turns=turns,
        tools=tools,
        natives=natives,
        tool_choice=choice,
        parallel_tool_calls=flag(fields.get("parallel_tool_calls"), "parallel_tool_calls"),
        format=_format(fields.get("response_format")),
        sampling=_sampling(fields),
        effort=effort,
        thinking_budget=budget,
        user=user or maybe_text(fields.get("safety_identifier"), "safety_identifier"),
        metadata=maybe_object(fields.get("metadata"), "metadata") or {},
        modalities=tuple(
            text(kind, "modalities") for kind in entries(fields.get("modalities"), "modalities")
        ),
        web_search=maybe_object(fields.get("web_search_options"), "web_search_options"),
        service_tier=maybe_text(fields.get("service_tier"), "service_tier"),
        verbosity=maybe_text(fields.get("verbosity"), "verbosity"),
        unread=tuple(
            name for name, value in fields.items() if name not in _READ and value is not None
        ),
    )


def _tools(fields: Mapping[str, Json]) -> tuple[tuple[Tool, ...], tuple[NativeTool, ...]]:
    tools: list[Tool] = []
    natives: list[NativeTool] = []
    for place, value in enumerate(entries(fields.get("tools"), "tools")):
        param = f"tools[{place}]"
        entry = an_object(value, param)
        if entry.get("type") == "function" or ("type" not in entry and "function" in entry):
            function = an_object(entry.get("function"), f"{param}.function")
            cache = maybe_object(
                entry.get("cache_control", function.get("cache_control")), f"{param}.cache_control"
            )
            tools.append(_function(function, f"{param}.function", cache))
        else:
            natives.append(NativeTool(entry, param))
    for place, value in enumerate(entries(fields.get("functions"), "functions")):
        param = f"functions[{place}]"
        tools.append(_function(an_object(value, param), param, None))
    return tuple(tools), tuple(natives)


def _function(function: JsonObject, param: str, cache: JsonObject | None) -> Tool:
    name = text(function.get("name"), f"{param}.name")
    if not name:
        raise wrong(f"{param}.name", "must not be empty")
    return Tool(
        name=name,
        description=maybe_text(function.get("description"), f"{param}.description") or "",
        parameters=maybe_object(function.get("parameters"), f"{param}.parameters"),
        strict=flag(function.get("strict"), f"{param}.strict"),
        cache=cache,
    )


def _choice(
    fields: Mapping[str, Json], tools: tuple[Tool, ...]
) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    """The choice, and the tools it leaves: `allowed_tools` is a shorter list and a mode."""
    match fields.get("tool_choice"):
        case None:
            return _legacy_choice(fields), tools
        case "auto" | "none" | "required" as word:
            return word, tools
        case "any":  # Mistral's word, which clients send to everybody
            return "required", tools
        case {"type": "function", "function": {"name": str(name)}}:
            return _named(name, tools, "tool_choice.function.name"), tools
        case {"type": "allowed_tools", "allowed_tools": {"mode": str(mode), "tools": list(kept)}}:
            if mode not in {"auto", "required"}:
                raise wrong("tool_choice.allowed_tools.mode", "must be auto or required")
            names = {_tool_name(entry) for entry in kept}
            left = tuple(tool for tool in tools if tool.name in names)
            return ("required" if mode == "required" else "auto"), left
        case _:
            raise wrong(
                "tool_choice",
                'must be "auto", "none", "required" or {"type":"function","function":{"name":...}}',
            )


def _legacy_choice(fields: Mapping[str, Json]) -> ToolChoice | None:
    match fields.get("function_call"):
        case None:
            return None
        case "auto" | "none" as word:
            return word
        case {"name": str(name)}:
            return NamedTool(name)
        case _:
            raise wrong("function_call", 'must be "auto", "none" or {"name":...}')


def _named(name: str, tools: tuple[Tool, ...], param: str) -> NamedTool:
    if all(tool.name != name for tool in tools):
        raise wrong(param, f"no function in tools is called {name!r}")
    return NamedTool(name)


def _tool_name(entry: Json) -> str:
    match entry:
        case {"function": {"name": str(name)}} | {"name": str(name)}:
            return name
        case _:
            return ""


def _format(value: Json) -> JsonFormat | SchemaFormat | None:
    match value:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return JsonFormat()
        case {"type": "json_schema", "json_schema": dict(described)}:
            param = "response_format.json_schema"
            schema = maybe_object(described.get("schema"), f"{param}.schema")
            return SchemaFormat(
                name=maybe_text(described.get("name"), f"{param}.name") or "answer",
                schema=schema if schema is not None else {"type": "object"},
                strict=flag(described.get("strict"), f"{param}.strict"),
                description=maybe_text(described.get("description"), f"{param}.description") or "",
            )
        case _:
            raise wrong(
                "response_format",
                "must have a type of text, json_object or json_schema (with json_schema)",
            )


def _sampling(fields: Mapping[str, Json]) -> Sampling:
    def amount(name: str) -> float | None:
        return number(fields.get(name), name)

    def whole(name: str, least: int | None = None) -> int | None:
        return count(fields.get(name), name, least=least)

    newer, older = whole("max_completion_tokens", 1), whole("max_tokens", 1)
    return Sampling(
        max_tokens=newer if newer is not None else older,
        temperature=amount("temperature"),
        top_p=amount("top_p"),
        top_k=whole("top_k"),
        presence_penalty=amount("presence_penalty"),
        frequency_penalty=amount("frequency_penalty"),
        seed=whole("seed"),
        n=whole("n", 1),
        stop=_stop(fields.get("stop")),
        logprobs=flag(fields.get("logprobs"), "logprobs"),
        top_logprobs=whole("top_logprobs", 0),
    )


def _stop(value: Json) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    found = [text(each, f"stop[{n}]") for n, each in enumerate(entries(value, "stop"))]
    return tuple(each for each in found if each)


def _thinking(fields: Mapping[str, Json]) -> tuple[Effort | None, int | None]:
    """Effort and budget: OpenAI's field first, then OpenRouter's object, then Anthropic's."""
    effort: Json = fields.get("reasoning_effort")
    place, budget = "reasoning_effort", None
    routed = maybe_object(fields.get("reasoning"), "reasoning")
    if routed is not None:
        if effort is None:
            effort, place = routed.get("effort"), "reasoning.effort"
        if effort is None and routed.get("enabled") is False:
            effort = "none"
        budget = count(routed.get("max_tokens"), "reasoning.max_tokens", least=0)
    native = maybe_object(fields.get("thinking"), "thinking")
    if native is not None:
        if effort is None and native.get("type") == "disabled":
            effort = "none"
        if budget is None:
            budget = count(native.get("budget_tokens"), "thinking.budget_tokens", least=0)
    if effort is None:
        return None, budget
    word = _EFFORTS.get(text(effort, place))
    if word is None:
        raise wrong(place, f"must be one of {', '.join(_EFFORTS)}")
    return word, budget
