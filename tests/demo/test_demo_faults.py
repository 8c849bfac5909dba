"""Every behaviour does what its name says, to the second."""

from __future__ import annotations

import gzip
import itertools
import math
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from trio.testing import MockClock

from uniapi.demo import SIXTY, Behaviour, Fault, Prefill, Provider
from uniapi.demo.behaviour import error_body

Ask = Callable[..., Awaitable[Any]]

FIVE = Behaviour(text="one two three four five", gap=0.25)


def but(fault: Fault, *, at: int = 0, pause: float = math.inf) -> Behaviour:
    return Behaviour(text=FIVE.text, gap=FIVE.gap, fault=fault, at=at, pause=pause)


async def test_a_stream_says_its_words_in_their_seconds(
    autojump_clock: MockClock, ask: Ask
) -> None:
    heard = await ask(Behaviour(text="one two three", delay=1, ttft=2, gap=0.5))
    assert heard.head_at == 1
    words = [at for at, data in heard.arrivals if b'"content":"' in data and b'""' not in data]
    assert words == [3, 3.5, 4]
    assert (heard.ended, heard.ended_at) == ("whole", 4)
    assert heard.text() == "one two three"
    assert heard.events()[-1] == b"[DONE]"


async def test_a_json_answer_comes_when_the_last_word_would_have(
    autojump_clock: MockClock, ask: Ask
) -> None:
    heard = await ask(Behaviour(text="one two three", delay=1, ttft=2, gap=0.5), stream=False)
    assert (heard.head_at, heard.ended_at) == (4, 4)
    assert heard.json()["choices"][0]["message"]["content"] == "one two three"


async def test_the_default_answer_is_sixty_words_one_token_each(
    autojump_clock: MockClock, ask: Ask
) -> None:
    heard = await ask(Behaviour(), stream_options={"include_usage": True})
    assert heard.text() == SIXTY
    words = [delta for delta in heard.deltas() if delta.get("content")]
    assert len(words) == len(SIXTY.split()) == 60
    assert b'"completion_tokens":60' in heard.events()[-2]
    assert len({at for at, _ in heard.arrivals}) == 1


async def test_usage_has_its_chunk_only_when_asked_for(autojump_clock: MockClock, ask: Ask) -> None:
    assert b"usage" not in (await ask(FIVE)).body
    assert b"usage" in (await ask(FIVE, stream_options={"include_usage": True})).body
    assert b'"total_tokens":12' in (await ask(FIVE, stream=False)).body


async def test_tokens_sets_the_number_of_words(autojump_clock: MockClock, ask: Ask) -> None:
    heard = await ask(Behaviour(text="a b c", tokens=7))
    assert heard.text() == "a b c a b c a"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_status_comes_with_its_error_and_headers(
    autojump_clock: MockClock, ask: Ask, stream: bool
) -> None:
    how = Behaviour(status=429, delay=0.5, headers=(("retry-after", "2"),))
    heard = await ask(how, stream=stream)
    assert (heard.status, heard.headers["retry-after"], heard.ended_at) == (429, "2", 0.5)
    assert set(heard.json()["error"]) == {"message", "type", "param", "code"}


async def test_the_error_body_can_be_anything(autojump_clock: MockClock, ask: Ask) -> None:
    heard = await ask(Behaviour(status=500, error=b"<oops>"))
    assert (heard.status, heard.body) == (500, b"<oops>")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("how", "ended", "at", "said"),
    [
        (but(Fault.REFUSE), "closed", 0, ""),
        (but(Fault.RESET), "closed", 0, ""),
        (but(Fault.HANG, pause=120), "closed", 120, ""),
        (but(Fault.SILENT, pause=9), "cut", 9, ""),
    ],
)
async def test_nothing_is_said(
    autojump_clock: MockClock,
    ask: Ask,
    stream: bool,
    how: Behaviour,
    ended: str,
    at: float,
    said: str,
) -> None:
    heard = await ask(how, stream=stream)
    assert (heard.ended, heard.ended_at, heard.text()) == (ended, at, said)


async def test_a_reset_in_the_head_leaves_half_a_head(
    autojump_clock: MockClock, connect: Any
) -> None:
    wire = connect(Provider(but(Fault.RESET_IN_HEAD, at=12)))
    await wire.send({"stream": True})
    assert await wire.stream.receive_some() == b"HTTP/1.1 200"
    assert await wire.stream.receive_some() == b""


@pytest.mark.parametrize(
    ("how", "ended", "at", "said"),
    [
        (but(Fault.STALL, at=2, pause=30), "cut", 30.25, "one two"),
        (but(Fault.CUT, at=2), "whole", 0.25, "one two"),
        (but(Fault.CUT, at=99), "whole", 1, FIVE.text),
        (but(Fault.ABORT, at=2), "cut", 0.25, "one two"),
        (but(Fault.ABORT, at=0), "cut", 0, ""),
        (but(Fault.NO_DONE), "whole", 1, FIVE.text),
    ],
)
async def test_a_stream_breaks_in_the_middle(
    autojump_clock: MockClock, ask: Ask, how: Behaviour, ended: str, at: float, said: str
) -> None:
    heard = await ask(how)
    assert (heard.ended, heard.ended_at, heard.text()) == (ended, at, said)
    assert b"[DONE]" not in heard.body
    assert (b'"finish_reason":"stop"' in heard.body) is (how.fault is Fault.NO_DONE)


@pytest.mark.parametrize(
    ("how", "ended", "at"),
    [
        (but(Fault.STALL, at=2, pause=30), "cut", 31),
        (but(Fault.CUT, at=2), "whole", 1),
        (but(Fault.BROKEN_JSON, at=2), "whole", 1),
        (but(Fault.ABORT, at=2), "cut", 1),
    ],
)
async def test_a_json_answer_breaks_in_the_middle(
    autojump_clock: MockClock, ask: Ask, how: Behaviour, ended: str, at: float
) -> None:
    heard = await ask(how, stream=False)
    assert (heard.ended, heard.ended_at) == (ended, at)
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        heard.json()


async def test_one_event_is_broken_and_the_rest_is_fine(
    autojump_clock: MockClock, ask: Ask
) -> None:
    heard = await ask(but(Fault.BROKEN_JSON, at=3))
    events = heard.events()
    broken = [number for number, event in enumerate(events, 1) if event[-1:] not in b"}]"]
    assert broken == [3]
    assert (heard.ended, events[-1], len(events)) == ("whole", b"[DONE]", 8)


async def test_an_error_object_comes_with_200(autojump_clock: MockClock, ask: Ask) -> None:
    heard = await ask(but(Fault.ERROR_OBJECT))
    assert (heard.status, heard.headers["content-type"]) == (200, "application/json")
    assert "error" in heard.json()


@pytest.mark.parametrize(("at", "said"), [(0, ""), (3, "one two three")])
async def test_an_error_event_comes_after_so_many_words(
    autojump_clock: MockClock, ask: Ask, at: int, said: str
) -> None:
    error = error_body("no", type="server_error")
    how = Behaviour(text=FIVE.text, fault=Fault.ERROR_EVENT, at=at, error=error)
    heard = await ask(how)
    assert heard.events()[-1] == error
    assert len(heard.events()) == (at + 2 if at else 1)  # with the role chunk, unless it is first
    events = [b"data: " + event for event in heard.events()[:-1]]
    heard.body = b"\n\n".join(events)
    assert heard.text() == said


@pytest.mark.parametrize("stream", [True, False])
async def test_an_empty_answer_has_no_byte_of_body(
    autojump_clock: MockClock, ask: Ask, stream: bool
) -> None:
    heard = await ask(but(Fault.EMPTY), stream=stream)
    assert (heard.status, heard.body, heard.ended) == (200, b"", "whole")


async def test_only_done_is_a_stream_without_an_answer(autojump_clock: MockClock, ask: Ask) -> None:
    assert (await ask(but(Fault.ONLY_DONE))).events() == [b"[DONE]"]
    assert (await ask(but(Fault.ONLY_DONE), stream=False)).json()["choices"] == []


async def test_html_is_a_page(autojump_clock: MockClock, ask: Ask) -> None:
    heard = await ask(but(Fault.HTML))
    assert heard.status == 200
    assert heard.headers["content-type"].startswith("text/html")
    assert heard.body.startswith(b"<!doctype html>")


@pytest.mark.parametrize("fault", [Fault.COMMENTS, Fault.EMPTY_DELTAS])
@pytest.mark.parametrize("stream", [True, False])
async def test_signs_of_life_come_every_second_until_the_answer(
    autojump_clock: MockClock, ask: Ask, fault: Fault, stream: bool
) -> None:
    heard = await ask(but(fault, pause=3), stream=stream)
    assert heard.head_at == 0
    assert [at for at, _ in heard.arrivals][:4] == [0, 1, 2, 3]
    if stream:
        assert (heard.text(), heard.ended_at) == (FIVE.text, 4)
    else:
        assert heard.json()["choices"][0]["message"]["content"] == FIVE.text
    assert heard.ended == "whole"


@pytest.mark.parametrize("pause", [0, 1, 20, 100, 150.5, 200])
async def test_a_dripping_head_is_a_head_in_the_end(
    autojump_clock: MockClock, ask: Ask, pause: float
) -> None:
    heard = await ask(but(Fault.DRIP_HEAD, pause=pause))
    assert (heard.head_at, heard.text(), heard.ended) == (pause, FIVE.text, "whole")


async def test_swapped_answers_are_of_the_other_kind(autojump_clock: MockClock, ask: Ask) -> None:
    asked_stream = await ask(but(Fault.SWAPPED))
    assert asked_stream.json()["object"] == "chat.completion"
    asked_json = await ask(but(Fault.SWAPPED), stream=False)
    assert asked_json.text() == FIVE.text


async def test_compressed_answers_say_so_and_flow(autojump_clock: MockClock, ask: Ask) -> None:
    heard = await ask(Behaviour(text=FIVE.text, gap=1, gzip=True))
    assert heard.headers["content-encoding"] == "gzip"
    unpack = zlib.decompressobj(wbits=31)
    said = [unpack.decompress(data) for _, data in heard.arrivals]
    assert b'" three"' in said[[at for at, _ in heard.arrivals].index(2)]
    heard.body = b"".join(said)
    assert heard.text() == FIVE.text
    assert unpack.eof
    body = (await ask(Behaviour(gzip=True), stream=False)).body
    assert b"chat.completion" in gzip.decompress(body)


async def test_crlf_ends_every_line(autojump_clock: MockClock, ask: Ask) -> None:
    heard = await ask(Behaviour(text=FIVE.text, crlf=True))
    assert heard.body.count(b"\n") == heard.body.count(b"\r\n") > 5
    assert heard.text() == FIVE.text


async def test_a_slow_body_comes_in_pieces(autojump_clock: MockClock, ask: Ask) -> None:
    heard = await ask(Behaviour(piece=100, piece_gap=0.5), stream=False)
    times = sorted({at for at, _ in heard.arrivals})
    assert times[-1] == heard.ended_at > 2
    assert {later - sooner for sooner, later in itertools.pairwise(times)} == {0.5}
    assert heard.json()["object"] == "chat.completion"


async def test_the_content_type_may_be_wrong(autojump_clock: MockClock, ask: Ask) -> None:
    heard = await ask(Behaviour(content_type="text/plain"))
    assert (heard.headers["content-type"], heard.text()) == ("text/plain", SIXTY)


async def test_parallel_tool_calls_fold_to_the_json_answer(
    autojump_clock: MockClock, ask: Ask
) -> None:
    how = Behaviour(tools=(("a", '{"x":1,"y":"two"}'), ("b", "{}")))
    calls: list[dict[str, Any]] = []
    heard = await ask(how)
    for delta in heard.deltas():
        for part in delta.get("tool_calls", []):
            if "id" in part:
                calls.append({**part, "function": dict(part["function"])})
            else:
                calls[part["index"]]["function"]["arguments"] += part["function"]["arguments"]
    for call in calls:
        del call["index"]
    message = (await ask(how, stream=False)).json()["choices"][0]
    assert message["message"]["tool_calls"] == calls
    assert message["finish_reason"] == "tool_calls"
    assert b'"finish_reason":"tool_calls"' in heard.events()[-2]


async def test_reasoning_comes_before_the_text(autojump_clock: MockClock, ask: Ask) -> None:
    heard = await ask(Behaviour(text="yes", reasoning="let me see"))
    kinds = [next(iter(delta)) for delta in heard.deltas() if delta]
    assert kinds == ["role", *["reasoning_content"] * 3, "content"]


async def test_a_prefill_is_continued_restarted_or_refused(
    autojump_clock: MockClock, ask: Ask
) -> None:
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "one two"}]
    heard = await ask(FIVE, messages=messages)
    assert heard.text() == " three four five"
    restarted = await ask(
        Behaviour(text=FIVE.text, prefill=Prefill.RESTART), stream=False, messages=messages
    )
    assert restarted.json()["choices"][0]["message"]["content"] == FIVE.text
    refusing = Behaviour(text=FIVE.text, prefill=Prefill.REFUSE)
    assert (await ask(refusing, messages=messages)).status == 400
    assert (await ask(refusing, messages=messages[:1])).text() == FIVE.text
    messages[-1]["content"] = "something else"
    assert (await ask(FIVE, messages=messages)).text() == FIVE.text
