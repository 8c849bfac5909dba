"""A comparison as a document: the machine, the targets, the tables and a plot."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.plot import Panel, svg
from bench.scenarios import DIRECT
from bench.table import Table
from bench.targets import targets

_HERE: Final = Path(__file__).resolve().parent
_QUIET: Final = 0.2  # load average a core, below which nobody else is at work
_LIBRARIES: Final = ("trio", "hypercorn", "h11", "httpx", "orjson")
_PANELS: Final = (
    ("json", "cpu per call", "CPU of a JSON call, us", 1e6),
    ("burst", "cpu per chunk", "CPU of a chunk in a burst of 52, us", 1e6),
    ("burst-translated", "cpu per chunk", "the same, from Anthropic to OpenAI, us", 1e6),
    ("paced", "cpu per chunk", "CPU of a chunk at 20 ms, 100 streams, us", 1e6),
    ("paced-translated", "cpu per chunk", "the same, from Anthropic to OpenAI, us", 1e6),
    ("latency", "added p50", "latency added to a sequential JSON call, p50, ms", 1e3),
)
_HOW: Final = """\
## How it was measured

Every contender runs on one core; the load and the provider, a scripted one that costs about 25 us
a call, run on the others. All contenders are up at the same time and are asked one after the
other in every round; a figure is the median of the rounds, a ratio the median of the rounds'
ratios. CPU is the kernel's clock of the gateway's process, all threads, user and system. CPU per
chunk is the CPU of the whole call, divided by its 52 chunks: connection, request, head and end
are in it. Every answer is read to its end and compared with the text it should have. Streams of a
paced run begin spread over their length, so that they do not go in step. Jitter is how far the
gap between two reads is from the provider's; `direct` is the load without a gateway, with what
jitter it has itself. Everything is on loopback, and the log of each contender goes nowhere.

`hello` is an application on bare hypercorn that knows its answers; `naive` is hypercorn and httpx
in forty lines; uniapi runs as its users run it, with the configuration `contenders/api.yaml` of a
hundred lines. Nothing is set differently for the comparison.
"""


def write(table: Table, arguments: list[str], busy: float, folder: Path = _HERE) -> None:
    """`RESULTS.md` and `results.svg`; `busy` is the load average before the run."""
    (folder / "RESULTS.md").write_text(markdown(table, arguments, busy), encoding="utf-8")
    note = f"less is better; {_processor()}; {datetime.now(UTC):%Y-%m-%d}"
    (folder / "results.svg").write_text(svg(panels(table), note), encoding="utf-8")


def markdown(table: Table, arguments: list[str], busy: float) -> str:
    """The whole document."""
    quiet = busy < _QUIET * (os.cpu_count() or 1)
    warning = (
        ""
        if quiet
        else "**The machine had other work: every figure is too high, and the ratios are rough.**\n"
    )
    parts = [
        "# What it costs\n",
        "The last full run; `make bench` gives a short one.\n",
        *([warning] if warning else []),
        "\n".join(f"- {name}: {value}" for name, value in facts(arguments, busy)) + "\n",
        "## Targets\n",
        "\n".join(targets(table)) + "\n",
        "![CPU and latency, a bar a contender](results.svg)\n",
        _HOW,
        "## Figures\n",
        "\n".join(table.lines()) + "\n",
    ]
    return "\n".join(parts)


def facts(arguments: list[str], busy: float) -> list[tuple[str, str]]:
    """The machine, the versions and the command; no path of this machine is named."""
    shown = [re.sub(r"^/.*/", "", word) for word in arguments]
    release = ".".join(platform.release().split(".")[:2])  # what follows is a build's own name
    return [
        ("date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
        ("command", f"`{shlex.join(['python', 'bench/compare.py', *shown])}`"),
        ("processor", f"{_processor()}, {os.cpu_count()} cores"),
        ("system", f"{platform.system()} {release}, {platform.machine()}"),
        ("load average before the run", f"{busy:.2f}"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("libraries", ", ".join(_version(name) for name in _LIBRARIES)),
    ]


def panels(table: Table) -> tuple[Panel, ...]:
    """What is drawn: the measures that there are."""
    found: list[Panel] = []
    for scenario, name, title, factor in _PANELS:
        values = [
            (one, value * factor)
            for one in table.rows.get(scenario, ())
            if one != DIRECT and (value := table.median(scenario, one, name)) is not None
        ]
        if values:
            found.append(Panel(title, tuple(values)))
    return tuple(found)


def _version(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return f"no {name}"


def _processor() -> str:
    """The model of the CPU, as the system names it."""
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return found[1].strip()
    command = ["sysctl", "-n", "hw.model"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return platform.processor() or "unknown"
    return done.stdout.strip() or platform.processor() or "unknown"
