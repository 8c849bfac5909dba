"""Every provider on its own wire, the gateway as a process between, the openai SDK as the client.

What the SDK makes of each recorded answer is what the case's folder says, streamed and whole; the
provider refuses every call that is not the case's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from tests.e2e.running import Process, running
from tests.kit.golden import NOW, Case, events_of, failed, named
from tests.kit.providers import Site, key_of, speaking
from tests.kit.variants import everywhere
from uniapi import codec
from uniapi.engines import registry
from uniapi.errors import Kind
from uniapi.events import StreamFailed


def fetches(case: Case) -> bool:
    """Whether the gateway fetches what the request points to: only from public addresses."""
    return bool(case.engine.needs(case.chat(), case.channel))


# OpenAI itself is known by its host; every other server gets the client's field as it came.
BY_HOST = {"gpt/new_family_limit"}
CASES = [case for case in everywhere() if case.name not in BY_HOST and not fetches(case)]
# An answer without a word is no answer here: the next channel would be asked.
SILENT = {"gemini/malformed-call"}


def has(case: Case, *names: str) -> bool:
    return all((case.folder / name).exists() for name in names)


CALLED = [case for case in CASES if has(case, "call.json")]
ANSWERED = [case for case in CALLED if case.status is None and case.name not in SILENT]
REFUSED = [case for case in CASES if has(case, "refused.json")]
TURNED_AWAY = [case for case in CALLED if case.status is not None]
WHOLE = [case for case in ANSWERED if case.body is not None and has(case, "answer.json")]
STREAMED = [case for case in ANSWERED if case.stream is not None]
ENGINES = {engine.names[0] for engine in registry.ENGINES}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with speaking(CASES) as site:
        yield site
    assert site.wrong == []


@pytest.fixture(scope="module")
def process(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("wires")
    config = Path(folder) / "api.yaml"
    config.write_bytes(codec.dumps(site.config()))
    config.chmod(0o600)
    with running(folder, "--port", "0", "--host", "127.0.0.1") as process:
        yield process


@pytest.fixture(scope="module")
def base(process: Process) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key="nobody", base_url=f"{process.url}/v1", max_retries=0, timeout=10
    ) as client:
        yield client


@pytest.fixture
def client(base: openai.OpenAI, case: Case) -> openai.OpenAI:
    """As whom this case alone may be asked."""
    return base.with_options(api_key=key_of(case))


def asked(case: Case) -> dict[str, Any]:
    """The case's request as arguments of the SDK, but for `stream`."""
    request = dict(case.ask["request"])
    request.pop("stream", None)
    return {
        "model": request.pop("model"),
        "messages": request.pop("messages"),
        "extra_body": request,
        "extra_headers": case.ask.get("passed", {}),
    }


def whole(client: openai.OpenAI, case: Case) -> Any:
    return client.chat.completions.create(stream=False, **asked(case))


def streamed(client: openai.OpenAI, case: Case) -> Iterator[ChatCompletionChunk]:
    chunks: Iterator[ChatCompletionChunk] = client.chat.completions.create(
        stream=True, **asked(case)
    )
    return chunks


def golden(case: Case) -> list[Any]:
    """The chunks that a client of this case gets, as its folder has them."""
    text = (case.folder / "answer.sse").read_text()
    data = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
    return [codec.loads(each) for each in data if each != "[DONE]"]


def joined(chunks: Sequence[ChatCompletionChunk]) -> Any:
    """What the SDK's own accumulator makes of a stream."""
    state = ChatCompletionStreamState()
    for chunk in chunks:
        state.handle_chunk(chunk)
    return state.current_completion_snapshot.to_dict()


MADE_UP = re.compile(r"(.*?)[a-z]*-?golden(.*)")


def comparable(answer: Any, expected: Any) -> Any:
    """The answer, with the ids that the gateway made up as they are in the other."""
    match answer, expected:
        case dict(), dict():
            told = {name: comparable(value, expected.get(name)) for name, value in answer.items()}
            if expected.get("created") == NOW:  # the clock's word for want of the provider's
                told["created"] = NOW
            return told
        case list(), list() if len(answer) == len(expected):
            return [comparable(*pair) for pair in zip(answer, expected, strict=True)]
        case str(), str() if found := MADE_UP.fullmatch(expected):
            before, after = map(re.escape, found.groups())
            return expected if re.fullmatch(f"{before}[0-9a-z-]+{after}", answer) else answer
        case _:
            return answer


def check_calls(message: Any, finish: str | None) -> None:
    calls = message.get("tool_calls") or []
    assert len({call["id"] for call in calls}) == len(calls)
    for call in calls:
        assert call["function"]["name"]
        if finish != "length":
            assert isinstance(codec.loads(call["function"]["arguments"]), dict)


@named(WHOLE)
def test_an_answer_comes_whole(client: openai.OpenAI, case: Case) -> None:
    answer = whole(client, case).to_dict()
    expected: Any = codec.loads((case.folder / "answer.json").read_bytes())
    assert comparable(answer, expected) == expected
    for choice in answer["choices"]:
        check_calls(choice["message"], choice["finish_reason"])


@named([case for case in STREAMED if has(case, "answer.json")])
def test_an_answer_streams(client: openai.OpenAI, case: Case) -> None:
    chunks = list(streamed(client, case))
    expected = joined([ChatCompletionChunk.model_validate(each) for each in golden(case)])
    answer = joined(chunks)
    assert comparable(answer, expected) == expected
    assert len({chunk.id for chunk in chunks}) == 1
    for choice in answer["choices"]:
        check_calls(choice["message"], choice["finish_reason"])
        finishes = [
            each.finish_reason
            for chunk in chunks
            for each in chunk.choices
            if each.index == choice["index"] and each.finish_reason
        ]
        assert finishes == [choice["finish_reason"]]
    options = case.ask["request"].get("stream_options") or {}
    for chunk in chunks:
        assert chunk.choices or (chunk.usage and options.get("include_usage"))


@named([case for case in ANSWERED if case.stream is None])
def test_a_call_whose_stream_is_not_recorded_is_the_case_s_all_the_same(
    client: openai.OpenAI, case: Case
) -> None:
    answer = joined(list(streamed(client, case)))
    assert answer["choices"][0]["finish_reason"] in {"stop", "length", "tool_calls"}


WITH_TOOLS = [
    case
    for case in STREAMED
    if has(case, "answer.json")
    and b'"tool_calls": [' in (case.folder / "answer.json").read_bytes()
    and b'"finish_reason": "tool_calls"' in (case.folder / "answer.json").read_bytes()
]


@named(WITH_TOOLS)
def test_the_accumulating_helper_reads_tool_calls(client: openai.OpenAI, case: Case) -> None:
    arguments = asked(case)
    tools = arguments["extra_body"].pop("tools", openai.NOT_GIVEN)
    with client.chat.completions.stream(tools=tools, **arguments) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion()
    (choice,) = final.choices
    expected: Any = codec.loads((case.folder / "answer.json").read_bytes())
    wanted = expected["choices"][0]["message"]["tool_calls"]
    calls = choice.message.tool_calls or []
    told = [[call.id, call.function.name, codec.loads(call.function.arguments)] for call in calls]
    called = [
        [each["id"], each["function"]["name"], codec.loads(each["function"]["arguments"])]
        for each in wanted
    ]
    assert comparable(told, called) == called
    # The SDK tells of one call less when the finish comes with several of them.
    names = [(place, each["function"]["name"]) for place, each in enumerate(wanted)]
    assert [(event.index, event.name) for event in done] in (names, names[:-1])
    assert done
    assert choice.finish_reason == "tool_calls"


@named([case for case in STREAMED if not has(case, "answer.json")])
def test_a_stream_that_breaks_is_an_error_and_no_answer(client: openai.OpenAI, case: Case) -> None:
    events = events_of(case.decode(case.stream or b"", upstream=True, client=True))
    assert failed(events)
    assert isinstance(broken := events[-1], StreamFailed)
    chunks: list[ChatCompletionChunk] = []
    with pytest.raises(openai.APIError) as caught:
        chunks.extend(streamed(client, case))
    assert broken.failure.message in caught.value.message
    assert not any(choice.finish_reason for chunk in chunks for choice in chunk.choices)
    if isinstance(caught.value, openai.APIStatusError):
        assert isinstance(caught.value, EXCEPTIONS[broken.failure.kind])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@named([case for case in CALLED if case.name in SILENT])
def test_an_answer_without_a_word_is_a_failure(
    client: openai.OpenAI, case: Case, *, stream: bool
) -> None:
    with pytest.raises(openai.InternalServerError, match="answered nothing") as caught:
        client.chat.completions.create(stream=stream, **asked(case))
    assert caught.value.status_code == 502


@named([case for case in ANSWERED if case.body is not None and not has(case, "answer.json")])
def test_an_error_under_200_is_an_error(client: openai.OpenAI, case: Case) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        whole(client, case)
    events = events_of(case.decode(case.body or b"", upstream=False, client=False))
    assert isinstance(broken := events[-1], StreamFailed)
    assert isinstance(caught.value, EXCEPTIONS[broken.failure.kind])
    assert broken.failure.message in caught.value.message


EXCEPTIONS: dict[Kind, type[openai.APIStatusError] | tuple[type[openai.APIStatusError], ...]] = {
    Kind.KEY: openai.InternalServerError,  # the gateway's key, not the client's
    Kind.QUOTA: (openai.InternalServerError, openai.RateLimitError),
    Kind.RATE_LIMIT: openai.RateLimitError,
    Kind.CONTEXT: openai.BadRequestError,
    Kind.POLICY: openai.BadRequestError,
    Kind.REQUEST: (
        openai.BadRequestError,
        openai.NotFoundError,
        openai.UnprocessableEntityError,
        openai.APIStatusError,  # 413 has no class of its own
    ),
    Kind.SERVER: openai.InternalServerError,
    Kind.GARBAGE: openai.InternalServerError,
    Kind.EMPTY: openai.InternalServerError,
    Kind.CUT: openai.InternalServerError,
}


@named(TURNED_AWAY)
def test_a_refusal_is_the_exception_it_means(client: openai.OpenAI, case: Case) -> None:
    stream = case.ask["request"].get("stream") is True
    status: Any = case.status
    failure = case.engine.failure(status["status"], status.get("headers", {}), case.body or b"")
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(stream=stream, **asked(case))
    error = caught.value
    assert isinstance(error, EXCEPTIONS[failure.kind])
    assert failure.message in error.message
    body: Any = error.body
    assert set(body) == {"message", "type", "param", "code"}
    match failure.kind:
        case Kind.KEY:
            assert error.status_code == 502
        case Kind.RATE_LIMIT if failure.retry_after is not None:
            assert float(error.response.headers["retry-after"]) >= failure.retry_after
        case Kind.REQUEST:
            assert error.status_code == failure.status
        case Kind.POLICY:
            assert body["code"] == "content_filter"
        case Kind.CONTEXT:
            assert body["code"] == "context_length_exceeded"
        case _:
            pass


@named(REFUSED)
def test_what_a_provider_cannot_do_is_a_400_that_names_the_parameter(
    client: openai.OpenAI, case: Case
) -> None:
    expected: Any = codec.loads((case.folder / "refused.json").read_bytes())
    with pytest.raises(openai.APIStatusError) as caught:
        whole(client, case)
    assert caught.value.status_code == expected["status"]
    assert caught.value.param == expected["param"]
    assert expected["message"] in caught.value.message


def test_every_engine_is_asked_both_ways() -> None:
    for found in (STREAMED, WHOLE, WITH_TOOLS, TURNED_AWAY):
        assert {case.name.partition("/")[0] for case in found} == ENGINES


def test_one_token_served_all_requests_of_an_account(site: Site, process: Process) -> None:
    accounts = [case for case in CASES if "private_key" in case.ask["provider"]]
    assert 0 < site.tokens <= len(accounts)  # each case has an account, and most ask twice


def test_no_key_and_no_token_is_in_the_log(process: Process) -> None:
    text = "".join(process.err)
    assert text.count('"request.done"') >= len(CALLED)
    for secret in ("ya29.", "sk-client-", "up-gpt", "PRIVATE KEY", "wJalrXUtnFEMI"):
        assert secret not in text
