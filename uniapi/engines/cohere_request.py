"""A chat request as the body of Cohere's v2 chat."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Final

from uniapi import codec
from uniapi.chat import ChatRequest
from uniapi.codec import Json, JsonObject
from uniapi.conversation import (
    Audio,
    Block,
    Conversation,
    Effort,
    File,
    Image,
    Inline,
    JsonFormat,
    NamedTool,
    Refusal,
    Remote,
    SchemaFormat,
    Text,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
    Turn,
)
from uniapi.errors import ApiError

# Cohere's own fields, which a client that knows them may send beside OpenAI's.
_NATIVE: Final = (
    "documents",
    "citation_options",
    "safety_mode",
    "strict_tools",
    "priority",
    "k",
    "p",
)
_EMPTY: Final = "(empty)"  # what a tool answered that answered nothing
_NO_PARAMETERS: Final[JsonObject] = {"type": "object", "properties": {}}
# Tokens of thought for an effort; high and more is as much as the model likes.
_BUDGETS: Final[dict[Effort, int]] = {"minimal": 1024, "low": 2048, "medium": 8192}
# Models from before reasoning, and those made for something else, know no `thinking`.
_THOUGHTLESS: Final = re.compile(r"command-(r|light|nightly|a-(03|vision|translate))|aya|^command$")


class Request:
    """Builds one body.

    Attributes:
        body: Cohere's JSON, but for `model` and `stream`.
        notes: names of request fields left out.
    """

    def __init__(self, chat: ChatRequest, conversation: Conversation, model: str) -> None:
        """Build it for this model.

        Raises:
            ApiError: 400 naming the parameter, for what Cohere cannot do.
        """
        self.notes: list[str] = []
        self.body: JsonObject = {}
        self._asked = conversation
        self._documents: list[Json] = []  # text files, which Cohere takes beside the messages
        for native in conversation.natives:
            said = "Cohere takes function tools only"
            raise ApiError(400, said, code="unsupported_value", param=native.param)
        self.body["messages"] = self._messages()
        self._tools()
        self._format()
        self._sample()
        self._think(model)
        self._rest(chat)

    def _messages(self) -> list[Json]:
        messages: list[Json] = []
        if self._asked.system:
            messages.append({"role": "system", "content": self._asked.system_text})
        for turn in self._asked.turns:
            if turn.role == "assistant":
                messages += self._assistant(turn)
            else:
                messages += self._user(turn)
        return messages

    def _user(self, turn: Turn) -> Iterable[Json]:
        """The results of tools, one message each, then what was said."""
        said: list[Block] = []
        for block in turn.blocks:
            if isinstance(block, ToolResult):
                yield _result(block)
            else:
                said.append(block)
            if not isinstance(block, Refusal | Thinking) and block.cache is not None:
                self.notes.append("cache_control")
        parts = [part for block in said for part in self._parts(block)]
        match parts:
            case []:
                pass
            case [{"type": "text", "text": str(text)}]:
                yield {"role": "user", "content": text}
            case _:
                yield {"role": "user", "content": parts}

    def _parts(self, block: Block) -> Iterable[Json]:
        match block:
            case Text(text=text):
                yield {"type": "text", "text": text}
            case Image():
                shown: JsonObject = {"url": _address(block)}
                if block.detail is not None:
                    shown["detail"] = block.detail
                yield {"type": "image_url", "image_url": shown}
            case File():
                self._documents.append(_document(block))
            case Audio(param=param):
                raise _refusal(param, "Cohere does not take audio")
            case _:
                pass  # not in a user's turn

    def _assistant(self, turn: Turn) -> Iterable[Json]:
        """What was said; beside calls it is the plan that led to them, and so are thoughts."""
        said: list[str] = []
        thought: list[str] = []
        calls: list[Json] = []
        for block in turn.blocks:
            match block:
                case Text(text=text) | Refusal(text=text):
                    said.append(text)
                case Thinking(text=text) if text:
                    thought.append(text)
                case ToolUse():
                    calls.append(_call(block))
                case Image(param=param) | Audio(param=param) | File(param=param):
                    self.notes.append(param)  # taken from users only
                case _:
                    pass
        message: JsonObject = {"role": "assistant"}
        if calls:
            message["tool_calls"] = calls
            if plan := "\n".join([*thought, "".join(said)]).strip():
                message["tool_plan"] = plan
        elif said:
            message["content"] = "".join(said)
        if len(message) > 1:
            yield message

    def _tools(self) -> None:
        asked = self._asked
        tools = asked.tools
        if asked.tool_choice == "none" and asked.format is not None:
            tools = ()  # they cannot be used, and stand in the way of a format
        choice: str | None = None
        match asked.tool_choice:
            case NamedTool(name=name):
                # There is no such choice: one of one is the same.
                tools = tuple(tool for tool in tools if tool.name == name)
                choice = "REQUIRED"
            case "required":
                choice = "REQUIRED"
            case "none":
                choice = "NONE"
            case _:
                pass  # auto has no word: it is the default
        if not tools:
            return
        self.body["tools"] = [_tool(tool) for tool in tools]
        if choice is not None:
            self.body["tool_choice"] = choice
        # Strictness is for all tools or none, and for those that require something.
        if all(tool.strict and (tool.parameters or {}).get("required") for tool in tools):
            self.body["strict_tools"] = True
        elif any(tool.strict for tool in tools):
            self.notes.append("tools[].function.strict")
        if asked.parallel_tool_calls is not None:
            self.notes.append("parallel_tool_calls")

    def _format(self) -> None:
        wanted = self._asked.format
        if wanted is None:
            return
        if "tools" in self.body:
            raise _refusal("response_format", "Cohere takes no response_format beside tools")
        match wanted:
            case JsonFormat():
                self.body["response_format"] = {"type": "json_object"}
            case SchemaFormat(schema=schema):
                self.body["response_format"] = {
                    "type": "json_object",
                    "json_schema": _requiring(schema),
                }

    def _sample(self) -> None:
        asked = self._asked.sampling
        measures: list[tuple[str, float | None, float, float]] = [
            ("temperature", asked.temperature, 0, 1),
            ("p", asked.top_p, 0.01, 0.99),
            ("k", asked.top_k, 0, 500),
            ("frequency_penalty", asked.frequency_penalty, 0, 1),
            ("presence_penalty", asked.presence_penalty, 0, 1),
        ]
        if asked.max_tokens is not None:
            self.body["max_tokens"] = asked.max_tokens
        for name, value, low, high in measures:
            if value is not None:
                self.body[name] = min(max(value, low), high)
        if asked.stop:
            self.body["stop_sequences"] = list[Json](asked.stop)
        if asked.seed is not None:
            self.body["seed"] = asked.seed
        if (asked.n or 1) > 1:
            self.notes.append("n")
        if asked.logprobs:
            self.notes.append("logprobs")
        if asked.top_logprobs is not None:
            self.notes.append("top_logprobs")

    def _think(self, model: str) -> None:
        effort, tokens = self._asked.effort, self._asked.thinking_budget
        if effort is None and tokens is None:
            return
        if _THOUGHTLESS.search(model.lower()):
            if effort != "none":
                self.notes.append("reasoning_effort" if effort is not None else "thinking")
            return
        if effort == "none" or tokens == 0:
            self.body["thinking"] = {"type": "disabled"}
            return
        thinking: JsonObject = {"type": "enabled"}
        limit = tokens or (_BUDGETS.get(effort) if effort is not None else None)
        if limit is not None:
            thinking["token_budget"] = limit
        self.body["thinking"] = thinking

    def _rest(self, chat: ChatRequest) -> None:
        asked = self._asked
        self.body |= {name: chat.fields[name] for name in _NATIVE if name in asked.unread}
        if self._documents:
            given = self.body.get("documents")
            own = given if isinstance(given, list) else []
            self.body["documents"] = [*own, *self._documents]
        lost = {
            "user": asked.user is not None,
            "metadata": bool(asked.metadata),
            "modalities": bool(set(asked.modalities) - {"text"}),
            "web_search_options": asked.web_search is not None,
            "service_tier": asked.service_tier not in {None, "auto"},
            "verbosity": asked.verbosity is not None,
        }
        self.notes += [name for name, given in lost.items() if given]
        self.notes += [name for name in asked.unread if name not in _NATIVE]


def _result(block: ToolResult) -> Json:
    for part in block.content:
        if not isinstance(part, Text):
            raise _refusal(part.param, "Cohere takes text only as the result of a tool")
    return {"role": "tool", "tool_call_id": block.id, "content": block.text or _EMPTY}


def _call(block: ToolUse) -> Json:
    function: JsonObject = {
        "name": block.name,
        "arguments": codec.dumps(block.arguments).decode(),
    }
    return {"id": block.id, "type": "function", "function": function}


def _tool(tool: Tool) -> Json:
    function: JsonObject = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = tool.parameters or _NO_PARAMETERS
    return {"type": "function", "function": function}


def _address(block: Image) -> str:
    match block.source:
        case Inline(media_type=media_type, data=data):
            return f"data:{media_type};base64,{data}"
        case Remote(url=url) if not url.lower().startswith("gs:"):
            return url
        case Remote():
            raise _refusal(block.param, "Cohere fetches http and https only")


def _document(file: File) -> Json:
    """A text file as one of the documents the answer may cite."""
    said = "Cohere takes text files only, as data URIs"
    if not isinstance(file.source, Inline) or not file.source.media_type.startswith("text/"):
        raise _refusal(file.param, said)
    try:
        text = base64.b64decode(file.source.data, validate=True).decode()
    except ValueError:  # neither base64 nor UTF-8
        raise _refusal(file.param, said) from None
    return {"data": {"title": file.filename or "document", "text": text}}


def _refusal(param: str, said: str) -> ApiError:
    return ApiError(400, said, code="unsupported_value", param=param)


def _requiring(schema: Json) -> Json:
    """The schema with something required in every object, which Cohere insists on."""
    match schema:
        case list(each):
            return [_requiring(one) for one in each]
        case dict():
            made: JsonObject = {name: _requiring(value) for name, value in schema.items()}
            named = schema.get("properties")
            if schema.get("type") == "object" and isinstance(named, dict) and named:
                made["required"] = schema.get("required") or list[Json](named)
            return made
        case _:
            return schema
