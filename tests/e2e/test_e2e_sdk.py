"""The official openai SDK against the gateway as a process."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.e2e.conftest import Site
from tests.e2e.running import KEY
from uniapi.demo import SIXTY

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
TOOLS: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]


@pytest.fixture
def client(site: Site) -> openai.OpenAI:
    return openai.OpenAI(api_key=KEY, base_url=f"{site.url}/v1", max_retries=0, timeout=10)


@pytest.fixture
def async_client(site: Site) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=KEY, base_url=f"{site.url}/v1", max_retries=0, timeout=10)


def test_an_answer_comes_whole(client: openai.OpenAI) -> None:
    with client:
        answer = client.chat.completions.create(model="ok", messages=MESSAGES)
    assert answer.choices[0].message.content == SIXTY
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 60


def test_an_answer_streams_with_its_usage(client: openai.OpenAI) -> None:
    with client:
        chunks = list(
            client.chat.completions.create(
                model="ok", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
        )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == SIXTY
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 60


def test_without_asking_there_is_no_usage_chunk(client: openai.OpenAI) -> None:
    with client:
        for chunk in client.chat.completions.create(model="ok", messages=MESSAGES, stream=True):
            assert chunk.choices, "clients index the first choice"
            assert chunk.usage is None


def test_parallel_tool_calls_come_whole_and_streamed_alike(client: openai.OpenAI) -> None:
    wanted = [
        ("get_weather", '{"city":"Oslo","days":3}'),
        ("get_weather", '{"city":"Bergen","days":3}'),
    ]
    with client:
        whole = client.chat.completions.create(model="tools", messages=MESSAGES, tools=TOOLS)
        with client.chat.completions.stream(
            model="tools", messages=MESSAGES, tools=TOOLS
        ) as stream:
            streamed = stream.get_final_completion()
    for answer in (whole, streamed):
        assert answer.choices[0].finish_reason == "tool_calls"
        calls = answer.choices[0].message.tool_calls or []
        told = [(c.function.name, c.function.arguments) for c in calls if c.type == "function"]
        assert told == wanted
        assert len({call.id for call in calls}) == 2


def test_models_are_listed_and_told(client: openai.OpenAI) -> None:
    with client:
        names = [model.id for model in client.models.list()]
        assert names[:3] == ["ok", "tools", "reasoning"]
        assert client.models.retrieve("thinking").id == "thinking"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nothing")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("model", "error", "status"),
    [
        ("nothing", openai.NotFoundError, 404),
        ("bad", openai.BadRequestError, 400),
        ("busy", openai.RateLimitError, 429),
        ("broken", openai.InternalServerError, 500),
    ],
)
def test_each_cause_has_its_exception(
    client: openai.OpenAI,
    model: str,
    error: type[openai.APIStatusError],
    status: int,
    *,
    stream: bool,
) -> None:
    with client, pytest.raises(error) as raised:
        client.chat.completions.create(model=model, messages=MESSAGES, stream=stream)
    assert raised.value.status_code == status
    assert raised.value.request_id
    match raised.value.body:
        case {"message": str(), "type": str(), "param": _, "code": _}:
            pass
        case other:
            raise AssertionError(other)


def test_an_unknown_model_says_so_in_its_code(client: openai.OpenAI) -> None:
    with client, pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="nothing", messages=MESSAGES)
    assert raised.value.code == "model_not_found"


def test_a_wrong_key_is_an_authentication_error(site: Site) -> None:
    with (
        openai.OpenAI(api_key="sk-wrong", base_url=f"{site.url}/v1", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as raised,
    ):
        client.models.list()
    assert raised.value.code == "invalid_api_key"


def test_a_malformed_request_is_an_unprocessable_entity(client: openai.OpenAI) -> None:
    with client, pytest.raises(openai.UnprocessableEntityError) as raised:
        client.chat.completions.create(model="ok", messages=[])
    assert raised.value.param == "messages"


def test_a_stream_that_breaks_raises_in_its_middle(client: openai.OpenAI) -> None:
    got: list[str] = []

    def listen() -> None:
        for chunk in client.chat.completions.create(model="cut", messages=MESSAGES, stream=True):
            got.extend(choice.delta.content or "" for choice in chunk.choices)

    with client, pytest.raises(openai.APIError):
        listen()
    assert "".join(got) == " ".join(SIXTY.split()[:3])


def test_the_raw_response_has_the_trail(client: openai.OpenAI) -> None:
    with client:
        raw = client.chat.completions.with_raw_response.create(model="f-500", messages=MESSAGES)
    trail = raw.headers["x-uniapi-attempts"]
    assert trail.startswith("first/status-500;server_error;status=500;")
    assert ", second/ok;ok;" in trail
    assert raw.headers["x-request-id"].startswith("req-")


# The SDK stops reading at [DONE] and leaves its own generators to the collector.
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
async def test_the_async_client_streams_lists_and_raises(
    async_client: openai.AsyncOpenAI,
) -> None:
    async with async_client as client:
        whole = await client.chat.completions.create(model="ok", messages=MESSAGES)
        assert whole.choices[0].message.content == SIXTY
        stream = await client.chat.completions.create(model="ok", messages=MESSAGES, stream=True)
        parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
        assert "".join(parts) == SIXTY
        names = [model.id async for model in client.models.list()]
        assert "thinking" in names
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model="busy", messages=MESSAGES)
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="nothing", messages=MESSAGES)
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="broken", messages=MESSAGES)
