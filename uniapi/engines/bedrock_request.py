"""A chat request as the body of a Converse call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from uniapi import codec
from uniapi.chat import ChatRequest
from uniapi.codec import Json, JsonObject
from uniapi.conversation import (
    Conversation,
    JsonFormat,
    NamedTool,
    SchemaFormat,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
)
from uniapi.engines.base import Media
from uniapi.engines.bedrock_blocks import Messages, cache_point
from uniapi.engines.bedrock_models import Model, budget
from uniapi.errors import ApiError

# Converse's own fields, which a client that knows them may send beside OpenAI's.
_NATIVE: Final = (
    "guardrailConfig",
    "performanceConfig",
    "requestMetadata",
    "promptVariables",
    "additionalModelRequestFields",
    "additionalModelResponseFieldPaths",
)
_ANSWER: Final = 8192  # tokens left for the answer when the thinking needs a limit and none came
_TIERS: Final = frozenset({"default", "flex", "priority"})
_NO_PARAMETERS: Final[JsonObject] = {"type": "object", "properties": {}}
_JSON_ONLY: Final = "Answer with one JSON object and nothing else: no prose, no code fence."


class Request:
    """Builds one body.

    Attributes:
        body: Converse's JSON.
        notes: names of request fields left out.
    """

    def __init__(
        self,
        chat: ChatRequest,
        conversation: Conversation,
        model: Model,
        media: Mapping[str, Media],
    ) -> None:
        """Build it.

        Raises:
            ApiError: 400 naming the parameter, for what Converse cannot do.
        """
        self.notes: list[str] = []
        self._asked = conversation
        self._model = model
        self._more: JsonObject = {}  # additionalModelRequestFields
        for native in conversation.natives:
            said = "Bedrock takes function tools only"
            raise ApiError(400, said, code="unsupported_value", param=native.param)
        messages = Messages(model, media)
        self.body: JsonObject = {"messages": messages.write(conversation.turns)}
        self.notes += messages.notes
        self._tools()
        thinking = self._think()
        self._sample(thinking=thinking)
        self._format()
        self._system()
        self._rest(chat)

    def _system(self) -> None:
        content: list[Json] = []
        for part in self._asked.system:
            if not part.text.strip():
                continue
            content.append({"text": part.text})
            if part.cache is not None:
                self._cache(content, part.cache)
        own = self.body.pop("system", None)  # what `_format` has to say
        content += own if isinstance(own, list) else []
        if content:
            self.body["system"] = content

    def _cache(self, content: list[Json], hint: JsonObject) -> None:
        if self._model.caches:
            content.append(cache_point(hint, self._model))
        else:
            self.notes.append("cache_control")

    def _tools(self) -> None:
        asked = self._asked
        used = self._used_tools()
        tools = asked.tools
        if asked.tool_choice == "none":
            # There is no such choice: the tools go, unless the history needs them declared.
            tools = tuple(tool for tool in tools if tool.name in used)
        declared = {tool.name for tool in tools}
        # Converse wants tools declared whenever the history uses some.
        tools += tuple(Tool(name) for name in used if not declared)
        if not tools:
            return
        written: list[Json] = []
        for tool in tools:
            written.append(_tool(tool))
            if tool.cache is not None:
                self._cache(written, tool.cache)
        config: JsonObject = {"tools": written}
        match asked.tool_choice:
            case "required" if asked.tools:
                config["toolChoice"] = {"any": {}}
            case NamedTool(name=name):
                config["toolChoice"] = {"tool": {"name": name}}
            case "none":
                self.notes.append("tool_choice")
            case _:
                pass  # auto is the default, and some models refuse the field
        self.body["toolConfig"] = config
        if asked.parallel_tool_calls is False:
            self.notes.append("parallel_tool_calls")
        if any(tool.strict for tool in tools):
            self.notes.append("tools[].function.strict")

    def _used_tools(self) -> list[str]:
        """Names of the tools used in the history, in order, each once."""
        names = [
            block.name
            for turn in self._asked.turns
            for block in turn.blocks
            if isinstance(block, ToolUse)
        ]
        return list(dict.fromkeys(names))

    def _think(self) -> int:
        """Ask for thinking; the tokens set aside for it, -1 when it sets its own measure."""
        asked, model = self._asked, self._model
        tokens = budget(asked.effort, asked.thinking_budget)
        if asked.effort is not None and model.gpt_oss:
            self._more["reasoning_effort"] = model.effort(asked.effort)
            return 0
        if not tokens:
            return 0
        name = "reasoning_effort" if asked.effort is not None else "thinking"
        if not model.thinks or self._resumes_without_thoughts():
            self.notes.append(name)
            return 0
        if model.adaptive and (model.fixed or asked.thinking_budget is None):
            self._more["thinking"] = {"type": "adaptive"}
            if asked.effort is not None:
                self._more["output_config"] = {"effort": model.effort(asked.effort)}
            return -1
        if self.body.get("toolConfig") and asked.tool_choice not in {None, "auto", "none"}:
            self.notes.append(name)  # a forced tool and a thinking budget exclude each other
            return 0
        self._more["thinking"] = {"type": "enabled", "budget_tokens": tokens}
        return tokens

    def _resumes_without_thoughts(self) -> bool:
        """Whether a tool's result is answered whose call has lost the thoughts before it.

        Claude refuses to think on then.
        """
        turns = self._asked.turns
        if len(turns) < 2 or not any(isinstance(b, ToolResult) for b in turns[-1].blocks):
            return False
        return not any(
            isinstance(block, Thinking) and (block.signature or block.sealed)
            for block in turns[-2].blocks
        )

    def _sample(self, *, thinking: int) -> None:
        asked = self._asked.sampling
        config: JsonObject = {}
        limit = asked.max_tokens
        if thinking > 0 and (limit is None or limit <= thinking):
            limit = (limit or _ANSWER) + thinking
        if limit is not None:
            config["maxTokens"] = limit
        if self._model.fixed or thinking:
            # Claude thinks at its own temperature.
            self._leave_out("temperature", "top_p", "top_k")
        else:
            self._draw(config)
        stops = [stop for stop in asked.stop if stop.strip()]  # blank ones are refused
        if len(stops) < len(asked.stop):
            self.notes.append("stop")
        if stops:
            config["stopSequences"] = list[Json](stops)
        if config:
            self.body["inferenceConfig"] = config
        self._leave_out("presence_penalty", "frequency_penalty", "seed", "logprobs", "top_logprobs")
        if (asked.n or 1) > 1:
            self.notes.append("n")

    def _draw(self, config: JsonObject) -> None:
        asked = self._asked.sampling
        if asked.temperature is not None:
            config["temperature"] = min(max(asked.temperature, 0), 1)
        if asked.top_p is not None:
            if self._model.one_sampler and asked.temperature is not None:
                self.notes.append("top_p")
            else:
                config["topP"] = min(max(asked.top_p, 0), 1)
        self._top_k(asked.top_k)

    def _leave_out(self, *names: str) -> None:
        asked = self._asked.sampling
        given = {
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "top_k": asked.top_k,
            "presence_penalty": asked.presence_penalty,
            "frequency_penalty": asked.frequency_penalty,
            "seed": asked.seed,
            "logprobs": asked.logprobs or None,
            "top_logprobs": asked.top_logprobs,
        }
        self.notes += [name for name in names if given[name] is not None]

    def _top_k(self, top_k: int | None) -> None:
        if top_k is None:
            return
        if self._model.claude or self._model.mistral:
            self._more["top_k"] = top_k
        elif self._model.nova:
            self._more["inferenceConfig"] = {"topK": top_k}
        else:
            self.notes.append("top_k")

    def _format(self) -> None:
        match self._asked.format:
            case SchemaFormat() as wanted if self._model.schemas:
                schema: JsonObject = {
                    "schema": codec.dumps(closed(wanted.schema)).decode(),
                    "name": wanted.name,
                }
                if wanted.description:
                    schema["description"] = wanted.description
                self.body["outputConfig"] = {
                    "textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}
                }
            case SchemaFormat() as wanted:
                schema_text = codec.dumps(wanted.schema).decode()
                said = f"{_JSON_ONLY} It must match this JSON Schema: {schema_text}"
                self.body["system"] = [{"text": said}]
            case JsonFormat():
                self.body["system"] = [{"text": _JSON_ONLY}]
            case None:
                pass

    def _rest(self, chat: ChatRequest) -> None:
        asked = self._asked
        if asked.service_tier in _TIERS:
            self.body["serviceTier"] = {"type": asked.service_tier}
        elif asked.service_tier not in {None, "auto"}:
            self.notes.append("service_tier")
        lost = {
            "user": asked.user is not None,
            "metadata": bool(asked.metadata),
            "modalities": bool(set(asked.modalities) - {"text"}),
            "web_search_options": asked.web_search is not None,
            "verbosity": asked.verbosity is not None,
        }
        self.notes += [name for name, given in lost.items() if given]
        self.notes += [name for name in asked.unread if name not in _NATIVE]
        own = chat.fields.get("additionalModelRequestFields")
        more: JsonObject = {**self._more, **(own if isinstance(own, dict) else {})}
        self.body |= {name: chat.fields[name] for name in _NATIVE if chat.fields.get(name)}
        if more:
            self.body["additionalModelRequestFields"] = more


def _tool(tool: Tool) -> Json:
    spec: JsonObject = {"name": tool.name}
    if tool.description.strip():
        spec["description"] = tool.description
    spec["inputSchema"] = {"json": tool.parameters or _NO_PARAMETERS}
    return {"toolSpec": spec}


def closed(schema: Json) -> Json:
    """The schema with every object closed to properties it does not name, as Claude wants it."""
    match schema:
        case list(each):
            return [closed(one) for one in each]
        case dict():
            made: JsonObject = {name: closed(value) for name, value in schema.items()}
            if schema.get("type") == "object":
                made["additionalProperties"] = False
            return made
        case _:
            return schema
