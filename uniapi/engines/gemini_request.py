"""The body of a `generateContent` request, from a conversation.

Any name Google does not know is a 400, so nothing goes in that is not listed in its reference;
what the client asked and Gemini has no word for is named in the notes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from uniapi.codec import Json, JsonObject
from uniapi.conversation import (
    Conversation,
    JsonFormat,
    NamedTool,
    NativeTool,
    SchemaFormat,
    Tool,
    ToolChoice,
)
from uniapi.engines.gemini_contents import contents, system_parts
from uniapi.engines.gemini_family import Family, thinking
from uniapi.engines.gemini_media import Shelf
from uniapi.engines.gemini_names import spoken
from uniapi.engines.gemini_schema import subset
from uniapi.errors import ApiError

_MOST_STOPS: Final = 5
_PENALTY: Final = 1.99  # two itself is out of range
# Google's own tools, by Google's name and by those other dialects have for the same thing.
_NATIVE: Final = {
    "googleSearch": "googleSearch",
    "google_search": "googleSearch",
    "web_search": "googleSearch",
    "web_search_preview": "googleSearch",
    "googleSearchRetrieval": "googleSearchRetrieval",
    "google_search_retrieval": "googleSearchRetrieval",
    "codeExecution": "codeExecution",
    "code_execution": "codeExecution",
    "code_interpreter": "codeExecution",
    "urlContext": "urlContext",
    "url_context": "urlContext",
    "googleMaps": "googleMaps",
    "google_maps": "googleMaps",
}
_OPENAI_VOICES: Final = frozenset(
    {"alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse"}
)
_VOICE: Final = "Kore"


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything beside the conversation that shapes a body.

    Attributes:
        of: the model's family.
        shelf: where media come from.
        plain: the address is `/v1`, which has no system instruction and no JSON Schema.
        search: the client asked for a `-search` model: answers rest on Google's search.
        voice: of spoken answers, when the client named one.
    """

    of: Family
    shelf: Shelf
    plain: bool = False
    search: bool = False
    voice: str | None = None


def request(conversation: Conversation, setting: Setting) -> tuple[JsonObject, tuple[str, ...]]:
    """The body, and the names of the request's fields that found no place in it.

    Raises:
        ApiError: 400 naming the parameter, for what cannot be honoured.
    """
    config = _generation(conversation, setting)
    tools, searched = _tools(conversation, setting)
    turns = contents(conversation, setting.of, setting.shelf)
    body: JsonObject = {}
    system = system_parts(conversation.system)
    if system and setting.plain:
        turns = [{"role": "user", "parts": system}, *turns]
    elif system:
        body["systemInstruction"] = {"parts": system}
    body["contents"] = turns
    if tools:
        body["tools"] = tools
    if conversation.tool_choice is not None and conversation.tools:
        body["toolConfig"] = {"functionCallingConfig": _calling(conversation.tool_choice)}
    if config:
        body["generationConfig"] = config
    notes = [*_unsaid(conversation, setting)]
    if conversation.web_search is not None and not searched:
        notes.append("web_search_options")
    return body, tuple(notes)


# Tools.


def _tools(conversation: Conversation, setting: Setting) -> tuple[list[Json], bool]:
    """The entries of `tools`, and whether Google's search is among them."""
    made: list[Json] = []
    if conversation.tools:
        made.append(
            {"functionDeclarations": [_function(t, setting.plain) for t in conversation.tools]}
        )
    natives = [_native(tool) for tool in conversation.natives]
    # Most models refuse search beside functions. A model named for it insists; an option yields.
    wanted = setting.search or (conversation.web_search is not None and not conversation.tools)
    if wanted and not any(name.startswith("googleSearch") for name, _ in natives):
        old = setting.of.version < (2, 0)
        natives.append(("googleSearchRetrieval" if old else "googleSearch", {}))
    made += [{name: options} for name, options in dict(natives).items()]
    return made, any(name.startswith("googleSearch") for name, _ in natives)


def _function(tool: Tool, plain: bool) -> JsonObject:
    made: JsonObject = {"name": spoken(tool.name)}
    if tool.description:
        made["description"] = tool.description
    if not tool.parameters:
        return made
    if plain:
        cut = subset(tool.parameters)
        if cut.get("properties"):  # an object without properties is a 400 here
            made["parameters"] = cut
    else:
        made["parametersJsonSchema"] = tool.parameters
    return made


def _native(tool: NativeTool) -> tuple[str, Json]:
    """A tool of Google's own: `{"googleSearch": {}}`, or `{"type": "google_search"}`."""
    for given, name in _NATIVE.items():
        options = tool.fields.get(given)
        if isinstance(options, dict):
            return name, options
        if tool.fields.get("type") == given:
            return name, {}
    raise ApiError(
        400,
        f"{tool.param}: not a function, and not a tool of Google's",
        code="invalid_request",
        param=tool.param,
    )


def _calling(choice: ToolChoice) -> JsonObject:
    match choice:
        case "auto":
            return {"mode": "AUTO"}
        case "none":
            return {"mode": "NONE"}
        case "required":
            return {"mode": "ANY"}
        case NamedTool(name=name):
            return {"mode": "ANY", "allowedFunctionNames": [spoken(name)]}


# How to answer.


def _generation(conversation: Conversation, setting: Setting) -> JsonObject:
    sampling = conversation.sampling
    if len(sampling.stop) > _MOST_STOPS:
        said = f"stop: at most {_MOST_STOPS} sequences"
        raise ApiError(400, said, code="invalid_request", param="stop")
    longest = sampling.max_tokens
    config: JsonObject = {
        "maxOutputTokens": None if longest is None else min(longest, setting.of.longest),
        "temperature": _within(sampling.temperature, 0.0, 2.0),
        "topP": sampling.top_p,
        "topK": sampling.top_k,
        "stopSequences": list(sampling.stop) or None,
        "seed": sampling.seed,
        "candidateCount": sampling.n if sampling.n != 1 else None,
        # Zero is the default, and thinking models refuse the field itself.
        "presencePenalty": _within(sampling.presence_penalty or None, -2.0, _PENALTY),
        "frequencyPenalty": _within(sampling.frequency_penalty or None, -2.0, _PENALTY),
        "responseLogprobs": sampling.logprobs or None,
        "logprobs": sampling.top_logprobs if sampling.logprobs else None,
        "thinkingConfig": _thinking(conversation, setting),
        **_format(conversation, setting),
        **_modalities(conversation.modalities, setting.voice),
    }
    return {name: value for name, value in config.items() if value is not None}


def _within(value: float | None, least: float, most: float) -> float | None:
    return None if value is None else min(max(value, least), most)


def _thinking(conversation: Conversation, setting: Setting) -> JsonObject | None:
    if not setting.of.thinks:
        return None
    return thinking(setting.of, conversation.effort, conversation.thinking_budget)


def _format(conversation: Conversation, setting: Setting) -> JsonObject:
    match conversation.format:
        case None:
            return {}
        case JsonFormat():
            return {"responseMimeType": "application/json"}
        case SchemaFormat(schema=schema):
            name, shown = "responseJsonSchema", schema
            if setting.plain or not setting.of.json_schema:
                name, shown = "responseSchema", subset(schema)
            return {"responseMimeType": "application/json", name: shown}


def _modalities(asked: tuple[str, ...], voice: str | None) -> JsonObject:
    """What kinds of output; speech comes alone, since the models that speak give nothing else."""
    kinds = [kind.upper() for kind in asked]
    if "AUDIO" in kinds:
        name = _VOICE if voice is None or voice in _OPENAI_VOICES else voice
        speech: JsonObject = {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": name}}}
        return {"responseModalities": ["AUDIO"], "speechConfig": speech}
    return {"responseModalities": list(kinds)} if set(kinds) - {"TEXT"} else {}


def _unsaid(conversation: Conversation, setting: Setting) -> Iterator[str]:
    """Fields of the request that Gemini has no word for."""
    spoken_answer = "audio" in {kind.lower() for kind in conversation.modalities}
    yield from (name for name in conversation.unread if not (name == "audio" and spoken_answer))
    sampling = conversation.sampling
    gone = {
        "parallel_tool_calls": conversation.parallel_tool_calls is not None,
        "user": conversation.user is not None,
        "metadata": bool(conversation.metadata),
        "service_tier": conversation.service_tier is not None,
        "verbosity": conversation.verbosity is not None,
        "tool_choice": conversation.tool_choice is not None and not conversation.tools,
        "top_logprobs": sampling.top_logprobs is not None and not sampling.logprobs,
        "reasoning_effort": conversation.effort is not None and not setting.of.thinks,
        "thinking": conversation.thinking_budget is not None and not setting.of.thinks,
    }
    yield from (name for name, is_gone in gone.items() if is_gone)
