"""The cheap upstream says the same words in both dialects, in as many writes as a server would."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from bench.answers import json_text, stream_text
from bench.client import Client, _Body, target
from bench.running import free_port, listening, started
from bench.upstream import rendered
from bench.workloads import CHUNKS, NAMES, said, workload
from uniapi.chat import ChatRequest
from uniapi.demo.script import Then
from uniapi.engines.anthropic_decoder import AnthropicDecoder
from uniapi.engines.base import Decoder
from uniapi.engines.openai_decoder import OpenAIDecoder
from uniapi.events import Finish, Start, Text, Usage
from uniapi.framing import Framing, framer

SCRIPT = str(Path("bench/upstream.py").resolve())
CHAT, MESSAGES = b"/v1/chat/completions", b"/v1/messages"


def body_of(path: bytes, model: str, *, stream: bool) -> bytes:
    whole = b"".join(step.data for step in rendered(path, model.encode(), stream, stream))
    head, _, data = whole.partition(b"\r\n\r\n")
    reader = _Body(head.lower().split(b"\r\n"))
    reader.feed(data)
    assert reader.done
    return b"".join(reader.pieces)


def decoder(path: bytes, framing: Framing) -> Decoder:
    start = Start("id", "m", 1)
    if path == MESSAGES:
        return AnthropicDecoder(framing, start)
    return OpenAIDecoder(ChatRequest("m", {}), framing, start)


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_our_engines_read_the_same_words_out_of_both_dialects(
    path: bytes, stream: bool, name: str
) -> None:
    framing: Framing = "sse" if stream else "json"
    frames, decode = framer(framing), decoder(path, framing)
    batches = [decode.feed(frames.feed(body_of(path, name, stream=stream)) + frames.end())]
    batches.append(decode.end())
    events = [event for batch in batches for event in batch.events]
    assert "".join(event.text for event in events if isinstance(event, Text)) == said(name)
    assert [event.reason for event in events if isinstance(event, Finish)] == ["stop"]
    assert [event for event in events if isinstance(event, Usage)]
    assert decode.complete()


def test_a_burst_is_a_write_a_chunk_and_one_write_without_any_gap() -> None:
    steps = rendered(CHAT, b"burst", True, False)
    whole = b"".join(step.data for step in steps)
    assert whole.count(b'"delta"') == CHUNKS
    assert len(steps) == CHUNKS - 2  # the first token comes with the role, the end with the last
    assert steps[-1].then is Then.KEEP
    assert len(rendered(CHAT, b"ok;tokens=50", True, False)) == 1


def test_tokens_have_the_size_that_was_asked_for() -> None:
    assert set(map(len, workload("ok;size=100;tokens=3").text.split())) == {99}
    assert stream_text(body_of(CHAT, "ok;tokens=3;size=5", stream=True)) == "xxxx xxxx xxxx"
    with pytest.raises(LookupError):
        workload("ok;size=large")


@pytest.mark.parametrize(
    ("path", "model"), [(CHAT, b"nobody"), (CHAT, b"hang"), (CHAT, b""), (b"/v1/x", b"json")]
)
def test_what_it_does_not_know_is_404(path: bytes, model: bytes) -> None:
    (step,) = rendered(path, model, False, False)
    assert step.data.startswith(b"HTTP/1.1 404 ")


@asynccontextmanager
async def upstream(*arguments: str) -> AsyncIterator[int]:
    port = free_port()
    command = [sys.executable, SCRIPT, "--port", str(port), *arguments]
    with trio.fail_after(20):
        async with started(command, quiet=False) as process:
            await listening(port, process, healthy=False)
            yield port


async def test_a_connection_is_kept_and_requests_may_come_in_pieces_or_at_once() -> None:
    async with upstream() as port:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        request = target(url, key="k", model="json", stream=False, expected=None).request
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            for byte in request[:-1]:
                await stream.send_all(bytes([byte]))
            await stream.send_all(request[-1:] + request)
            answer = rendered(CHAT, b"json", False, False)[0].data
            got = b""
            while len(got) < 2 * len(answer):
                got += await stream.receive_some()
            assert got == answer * 2


async def test_a_body_larger_than_the_socket_takes_arrives_whole() -> None:
    async with upstream() as port:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        client = Client(target(url, key="k", model="huge", stream=False, expected=said("huge")))
        assert (await client.ask(trio.current_time(), 10)).error is None
        await client.aclose()


async def test_several_processes_share_a_port_and_end_together() -> None:
    async with upstream("--processes", "3") as port:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        aim = target(url, key="k", model="json", stream=False, expected=said("json"))
        for _ in range(12):
            client = Client(aim)  # a connection each: the kernel deals them out
            assert (await client.ask(trio.current_time(), 10)).error is None
            await client.aclose()
    with trio.fail_after(10):
        while True:
            try:
                await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
            except OSError:
                break
            await trio.sleep(0.01)


def test_json_says_what_the_stream_says() -> None:
    assert json_text(body_of(CHAT, "burst", stream=False)) == said("burst")
