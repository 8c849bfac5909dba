"""The official SDK, as the client of every recorded answer."""

from __future__ import annotations

from typing import Any

from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from tests.kit.golden import Case, cases, collected, events_of, failed, named
from uniapi import codec

SENT = [case for case in cases() if (case.folder / "answer.sse").exists()]


def chunks(case: Case) -> list[Any]:
    text = (case.folder / "answer.sse").read_text()
    data = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
    return [codec.loads(each) for each in data if each != "[DONE]"]


def spoken(message: Any) -> dict[str, Any]:
    calls = message.get("tool_calls") or []
    # OpenAI-format providers that say `reasoning` are passed on in their own words.
    thought = message.get("reasoning_content") or message.get("reasoning")
    return {
        "content": message.get("content") or "",
        "reasoning_content": thought or "",
        "refusal": message.get("refusal"),
        "calls": [
            (call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls
        ],
    }


@named(SENT)
def test_the_sdk_joins_the_stream_into_the_same_message(case: Case) -> None:
    state = ChatCompletionStreamState()
    finishes: dict[int, str] = {}
    broken = False
    for value in chunks(case):
        if value.get("error"):
            broken = True
            break
        chunk = ChatCompletionChunk.model_validate(value)
        state.handle_chunk(chunk)
        for choice in chunk.choices:
            if choice.finish_reason is not None:
                assert choice.index not in finishes, "one finish reason a choice"
                finishes[choice.index] = choice.finish_reason
    events = events_of(case.decode(case.stream or b"", upstream=True, client=True))
    assert broken == failed(events)
    if broken:
        return
    joined: Any = state.current_completion_snapshot.to_dict()
    answer: Any = collected(events)
    for ours, theirs in zip(answer["choices"], joined["choices"], strict=True):
        assert spoken(theirs["message"]) == spoken(ours["message"])
        assert theirs["finish_reason"] == ours["finish_reason"] == finishes[ours["index"]]
