"""What goes on the wire and when, as plain values: nothing here waits, reads or writes.

An answer is a row of steps, each so many seconds after the request. Whoever plays it needs a
stream and a clock and knows nothing of chat; the same row runs on a socket and in virtual time.
Finite rows are made once and kept, so that a bench measures the gateway and not this.
"""

from __future__ import annotations

import gzip
import itertools
import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import lru_cache
from typing import Final

from uniapi.codec import dumps
from uniapi.demo.behaviour import Behaviour, Fault, Prefill
from uniapi.demo.completions import (
    Ask,
    chat_chunk,
    completion,
    error_said,
    finish_reason,
    tokens,
    usage_chunk,
)


class Then(Enum):
    """What follows a step."""

    MORE = auto()
    KEEP = auto()
    """The response is complete and the connection may serve another."""
    CLOSE = auto()
    RESET = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes to write, not before `at` seconds after the request was read."""

    at: float
    data: bytes = b""
    then: Then = Then.MORE


_PAGE: Final = b"<!doctype html>\n<title>Welcome</title>\n<p>This is not the API.\n"
_DRIPS: Final = (Fault.COMMENTS, Fault.EMPTY_DELTAS, Fault.DRIP_HEAD)
_SHORTENED: Final = (Fault.STALL, Fault.CUT, Fault.ABORT, Fault.ERROR_EVENT)
_REASONS: Final = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
_JSON: Final = "application/json"
_SSE: Final = "text/event-stream"
_LAST_CHUNK: Final = b"0\r\n\r\n"


def answer(ask: Ask, how: Behaviour) -> Iterable[Step]:
    """The steps of one response; the last one, if there is a last, says what follows."""
    if how.fault in _DRIPS and how.status < 300:
        return _pieces(_drip(ask, how), how)
    return _kept(ask, how)


@lru_cache(maxsize=256)
def _kept(ask: Ask, how: Behaviour) -> tuple[Step, ...]:
    steps = _script(ask, how)
    return tuple(_pieces(steps, how) if how.piece else _joined(steps))


def _joined(steps: Iterable[Step]) -> Iterator[Step]:
    """The same bytes at the same times in as few writes as can be."""
    for at, group in itertools.groupby(steps, key=lambda step: step.at):
        row = list(group)
        yield Step(at, b"".join(step.data for step in row), row[-1].then)


def _pieces(steps: Iterable[Step], how: Behaviour) -> Iterator[Step]:
    """The same bytes in small writes; what `piece_gap` costs moves all that follows."""
    late = 0.0
    for step in steps:
        size = how.piece or len(step.data) or 1
        for start in range(0, len(step.data), size):
            late += how.piece_gap if start else 0.0
            yield Step(step.at + late, step.data[start : start + size])
        if step.then is not Then.MORE:
            yield Step(step.at + late, b"", step.then)


def _script(ask: Ask, how: Behaviour) -> Iterator[Step]:
    match how.fault:
        case Fault.REFUSE | Fault.RESET:
            yield Step(how.delay, then=Then.RESET)
        case Fault.HANG:
            yield Step(how.delay + how.pause, then=Then.CLOSE)
        case Fault.RESET_IN_HEAD:
            first = next(_healthy(ask, replace(how, fault=Fault.NONE)))
            yield Step(how.delay, first.data[: how.at], Then.RESET)
        case _:
            yield from _healthy(ask, how)


def _healthy(ask: Ask, how: Behaviour) -> Iterator[Step]:
    refused = how.prefill is Prefill.REFUSE and ask.prefill is not None
    if how.status >= 300 or refused:
        status = how.status if how.status >= 300 else 400
        yield from _body(how, error_said(how, status), status=status)
    elif how.fault in (Fault.EMPTY, Fault.HTML, Fault.ERROR_OBJECT):
        yield from _instead(ask, how)
    elif not ask.fixed and ask.stream != (how.fault is Fault.SWAPPED):
        yield Step(how.delay, _head(how, _SSE))
        yield from _sse_body(ask, how)
    else:
        yield from _json_answer(ask, how)


def _instead(ask: Ask, how: Behaviour) -> Iterator[Step]:
    """A 200 that is not an answer."""
    kind = _SSE if ask.stream else _JSON
    match how.fault:
        case Fault.HTML:
            yield from _body(how, _PAGE, kind="text/html; charset=utf-8")
        case Fault.ERROR_OBJECT:
            yield from _body(how, error_said(how, 500))
        case _:
            yield from _body(how, b"", kind=kind)


def _head(how: Behaviour, kind: str, *, status: int = 200, length: int | None = None) -> bytes:
    """Status line and headers, with the blank line; chunked unless the length is known."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Scripted')}"]
    lines.append(f"content-type: {how.content_type or kind}")
    lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
    if how.gzip:
        lines.append("content-encoding: gzip")
    if not how.keep_alive:
        lines.append("connection: close")
    lines += [f"{name}: {value}" for name, value in how.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


def _after(how: Behaviour) -> Then:
    return Then.KEEP if how.keep_alive and how.fault is not Fault.HANG_UP else Then.CLOSE


def _body(how: Behaviour, body: bytes, *, status: int = 200, kind: str = _JSON) -> Iterator[Step]:
    """One whole body in one write."""
    data = gzip.compress(body, mtime=0) if how.gzip else body
    head = _head(how, kind, status=status, length=len(data))
    yield Step(how.delay, head + data, _after(how))


def _json_answer(ask: Ask, how: Behaviour) -> Iterator[Step]:
    body = ask.fixed or dumps(completion(ask, how))
    data = gzip.compress(body, mtime=0) if how.gzip else body
    half = data[: len(data) // 2]
    at = how.delay + how.ttft + how.gap * max(len(tokens(ask, how)) - 1, 0)
    head = _head(how, _JSON, length=len(data))
    match how.fault:
        case Fault.SILENT:
            yield Step(how.delay, head)
            yield Step(how.delay + how.pause, then=Then.CLOSE)
        case Fault.STALL:
            yield Step(at, head + half)
            yield Step(at + how.pause, then=Then.CLOSE)
        case Fault.ABORT:
            yield Step(at, head + half, Then.CLOSE)
        case Fault.CUT | Fault.BROKEN_JSON:
            yield from _body(replace(how, delay=at, gzip=False), half)
        case Fault.ERROR_EVENT:
            yield from _body(replace(how, delay=at), error_said(how, 500))
        case _:
            yield Step(at, head + data, _after(how))


def _sse_body(ask: Ask, how: Behaviour) -> Iterator[Step]:
    """The body of a stream, chunked, from the role chunk to what follows the response."""
    squeeze = _squeezer(how)
    if how.fault is Fault.SILENT:
        yield Step(how.delay + how.pause, then=Then.CLOSE)
        return
    at = how.delay
    for number, (at, data) in enumerate(_events(ask, how), start=1):
        broken = how.fault is Fault.BROKEN_JSON and number == how.at
        event = _event(data[: len(data) // 2] if broken else data, how)
        yield Step(at, _chunk(squeeze(event)))
    match how.fault:
        case Fault.ABORT:
            yield Step(at, then=Then.CLOSE)
        case Fault.STALL:
            yield Step(at + how.pause, then=Then.CLOSE)
        case _:
            yield Step(at, _chunk(squeeze(b"")) + _LAST_CHUNK, _after(how))


def _squeezer(how: Behaviour) -> Callable[[bytes], bytes]:
    """Bytes to the bytes of the coded body; empty bytes end it."""
    if not how.gzip:
        return lambda data: data
    packer = zlib.compressobj(wbits=31)  # 31: gzip, with its header

    def squeeze(data: bytes) -> bytes:
        if not data:
            return packer.flush(zlib.Z_FINISH)
        return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)

    return squeeze


def _event(data: bytes, how: Behaviour) -> bytes:
    end = b"\r\n" if how.crlf else b"\n"
    return b"data: " + data + end + end


def _events(ask: Ask, how: Behaviour) -> Iterator[tuple[float, bytes]]:
    """The data of each event, and its second."""
    start = how.delay + how.ttft
    if how.fault is Fault.ONLY_DONE:
        yield start, b"[DONE]"
        return
    at = start
    if how.fault is not Fault.ERROR_EVENT or how.at:
        yield how.delay, chat_chunk(ask, how, {"role": "assistant", "content": ""})
    said = tokens(ask, how)
    shortened = how.fault in _SHORTENED
    for number, delta in enumerate(said[: how.at] if shortened else said):
        at = start + number * how.gap
        yield at, chat_chunk(ask, how, delta)
    if how.fault is Fault.ERROR_EVENT:
        yield at, error_said(how, 500)
    if shortened:
        return
    yield at, chat_chunk(ask, how, {}, finish_reason(how))
    if ask.include_usage:
        yield at, usage_chunk(ask, how)
    if how.fault is not Fault.NO_DONE:
        yield at, b"[DONE]"


def _drip(ask: Ask, how: Behaviour) -> Iterator[Step]:
    """Signs of life that say nothing, every `drip` seconds until `pause`, then the answer."""
    times = itertools.takewhile(
        lambda at: at < how.delay + how.pause,
        (how.delay + number * how.drip for number in itertools.count()),
    )
    then = replace(how, fault=Fault.NONE, delay=how.delay + how.pause)
    streams = ask.stream and not ask.fixed
    if how.fault is Fault.DRIP_HEAD:
        head = _head(how, _SSE if streams else _JSON)[:-2]
        endless = itertools.chain(head, itertools.cycle(b"x-drip: 1\r\n"))
        sent = 0
        for at, byte in zip(times, endless, strict=False):
            sent += 1
            yield Step(at, bytes([byte]))
        rest = bytes(itertools.islice(_rest_of_head(head, sent), 0, None))
        yield Step(then.delay, rest + b"\r\n")
    else:
        yield Step(how.delay, _head(how, _SSE if streams else _JSON))
        nothing = _nothing(ask, how) if streams else b" "
        for at in times:
            yield Step(at, _chunk(nothing))
    if math.isinf(how.pause):
        return
    if streams:
        yield from _sse_body(ask, then)
    else:
        whole = ask.fixed or dumps(completion(ask, how))
        yield Step(then.delay, _chunk(whole) + _LAST_CHUNK, _after(how))


def _rest_of_head(head: bytes, sent: int) -> Iterator[int]:
    """What a dripped head still owes after `sent` bytes, up to the end of a line."""
    if sent <= len(head):
        yield from head[sent:]
        return
    filler = b"x-drip: 1\r\n"
    begun = (sent - len(head)) % len(filler)
    if begun:
        yield from filler[begun:]


def _nothing(ask: Ask, how: Behaviour) -> bytes:
    if how.fault is Fault.COMMENTS:
        return b": still thinking\r\n\r\n" if how.crlf else b": still thinking\n\n"
    return _event(chat_chunk(ask, how, {"content": ""}), how)
