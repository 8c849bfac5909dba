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
    Tool,
    ToolUse,
)
from uniapi.engines.anthropic_models import Family
from uniapi.engines.anthropic_schema import closed
from uniapi.engines.anthropic_thinking import plan, sampling
from uniapi.engines.base import Media
from uniapi.engines.bedrock_blocks import Messages, cache_point
from uniapi.engines.bedrock_models import Model, gpt_oss_effort
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
        self._infer()
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
                self._check_force()
                config["toolChoice"] = {"any": {}}
            case NamedTool(name=name):
                self._check_force()
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

    def _check_force(self) -> None:
        rules = self._model.claude
        if rules is not None and not rules.forced:
            said = "this model cannot be forced to call a tool: use auto"
            raise ApiError(400, said, code="unsupported_value", param="tool_choice")

    def _used_tools(self) -> list[str]:
        """Names of the tools used in the history, in order, each once."""
        names = [
            block.name
            for turn in self._asked.turns
            for block in turn.blocks
            if isinstance(block, ToolUse)
        ]
        return list(dict.fromkeys(names))

    def _infer(self) -> None:
        """How long and how freely to think and speak."""
        asked = self._asked.sampling
        config: JsonObject = {}
        if asked.max_tokens is not None:
            config["maxTokens"] = asked.max_tokens
        if self._model.claude is not None:
            self._as_claude(self._model.claude, config)
        else:
            self._as_others(config)
        stops = [stop for stop in asked.stop if stop.strip()]  # blank ones are refused
        if stops:
            config["stopSequences"] = list[Json](stops)
        if config:
            self.body["inferenceConfig"] = config
        lost = {
            "stop": len(stops) < len(asked.stop),
            "presence_penalty": asked.presence_penalty is not None,
            "frequency_penalty": asked.frequency_penalty is not None,
            "seed": asked.seed is not None,
            "logprobs": bool(asked.logprobs),
            "top_logprobs": asked.top_logprobs is not None,
            "n": (asked.n or 1) > 1,
        }
        self.notes += [name for name, given in lost.items() if given]

    def _as_claude(self, rules: Family, config: JsonObject) -> None:
        decided = plan(self._asked, rules)
        if "maxTokens" in config or decided.thinking is not None:
            config["maxTokens"] = decided.max_tokens
        if decided.thinking is not None:
            self._more["thinking"] = decided.thinking
        if decided.effort is not None:
            self._more["output_config"] = {"effort": decided.effort}
        kept, lost = sampling(self._asked, rules, thinking=decided.thinking is not None)
        for name, own in (("temperature", "temperature"), ("top_p", "topP")):
            if name in kept:
                config[own] = kept[name]
        if "top_k" in kept:
            self._more["top_k"] = kept["top_k"]
        self.notes += [*decided.notes, *lost]

    def _as_others(self, config: JsonObject) -> None:
        asked = self._asked
        for name, value in (
            ("temperature", asked.sampling.temperature),
            ("topP", asked.sampling.top_p),
        ):
            if value is not None:
                config[name] = min(max(value, 0), 1)
        self._top_k(asked.sampling.top_k)
        if asked.effort is not None and self._model.gpt_oss:
            self._more["reasoning_effort"] = gpt_oss_effort(asked.effort)
        elif asked.effort not in {None, "none"}:
            self.notes.append("reasoning_effort")
        elif asked.thinking_budget:
            self.notes.append("thinking")

    def _top_k(self, top_k: int | None) -> None:
        if top_k is None:
            return
        if self._model.mistral:
            self._more["top_k"] = top_k
        elif self._model.nova:
            self._more["inferenceConfig"] = {"topK": top_k}
        else:
            self.notes.append("top_k")

    def _format(self) -> None:
        match self._asked.format:
            case SchemaFormat() as wanted:
                rules = self._model.claude
                enforced = closed(wanted.schema) if rules is not None and rules.structured else None
                if enforced is None:
                    words = codec.dumps(wanted.schema).decode()
                    said = f"{_JSON_ONLY} It must match this JSON Schema: {words}"
                    self.body["system"] = [{"text": said}]
                else:
                    self.body["outputConfig"] = {"textFormat": _text_format(wanted, enforced)}
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


def _text_format(wanted: SchemaFormat, schema: JsonObject) -> JsonObject:
    described: JsonObject = {"schema": codec.dumps(schema).decode(), "name": wanted.name}
    if wanted.description:
        described["description"] = wanted.description
    return {"type": "json_schema", "structure": {"jsonSchema": described}}
