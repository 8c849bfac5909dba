"""What Gemini is asked: every field of the request finds its word, or is named as left out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kit.gemini import CLOUD, STUDIO, ask, body, config
from uniapi import codec
from uniapi.config.types import Provider, ProviderPreferences
from uniapi.errors import ApiError

FIND: Any = {"type": "function", "function": {"name": "find"}}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, None),
        ({"max_tokens": 9}, {"maxOutputTokens": 9}),
        ({"max_tokens": 9, "max_completion_tokens": 8}, {"maxOutputTokens": 8}),
        ({"max_tokens": 1_000_000}, {"maxOutputTokens": 65_535}),
        ({"max_tokens": 9000, "model": "gemini-2.0-flash-lite"}, {"maxOutputTokens": 8192}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"temperature": 3}, {"temperature": 2.0}),
        ({"top_p": 0.5, "top_k": 40}, {"topP": 0.5, "topK": 40}),
        ({"stop": "a"}, {"stopSequences": ["a"]}),
        ({"stop": ["a", "b", ""]}, {"stopSequences": ["a", "b"]}),
        ({"seed": 3}, {"seed": 3}),
        ({"n": 1}, None),
        ({"n": 3}, {"candidateCount": 3}),
        ({"presence_penalty": 0, "frequency_penalty": 0.0}, None),
        (
            {"presence_penalty": 2, "frequency_penalty": -3},
            {"presencePenalty": 1.99, "frequencyPenalty": -2.0},
        ),
        ({"logprobs": True}, {"responseLogprobs": True}),
        ({"logprobs": True, "top_logprobs": 3}, {"responseLogprobs": True, "logprobs": 3}),
        ({"logprobs": False}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"modalities": ["text"]}, None),
        ({"modalities": ["image"]}, {"responseModalities": ["IMAGE"]}),
    ],
)
def test_sampling_has_its_words(fields: dict[str, Any], said: Any) -> None:
    assert config(**fields) == said


def test_a_voice_of_googles_is_kept_and_openais_become_one_there_is() -> None:
    def voice(name: str) -> Any:
        said = config(modalities=["audio", "text"], audio={"voice": name, "format": "pcm16"})
        assert said["responseModalities"] == ["AUDIO"]
        return said["speechConfig"]["voiceConfig"]["prebuiltVoiceConfig"]["voiceName"]

    assert voice("Puck") == "Puck"
    assert voice("nova") == "Kore"


@pytest.mark.parametrize(
    ("model", "fields", "said"),
    [
        ("gemini-2.5-pro", {"reasoning_effort": "none"}, (128, False)),
        ("gemini-2.5-pro", {"reasoning_effort": "minimal"}, (1024, True)),
        ("gemini-2.5-pro", {"reasoning_effort": "low"}, (1024, True)),
        ("gemini-2.5-pro", {"reasoning_effort": "medium"}, (8192, True)),
        ("gemini-2.5-pro", {"reasoning_effort": "high"}, (24576, True)),
        ("gemini-2.5-pro", {"reasoning_effort": "xhigh"}, (32768, True)),
        ("gemini-2.5-flash", {"reasoning_effort": "none"}, (0, False)),
        ("gemini-2.5-flash", {"reasoning_effort": "xhigh"}, (24576, True)),
        (
            "gemini-2.5-flash-lite",
            {"thinking": {"type": "enabled", "budget_tokens": 9}},
            (512, True),
        ),
        ("gemini-2.5-flash-lite", {"reasoning_effort": "none"}, (0, False)),
        ("gemini-2.5-flash-lite", {"reasoning": {"max_tokens": 99999}}, (24576, True)),
        ("gemini-2.5-pro", {"reasoning": {"max_tokens": 1}}, (128, True)),
        ("gemini-flash-latest", {"reasoning_effort": "low"}, (1024, True)),
        ("gemini-3-pro-preview", {"reasoning_effort": "none"}, ("low", False)),
        ("gemini-3-pro-preview", {"reasoning_effort": "minimal"}, ("low", True)),
        ("gemini-3-pro-preview", {"reasoning_effort": "medium"}, ("high", True)),
        ("gemini-3-pro-preview", {"reasoning_effort": "high"}, ("high", True)),
        ("gemini-3-flash-preview", {"reasoning_effort": "none"}, ("minimal", False)),
        ("gemini-3-flash-preview", {"reasoning_effort": "minimal"}, ("minimal", True)),
        ("gemini-3-flash-preview", {"reasoning_effort": "medium"}, ("medium", True)),
        ("gemini-3.1-flash-lite", {"reasoning_effort": "xhigh"}, ("high", True)),
        ("gemini-3-flash-preview", {"reasoning": {"max_tokens": 2000}}, ("low", True)),
        ("gemini-3-flash-preview", {"reasoning": {"max_tokens": 8192}}, ("medium", True)),
        ("gemini-3-pro-preview", {"reasoning": {"max_tokens": 32000}}, ("high", True)),
    ],
)
def test_effort_becomes_a_budget_or_a_level_by_family(
    model: str, fields: dict[str, Any], said: tuple[Any, bool]
) -> None:
    amount, shown = said
    name = "thinkingLevel" if isinstance(amount, str) else "thinkingBudget"
    assert config(model=model, **fields) == {
        "thinkingConfig": {name: amount, "includeThoughts": shown}
    }


@pytest.mark.parametrize(
    "model",
    [
        "gemini-1.5-pro",
        "gemini-2.0-flash-thinking-exp",
        "gemini-2.5-flash-image",
        "gemini-2.5-pro-preview-tts",
        "gemma-3-27b-it",
    ],
)
def test_a_model_that_does_not_think_is_not_asked_to(model: str) -> None:
    call = ask(model=model, reasoning_effort="high")
    assert b"thinkingConfig" not in call.body
    assert call.notes == ("reasoning_effort",)


def test_what_gemini_has_no_word_for_is_named_and_not_sent() -> None:
    call = ask(
        user="u",
        metadata={"a": "b"},
        parallel_tool_calls=False,
        service_tier="flex",
        verbosity="low",
        logit_bias={"1": 1},
        prediction={"type": "content", "content": "x"},
        made_up=1,
        tool_choice="auto",
        top_logprobs=2,
        audio={"voice": "nova"},
        stream_options={"include_usage": True},
    )
    assert set(call.notes) == {
        *("user", "metadata", "parallel_tool_calls", "service_tier", "verbosity", "logit_bias"),
        *("prediction", "made_up", "tool_choice", "top_logprobs", "audio"),
    }
    assert codec.loads(call.body) == {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}


def test_more_stop_sequences_than_gemini_takes_are_refused_by_name() -> None:
    with pytest.raises(ApiError) as raised:
        ask(stop=list("abcdef"))
    assert (raised.value.status, raised.value.param) == (400, "stop")


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (
            {"type": "function", "function": {"name": "find"}},
            {"mode": "ANY", "allowedFunctionNames": ["find"]},
        ),
    ],
)
def test_a_tool_choice_has_its_mode(choice: Any, said: Any) -> None:
    made = body(tools=[FIND], tool_choice=choice)
    assert made["toolConfig"] == {"functionCallingConfig": said}
    assert made["tools"] == [{"functionDeclarations": [{"name": "find"}]}]


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ({"google_search": {}}, {"googleSearch": {}}),
        ({"googleSearch": {"x": 1}}, {"googleSearch": {"x": 1}}),
        ({"type": "web_search_preview"}, {"googleSearch": {}}),
        ({"type": "code_interpreter", "container": {}}, {"codeExecution": {}}),
        ({"type": "url_context"}, {"urlContext": {}}),
    ],
)
def test_googles_own_tools_are_known_by_several_names(tool: Any, said: Any) -> None:
    assert body(tools=[tool])["tools"] == [said]


def test_search_by_option_yields_to_functions_and_says_so() -> None:
    assert body(web_search_options={})["tools"] == [{"googleSearch": {}}]
    call = ask(web_search_options={}, tools=[FIND])
    assert b"googleSearch" not in call.body
    assert call.notes == ("web_search_options",)


@pytest.mark.parametrize("provider", [STUDIO, CLOUD])
def test_a_model_renamed_to_search_searches(provider: Provider) -> None:
    def tools(model: str, name: str) -> Any:
        return body(model=model, name=name, provider=provider).get("tools")

    assert tools("gemini-2.5-pro", "gemini-2.5-pro-search") == [{"googleSearch": {}}]
    assert tools("gemini-1.5-pro", "gemini-1.5-pro-search") == [{"googleSearchRetrieval": {}}]
    assert tools("gemini-x-search", "gemini-x-search") is None
    assert tools("gemini-2.5-pro", "gemini-2.5-pro") is None


def test_a_schema_goes_as_it_is_where_it_can_and_cut_down_where_not() -> None:
    schema = {"type": "object", "properties": {"a": {"const": "x"}}, "additionalProperties": False}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    assert config(response_format=wanted)["responseJsonSchema"] == schema
    cut = {"type": "object", "properties": {"a": {"type": "string", "enum": ["x"]}}}
    old = config(model="gemini-2.0-flash", response_format=wanted)
    assert old == {"responseMimeType": "application/json", "responseSchema": cut}
    first = Provider("g", base_url="https://generativelanguage.googleapis.com/v1")
    assert config(provider=first, response_format=wanted)["responseSchema"] == cut
    function = {"type": "function", "function": {"name": "f", "parameters": schema}}
    declared = body(tools=[function])["tools"][0]["functionDeclarations"]
    assert declared == [{"name": "f", "parametersJsonSchema": schema}]
    declared = body(provider=first, tools=[function])["tools"][0]["functionDeclarations"]
    assert declared == [{"name": "f", "parameters": cut}]


def test_the_wish_to_stream_is_in_the_address_and_an_override_moves_it() -> None:
    streams = ask(stream=True)
    assert streams.url.endswith(":streamGenerateContent?alt=sse")
    assert streams.framing == "sse"
    whole = ask()
    assert whole.url.endswith(":generateContent")
    assert whole.framing == "json"
    overridden = Provider(
        "g",
        base_url=STUDIO.base_url,
        preferences=ProviderPreferences(post_body_parameter_overrides={"stream": True}),
    )
    assert ask(provider=overridden).framing == "sse"
    assert b'"stream"' not in ask(provider=overridden).body
    assert ask(model="gemini-2.5-flash-preview-tts", stream=True).framing == "json"


@pytest.mark.parametrize(
    ("model", "where"),
    [
        ("gemini-x", "models/gemini-x"),
        ("models/gemini-x", "models/gemini-x"),
        ("tunedModels/mine", "tunedModels/mine"),
        ("a?b#c", "models/a%3Fb%23c"),
    ],
)
def test_a_models_name_is_a_place_below_the_address(model: str, where: str) -> None:
    root = "https://generativelanguage.googleapis.com/v1beta"
    assert ask(model=model).url == f"{root}/{where}:generateContent"


@pytest.mark.parametrize(
    "base_url",
    [
        "https://generativelanguage.googleapis.com",
        "https://generativelanguage.googleapis.com/",
        "https://generativelanguage.googleapis.com/v1beta/",
        "https://generativelanguage.googleapis.com/v1beta/models",
        "https://generativelanguage.googleapis.com/v1beta/models/",
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-pro:generateContent",
    ],
)
def test_an_address_is_understood_however_far_it_was_written(base_url: str) -> None:
    url = ask(provider=Provider("g", base_url=base_url)).url
    root = "https://generativelanguage.googleapis.com/v1beta"
    assert url == f"{root}/models/gemini-2.5-flash:generateContent"
