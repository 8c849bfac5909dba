"""Every recorded answer gives what its folder says, and keeps the laws all decoders share."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import assert_never

from tests.kit.golden import (
    EXPECTED,
    Case,
    cases,
    collected,
    drive,
    events_of,
    failed,
    named,
    produced,
)
from uniapi import codec
from uniapi.codec import Json
from uniapi.events import (
    Event,
    Extra,
    Finish,
    FinishReason,
    Reasoning,
    Start,
    StreamFailed,
    Text,
    ToolCall,
    Usage,
)
from uniapi.framing import Framing, framer

CASES = cases()
STREAMED = [case for case in CASES if case.stream is not None]
BODIED = [case for case in CASES if case.body is not None and case.status is None]
SAMPLE = 150  # cut positions tried in a long stream; all of them in one of up to 600 bytes


def recorded(case: Case) -> bytes:
    data = case.stream
    assert data is not None
    return data


def frames_of(data: bytes, framing: Framing, *cuts: int) -> list[bytes]:
    cutter = framer(framing)
    frames: list[bytes] = []
    for begin, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
        frames += cutter.feed(data[begin:end])
    return frames + cutter.end()


def answers(case: Case) -> list[list[Event]]:
    """The events of the stream and of the body, as far as recorded."""
    found = []
    if (stream := case.stream) is not None:
        found.append(events_of(case.decode(stream, upstream=True, client=True)))
    if (body := case.body) is not None and case.status is None:
        found.append(events_of(case.decode(body, upstream=False, client=False)))
    return found


@named(CASES)
def test_a_case_gives_what_its_folder_says(case: Case) -> None:
    made = produced(case)
    kept = {name: case.folder / name for name in EXPECTED if (case.folder / name).exists()}
    assert {name: path.read_text() for name, path in kept.items()} == made


@named(STREAMED)
def test_a_stream_is_cut_into_the_same_frames_wherever_the_reads_end(case: Case) -> None:
    data, framing = recorded(case), case.call(stream=True).framing
    whole = frames_of(data, framing)
    places: Sequence[int] = range(len(data))
    if len(data) > 600:
        places = Random(case.name).sample(places, SAMPLE)  # noqa: S311 - a sample, no secret
    for place in places:
        assert frames_of(data, framing, place) == whole, f"cut at byte {place}"


@named(STREAMED)
def test_frames_give_the_same_events_whichever_arrive_together(case: Case) -> None:
    frames = frames_of(recorded(case), case.call(stream=True).framing)
    for client in (True, False):
        batches = case.decode(recorded(case), upstream=True, client=client)
        whole, wire = events_of(batches), b"".join(batch.wire or b"" for batch in batches)
        for place in range(len(frames)):
            _, decoder = case.decoder(upstream=True, client=client)
            parts = [decoder.feed(frames[:place])] if place else []
            if not decoder.finished():
                parts += [decoder.feed(frames[place:]), decoder.end()]
            assert events_of(parts) == whole, f"cut before frame {place}"
            assert b"".join(part.wire or b"" for part in parts) == wire


@named(STREAMED)
def test_a_stream_that_breaks_off_is_never_taken_for_whole(case: Case) -> None:
    frames = frames_of(recorded(case), case.call(stream=True).framing)
    for place in range(1, len(frames)):
        _, decoder = case.decoder(upstream=True, client=True)
        told = list(decoder.feed(frames[:place]).events)
        complete = decoder.complete() or decoder.finished()
        told += decoder.end().events
        if complete:
            assert failed(told) or any(isinstance(event, Finish) for event in told)
        else:
            assert isinstance(told[-1], StreamFailed)
            assert not any(isinstance(event, Usage) for event in told)


@named([case for case in STREAMED if case in BODIED])
def test_the_stream_and_the_body_of_an_answer_fold_alike(case: Case) -> None:
    stream, body = answers(case)
    assert failed(stream) == failed(body)
    if not failed(stream):
        assert _parsed(collected(stream)) == _parsed(collected(body))


def _parsed(value: Json) -> Json:
    """The message with its arguments as JSON: how they are spaced means nothing."""
    match value:
        case dict():
            return {
                name: codec.loads(inner)
                if name == "arguments" and isinstance(inner, str)
                else _parsed(inner)
                for name, inner in value.items()
            }
        case list():
            return [_parsed(inner) for inner in value]
        case _:
            return value


@named([case for case in CASES if case in STREAMED or case in BODIED])
def test_every_answer_keeps_the_grammar(case: Case) -> None:
    for events in answers(case):
        _check_order(events)
        finishes = {event.choice: event.reason for event in events if isinstance(event, Finish)}
        _check_calls(events, finishes, whole=not failed(events))


def _check_order(events: Sequence[Event]) -> None:
    finished: set[int] = set()
    spoken: set[int] = set()
    for place, event in enumerate(events):
        last = place == len(events) - 1
        match event:
            case Start():
                assert place == 0
            case Text() | Reasoning() | ToolCall() | Extra():
                spoken.add(event.choice)
                assert event.choice not in finished
            case Finish(choice=choice):
                assert choice not in finished
                finished.add(choice)
            case Usage():
                assert last
                assert finished
            case StreamFailed():
                assert last
            case _:
                assert_never(event)
    assert failed(events) or (finished and spoken <= finished)


def _check_calls(
    events: Sequence[Event], finishes: dict[int, FinishReason], *, whole: bool
) -> None:
    calls: dict[tuple[int, int], list[ToolCall]] = {}
    for event in events:
        if isinstance(event, ToolCall):
            calls.setdefault((event.choice, event.index), []).append(event)
    ids = [piece.id for pieces in calls.values() for piece in pieces if piece.id is not None]
    assert len(set(ids)) == len(ids)
    for choice in {choice for choice, _ in calls}:
        indices = [index for which, index in calls if which == choice]
        assert indices == list(range(len(indices))), "calls are counted from 0 as they come"
    for (choice, _), pieces in calls.items():
        assert pieces[0].id
        assert pieces[0].name
        assert all(piece.id is None and piece.name is None for piece in pieces[1:])
        if whole and finishes[choice] != "length":
            arguments = codec.loads("".join(piece.arguments for piece in pieces))
            assert isinstance(arguments, dict)


@named(STREAMED)
def test_a_stream_read_byte_by_byte_tells_the_same(case: Case) -> None:
    data = recorded(case)
    if len(data) > 20_000:
        data = data[:20_000]
    reads = [data[place : place + 1] for place in range(len(data))]
    slow = drive(reads, *case.decoder(upstream=True, client=True))
    assert events_of(slow) == events_of(case.decode(data, upstream=True, client=True))
