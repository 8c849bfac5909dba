"""The load tool aims at this machine only and takes nothing for an answer that is not one."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import asdict
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from bench import client as client_module
from bench.answers import WrongError, json_text, stream_text
from bench.client import Target, _Body, target
from bench.figures import Summary
from bench.load import Plan, main, run
from bench.tally import Report
from uniapi.demo import SIXTY, Behaviour, Fault, Provider, serve
from uniapi.demo.completions import Ask
from uniapi.demo.script import answer


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/v1/chat/completions",
        "http://10.0.0.1:8000/",
        "http://0.0.0.0:8000/",
        "http://127.0.0.1.example.com/",
        "http://localhost.example.com/",
        "http://user@example.com@192.168.0.1/",
        "https://127.0.0.1/",
        "file:///etc/hosts",
        "127.0.0.1:8000",
        "",
    ],
)
def test_other_machines_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not http on loopback"):
        target(url, key="k", model="m", stream=False, expected=None)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://127.0.0.1:9/v1/chat/completions", "127.0.0.1", 9),
        ("http://localhost:9/v1/chat/completions", "127.0.0.1", 9),
        ("http://[::1]/v1/chat/completions", "::1", 80),
        ("http://127.8.9.1:9/v1/chat/completions", "127.8.9.1", 9),
    ],
)
def test_this_machine_is_a_target(url: str, host: str, port: int) -> None:
    aim = target(url, key="k", model="m", stream=True, expected=None)
    assert (aim.host, aim.port) == (host, port)
    assert aim.request.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["http://example.com/v1"],
        ["http://127.0.0.1/", "--requests", "0"],
        ["http://127.0.0.1/", "--requests", "10000001"],
        ["http://127.0.0.1/", "--connections", "0"],
        ["http://127.0.0.1/", "--rate", "-1"],
        ["http://127.0.0.1/", "--behaviour", "nobody"],
        ["http://127.0.0.1/", "--pid", str(2**22 + 1)],
    ],
)
def test_wrong_arguments_exit_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def wire(how: Behaviour, *, stream: bool = True) -> tuple[list[bytes], bytes]:
    """The head's lines and the body, as the provider writes them."""
    whole = b"".join(step.data for step in answer(Ask("m", stream), how))
    head, _, body = whole.partition(b"\r\n\r\n")
    return head.lower().split(b"\r\n"), body


@given(st.lists(st.integers(0, 3000), max_size=12), st.booleans())
def test_cuts_change_nothing_in_a_body(cuts: list[int], stream: bool) -> None:
    lines, data = wire(Behaviour(text="one two\nthree é"), stream=stream)
    reader = _Body(lines)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        assert not reader.done or start == len(data)
        reader.feed(data[start:end])
    assert reader.done
    read = stream_text if stream else json_text
    assert read(b"".join(reader.pieces)) == "one two\nthree é"


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        (b"", "no finish_reason"),
        (b"data: [DONE]\n\n", "no finish_reason"),
        (b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n', "no [DONE]"),
        (b'data: {"error":{"message":"x"}}\n\n', "error event"),
        (b"data: {oops\n\n", "not JSON"),
        (b"<html>", "no finish_reason"),
    ],
)
def test_a_stream_that_is_not_whole_is_wrong(body: bytes, verdict: str) -> None:
    with pytest.raises(WrongError) as wrong:
        stream_text(body)
    assert str(wrong.value) == verdict


@pytest.mark.parametrize(
    ("body", "verdict"),
    [(b"", "not JSON"), (b'{"error":{}}', "error object"), (b'{"choices":[]}', "not an answer")],
)
def test_a_json_body_that_is_no_answer_is_wrong(body: bytes, verdict: str) -> None:
    with pytest.raises(WrongError) as wrong:
        json_text(body)
    assert str(wrong.value) == verdict


def test_a_finish_reason_that_is_not_there_yet_may_be_left_out() -> None:
    said = b'data: {"choices":[{"delta":{"content":"one"}}]}\n\n'
    end = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    assert stream_text(said + end) == "one"


def test_a_stream_in_crlf_reads_the_same() -> None:
    lines, data = wire(Behaviour(crlf=True))
    reader = _Body(lines)
    reader.feed(data)
    assert stream_text(b"".join(reader.pieces)) == SIXTY


async def load(nursery: trio.Nursery, model: str, plan: Plan, *, stream: bool = True) -> Report:
    port = await nursery.start(serve, Provider(record=False))
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    aim = target(url, key="k", model=model, stream=stream, expected=SIXTY)
    return await run(aim, plan, progress=False)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_closed_loop_asks_so_many_and_finds_them_right(
    nursery: trio.Nursery, stream: bool
) -> None:
    report = await load(nursery, "ok", Plan(connections=3, requests=20), stream=stream)
    assert (report.requests, report.right, report.errors, report.ok) == (20, 20, {}, True)
    assert (report.latency.count, report.ttft.count) == (20, 20 if stream else 0)


async def test_an_open_loop_asks_by_the_clock(nursery: trio.Nursery) -> None:
    report = await load(nursery, "ok;gap=0.001", Plan(rate=100, duration=0.1))
    assert (report.requests, report.right, report.ok) == (10, 10, True)
    assert report.gap.count > 0
    assert report.ttft.max is not None
    assert report.latency.max is not None
    assert report.ttft.max <= report.latency.max


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("status-503", "status 503"),
        ("abort", "cut"),
        ("cut", "no finish_reason"),
        ("no-done", "no [DONE]"),
        ("reset", "reset"),
        ("error-event;at=3", "error event"),
        ("broken-json;at=3", "not JSON"),
        ("ok;tokens=59", "wrong text"),
        ("hang", "timeout"),
    ],
)
async def test_errors_are_counted_by_kind(nursery: trio.Nursery, model: str, kind: str) -> None:
    plan = Plan(connections=2, requests=2, request_timeout=0.05 if model == "hang" else 5)
    report = await load(nursery, model, plan)
    assert (report.right, report.errors, report.ok) == (0, {kind: 2}, False)


async def test_a_run_ends_in_time_and_says_what_it_left(nursery: trio.Nursery) -> None:
    report = await load(nursery, "hang", Plan(connections=4, requests=9, timeout=0.05))
    assert (report.errors, report.ok) == ({"unfinished": 4}, False)


async def test_nobody_there_is_an_error(nursery: trio.Nursery) -> None:
    refusing = Provider(Behaviour(fault=Fault.REFUSE))
    port = await nursery.start(serve, refusing)
    url = f"http://127.0.0.1:{port}/"
    aim = target(url, key="k", model="m", stream=True, expected=None)
    report = await run(aim, Plan(requests=1), progress=False)
    assert report.errors == {"connect": 1}


async def test_an_open_loop_counts_from_when_a_request_was_due(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One answer at a time, each of a second: the third request waits two seconds first.
    lock = trio.Lock()

    async def slow(self: object, due: float, patience: float) -> client_module.Result:
        async with lock:
            await trio.sleep(1)
        return client_module.Result(latency=trio.current_time() - due)

    monkeypatch.setattr(client_module.Client, "ask", slow)
    aim = Target("127.0.0.1", 1, b"", stream=False, expected=None)
    report = await run(aim, Plan(rate=10, duration=0.3), progress=False)
    assert report.latency.p50 == pytest.approx(1.9)
    assert report.latency.max == pytest.approx(2.8)


def test_a_report_is_json_and_lines() -> None:
    summary = Summary.of([0.1])
    report = Report(2, 1, {"cut": 1}, 0.5, summary, summary, summary, summary)
    assert "errors    cut: 1" in list(report.lines())
    assert json.loads(json.dumps(asdict(report)))["errors"] == {"cut": 1}


def test_no_file_beside_the_scripts_hides_a_library_from_them() -> None:
    ours = {path.stem for path in Path(client_module.__file__).parent.glob("*.py")}
    assert ours & {*sys.stdlib_module_names, *packages_distributions()} == set()
