"""The comparison: contenders that answer rightly, and figures that are shown as they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import MappingProxyType
from xml.etree import ElementTree as ET

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from bench.client import Client, target
from bench.compare import main
from bench.contender import KEY, Contender, hello, naive, nginx, running, uniapi
from bench.plot import Panel, svg
from bench.process import cost, resident
from bench.report import facts, markdown, write
from bench.running import free_port, listening, started
from bench.scenarios import CROWD, DIRECT, LATENCY, SCENARIOS, START, Scenario, load, sequential
from bench.table import Table, figure
from bench.targets import TARGETS, targets
from bench.workloads import said

NOWHERE: frozenset[int] = frozenset()
COMPARE = str(Path("bench/compare.py").resolve())
UPSTREAM = str(Path("bench/upstream.py").resolve())


@pytest.fixture
async def upstream() -> AsyncIterator[int]:
    port = free_port()
    command = [sys.executable, UPSTREAM, "--port", str(port)]
    async with started(command, quiet=False) as process:
        await listening(port, process, healthy=False)
        yield port


def contenders() -> list[Contender]:
    return [hello(), naive(), uniapi(), *([there] if (there := nginx()) else [])]


@pytest.mark.parametrize("contender", contenders(), ids=lambda contender: contender.name)
async def test_a_contender_gives_the_answers_it_is_measured_with(
    upstream: int, contender: Contender
) -> None:
    asked = [("json", "json", False), ("burst", "burst", True)]
    if contender.translates:
        asked += [("translated-json", "json", False), ("translated-burst", "burst", True)]
    with trio.fail_after(30):
        async with running(contender, upstream, cores=NOWHERE, quiet=True) as one:
            for model, text, stream in asked:
                aim = target(one.url, key=KEY, model=model, stream=stream, expected=said(text))
                client = Client(aim)
                assert (await client.ask(trio.current_time(), 10)).error is None
                await client.aclose()
            assert 0 < one.seconds < 30


async def test_a_round_has_its_figures(upstream: int) -> None:
    url = f"http://127.0.0.1:{upstream}/v1/chat/completions"
    short = Scenario("burst", "", "burst", True, 2, 1.0)
    with trio.fail_after(20):
        figures = await load(short, url, os.getpid(), seconds=0.05)
    assert figures["errors"] == 0
    assert figures["cpu per chunk"] == pytest.approx(figures["cpu per call"] / 52)
    assert "jitter p99" not in figures  # nothing is meant to be even in a burst


async def test_straight_and_through_are_asked_in_turn(upstream: int) -> None:
    with trio.fail_after(20):
        async with running(hello(), upstream, cores=NOWHERE, quiet=True) as one:
            url = f"http://127.0.0.1:{upstream}/v1/chat/completions"
            figures = await sequential(url, one, pairs=5)
    assert (figures["requests"], figures["errors"]) == (10, 0)
    added = figures["through p50"] - figures["direct p50"]
    assert figures["added p50"] == pytest.approx(added)


def children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")  # a child is its thread's
    return [int(child) for listed in lists for child in listed.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux lists children")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_nothing_is_left_running_when_it_is_told_to_stop(number: signal.Signals) -> None:
    command = [sys.executable, COMPARE, "--contenders", "hello", "--scenarios", "json"]
    process = await trio.lowlevel.open_process([*command, "--scale", "50"], stderr=subprocess.PIPE)
    assert process.stderr is not None
    said, left = b"", []
    async with process.stderr:
        with trio.fail_after(30):
            while b"round 1" not in said:
                said += await process.stderr.receive_some()
            left = children(process.pid)
            process.send_signal(number)
            assert await process.wait() == 130
            said += await process.stderr.receive_some()
    assert len(left) == 2
    assert b"Traceback" not in said
    for child in left:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def rows(*values: float, name: str = "cpu per call") -> list[MappingProxyType[str, float]]:
    return [MappingProxyType({name: value, "errors": 0.0}) for value in values]


def filled() -> Table:
    table = Table()
    for one, values in (("hello", (1e-3, 2e-3, 4e-3)), ("uniapi", (1.5e-3, 6e-3, 6e-3))):
        for figures in rows(*values):
            table.add("json", one, figures)
    return table


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    table = filled()
    assert table.median("json", "uniapi", "cpu per call") == 6e-3
    assert table.ratio("json", "uniapi", "hello", "cpu per call") == 1.5
    assert table.ratio("json", "uniapi", "nobody", "cpu per call") is None
    assert table.added("json", "uniapi", "hello", "cpu per call") == pytest.approx(
        [0.5e-3, 4e-3, 2e-3]
    )
    assert table.median("burst", "uniapi", "cpu per call") is None


def test_the_table_has_a_row_a_contender_and_only_columns_that_were_measured() -> None:
    assert filled().lines() == [
        "### json: JSON call, 16 at once",
        "",
        "| | CPU per call, us | CPU ratio | errors |",
        "|---|---|---|---|",
        "| hello | 2000 | 1.00 | 0 |",
        "| uniapi | 6000 | 1.50 | 0 |",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (12345.6, "12346")]
)
def test_figures_have_no_exponent(value: float, text: str) -> None:
    assert figure(value) == text


def test_a_target_is_met_or_missed_and_what_was_not_measured_is_not_told() -> None:
    table = filled()
    table.add(START, "uniapi", MappingProxyType({"start": 0.9, "rss idle": 49e6}))
    assert targets(table)[2:] == [
        (
            "| JSON call, CPU over the bare hypercorn hello | 2 x | 1.50 x "
            "| 1.50 to 3.00 | met, not in every round |"
        ),
        "| idle RSS | 50 MB | 49.0 MB |  | met |",
        "| start to listening, 100-line config | 0.7 s | 0.900 s |  | **missed** |",
    ]
    assert targets(Table()) == []


def test_a_busy_machine_is_told() -> None:
    assert "other work" not in markdown(filled(), [], 0.0)
    assert "other work" in markdown(filled(), [], 100.0)


def everything() -> Table:
    """A table that has every figure that a target asks for."""
    table = Table()
    names = "cpu per call,cpu per chunk,ttft p50,jitter p99,added p50,added p99,start,rss idle"
    figures = MappingProxyType(
        dict.fromkeys((*names.split(","), "rss a stream", "plan full", "errors"), 1e-6)
    )
    for scenario in (*(one.name for one in SCENARIOS), LATENCY, START, CROWD, "plan"):
        for one in (DIRECT, "hello", "uniapi", "uniapi DISABLE_DATABASE=true"):
            table.add(scenario, one, figures)
    return table


def test_every_target_is_in_the_report_of_a_full_run(tmp_path: Path) -> None:
    write(everything(), ["--full", "--report"], 0.1, tmp_path)
    report = (tmp_path / "RESULTS.md").read_text()
    assert all(f"| {one.what} |" in report for one in TARGETS)
    assert "python bench/compare.py --full --report" in report
    drawn = ET.parse(tmp_path / "results.svg").getroot()  # noqa: S314 - our own file
    assert len(drawn.findall("{*}rect")) > 10


def test_the_report_names_no_path_of_this_machine() -> None:
    shown = markdown(filled(), ["--tree", "/home/somebody/before"], 0.1)
    assert "--tree before" in shown
    assert "/home" not in shown
    assert dict(facts([], 0.1))["Python"].endswith(".".join(map(str, sys.version_info[:3])))


@given(
    st.lists(
        st.tuples(st.text(st.characters(blacklist_categories=("Cs", "Cc"))), st.floats(0, 1e9)),
        max_size=5,
    )
)
def test_a_plot_is_well_formed_whatever_the_names_and_its_bars_fit(
    bars: list[tuple[str, float]],
) -> None:
    drawn = ET.fromstring(svg((Panel("a < b & c", tuple(bars)),), "note"))  # noqa: S314 - our own text
    width = float(drawn.attrib["width"])
    for bar in drawn.findall("{*}rect"):
        assert float(bar.attrib.get("x", 0)) + float(bar.attrib["width"]) <= width


@pytest.mark.parametrize(
    "arguments",
    [
        ["--contenders", "nobody"],
        ["--scenarios", "nothing"],
        ["--tree", "tests"],
        ["--vary", "NAME"],
        ["--rounds", "-1"],
        ["--scale", "0"],
    ],
)
def test_wrong_arguments_of_a_comparison_exit_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_the_cpu_of_another_process_is_read_with_all_its_threads() -> None:
    spin = (
        "import threading,time,sys\n"
        "def work():\n"
        "    while time.thread_time() < 0.1: pass\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()\n"
        "print('done', flush=True); sys.stdin.read()\n"
    )
    process = subprocess.Popen(  # noqa: S603 - a loop of our own
        [sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"done\n"
        used = cost(process.pid)
        assert 0.1 <= used.cpu < 10  # the thread has ended, and counts
        assert resident(process.pid) == pytest.approx(used.rss, rel=0.2)
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(10)


def test_the_cpu_clock_is_our_own_clocks_sister() -> None:
    before, mine = cost(os.getpid()).cpu, time.process_time()
    end = time.process_time() + 0.02
    while time.process_time() < end:
        pass
    assert cost(os.getpid()).cpu - before >= 0.02
    assert before == pytest.approx(mine, abs=0.1)
