"""A chat request in words every provider shares: what engines of a foreign dialect translate from.

OpenAI's messages allow the same thing to be said in many ways and leave out what others insist on.
Here each thing is said once: system texts stand apart, turns alternate, a tool's result carries
the tool's name and stands first in the turn after its call, data URIs are taken apart. The reading
is `read.conversation`; the values are frozen, and share the request's own JSON where
they hold any (schemas, cache hints), so nobody may change that either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from uniapi.codec import Json, JsonObject

Role: TypeAlias = Literal["user", "assistant"]
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


@dataclass(frozen=True, slots=True)
class Inline:
    """Media within the request.

    Attributes:
        media_type: as the data URI names it, in lower case, without parameters.
        data: base64, without line breaks; not verified.
    """

    media_type: str
    data: str


@dataclass(frozen=True, slots=True)
class Remote:
    """Media behind an address: http, https or gs."""

    url: str


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file the provider was given before; the id means something to that provider alone."""

    file_id: str


@dataclass(frozen=True, slots=True)
class Text:
    """Text, never empty, but perhaps blank.

    Attributes:
        text: as it came.
        cache: the part's `cache_control` as it came: a prompt-cache hint.
        signature: Google's thought signature on an assistant's text.
    """

    text: str
    cache: JsonObject | None = None
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """A picture.

    Attributes:
        source: the bytes or their address.
        detail: `auto`, `low` or `high`, when given.
        cache: as in `Text`.
        param: where it stands in the request, for an engine that must refuse it.
    """

    source: Inline | Remote
    detail: str | None = None
    cache: JsonObject | None = None
    param: str = "messages"


@dataclass(frozen=True, slots=True)
class Audio:
    """Sound: base64 and its format, such as `wav` or `mp3`; `param` as in `Image`."""

    data: str
    format: str
    cache: JsonObject | None = None
    param: str = "messages"


@dataclass(frozen=True, slots=True)
class File:
    """A document (`file`) or a film (`video_url`); `cache` and `param` as in `Image`."""

    source: Inline | Remote | Uploaded
    filename: str | None = None
    cache: JsonObject | None = None
    param: str = "messages"


@dataclass(frozen=True, slots=True)
class Thinking:
    """What the assistant thought, sent back by a client that kept it.

    Attributes:
        text: the thought, or a summary of it; empty for a sealed one.
        signature: the provider's proof that it is its own; a thought without is not worth sending
            to a provider that asks for proofs.
        sealed: the encrypted thought, where the provider hid it (`redacted_thinking`).
        format: whose proof it is, in OpenRouter's words (`anthropic-claude-v1`,
            `google-gemini-v1`); empty when not told.
    """

    text: str = ""
    signature: str | None = None
    sealed: str | None = None
    format: str = ""


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call the assistant made.

    Attributes:
        id: as the client has it; unique within its turn in a sound history.
        name: the function.
        arguments: the parsed arguments. A model may have written what is no JSON object, and the
            client can do nothing but send it back: such text is kept under the key `_raw`, since
            refusing it would end the conversation for good and `{}` would be a lie.
        cache: as in `Text`.
        signature: Google's thought signature, from `extra_content.google.thought_signature`.
    """

    id: str
    name: str
    arguments: JsonObject = field(default_factory=dict)
    cache: JsonObject | None = None
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered; always in the turn right after its call, before everything else.

    Attributes:
        id: the call's.
        name: the call's, found in the history.
        content: in order; empty for an empty answer.
        cache: as in `Text`.
    """

    id: str
    name: str
    content: tuple[ResultBlock, ...] = ()
    cache: JsonObject | None = None

    @property
    def text(self) -> str:
        """The text of the content, its parts joined by line breaks."""
        return "\n".join(block.text for block in self.content if isinstance(block, Text))


@dataclass(frozen=True, slots=True)
class Refusal:
    """The assistant declined, in these words."""

    text: str


Block: TypeAlias = Text | Image | Audio | File | Thinking | ToolUse | ToolResult | Refusal
ResultBlock: TypeAlias = Text | Image | Audio | File


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side said, up to the other's next word.

    Attributes:
        role: user turns hold ToolResult (first), Text, Image, Audio, File; assistant turns hold
            Thinking (first), Text, Refusal, Image, Audio, File and ToolUse (last).
        blocks: at least one.
    """

    role: Role
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call.

    Attributes:
        name: its name.
        description: empty when not given.
        parameters: a JSON Schema as it came; None when not given.
        strict: whether arguments must match the schema; None when not given.
        cache: as in `Text`.
    """

    name: str
    description: str = ""
    parameters: JsonObject | None = None
    strict: bool | None = None
    cache: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class NativeTool:
    """An entry of `tools` that is no function: one provider's own tool, or nobody's.

    Attributes:
        fields: as it came; `type` is usually there.
        param: where it stands, for the engine that does not know it and refuses.
    """

    fields: JsonObject
    param: str


@dataclass(frozen=True, slots=True)
class NamedTool:
    """`tool_choice` that names the one function to call."""

    name: str


ToolChoice: TypeAlias = Literal["auto", "none", "required"] | NamedTool


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """`response_format` json_object."""


@dataclass(frozen=True, slots=True)
class SchemaFormat:
    """`response_format` json_schema.

    Attributes:
        name: `answer` when the client gave none.
        schema: a JSON Schema as it came.
        strict: None when not given.
        description: empty when not given.
    """

    name: str
    schema: JsonObject
    strict: bool | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How words are drawn and where the answer ends; None or empty is the provider's default.

    Attributes:
        max_tokens: `max_completion_tokens`, else `max_tokens`.
        stop: never holds an empty string.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    n: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A chat request, canonical.

    Attributes:
        system: system and developer texts wherever they stood, in order.
        turns: alternating, results gathered; empty when there were system messages only.
        tools: functions, in order.
        natives: the other entries of `tools`.
        tool_choice: None when not given.
        parallel_tool_calls: None when not given.
        format: None for plain text.
        sampling: how words are drawn.
        effort: `reasoning_effort`, or what `reasoning` or `thinking` say in its place.
        thinking_budget: tokens, when the client gave a number (`thinking.budget_tokens`,
            `reasoning.max_tokens`).
        user: the end user's id, as `user` or `safety_identifier` name it.
        metadata: as it came.
        modalities: kinds of output asked for; empty for the default.
        web_search: `web_search_options` as it came; None when not given.
        service_tier: None when not given.
        verbosity: None when not given.
        unread: names of request fields that have no place here, for the log.
    """

    system: tuple[Text, ...] = ()
    turns: tuple[Turn, ...] = ()
    tools: tuple[Tool, ...] = ()
    natives: tuple[NativeTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    format: JsonFormat | SchemaFormat | None = None
    sampling: Sampling = field(default_factory=Sampling)
    effort: Effort | None = None
    thinking_budget: int | None = None
    user: str | None = None
    metadata: dict[str, Json] = field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    web_search: JsonObject | None = None
    service_tier: str | None = None
    verbosity: str | None = None
    unread: tuple[str, ...] = ()

    @property
    def system_text(self) -> str:
        """The system texts as one, a blank line between them."""
        return "\n\n".join(part.text for part in self.system)
