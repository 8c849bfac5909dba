"""What the process says of itself is true, and where it cannot be known nothing is said."""

from __future__ import annotations

import os
import platform
import resource
from contextlib import ExitStack
from pathlib import Path

import pytest

from uniapi.stats import process
from uniapi.stats.metrics import Metrics

LINUX = platform.system() == "Linux"
linux = pytest.mark.skipif(not LINUX, reason="others have no /proc as this test expects it")


def shown() -> dict[str, float]:
    metrics = Metrics()
    process.measure(metrics)
    lines = [line for line in metrics.render().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.split() for line in lines)}


def nowhere(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As on FreeBSD: no /proc, and a /dev/fd of three names, whatever else is open."""
    monkeypatch.setattr(process, "_STATM", folder / "statm")
    monkeypatch.setattr(process, "_LISTINGS", (folder / "fd", folder / "dev"))
    (folder / "dev").mkdir()
    for name in "012":
        (folder / "dev" / name).touch()


def test_what_a_system_does_not_tell_is_absent_and_no_wrong_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    everywhere = {
        "process_start_time_seconds",
        "process_cpu_seconds_total",
        "process_max_fds",
        "uniapi_peak_memory_bytes",
    }
    assert shown().keys() - everywhere == {
        "process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds",
    } or not LINUX  # fmt: skip
    nowhere(monkeypatch, tmp_path)
    assert shown().keys() == everywhere
    assert (process.memory(), process.open_files()) == (None, None)
    monkeypatch.setattr(platform, "system", lambda: "SunOS")
    assert shown().keys() == everywhere - {"uniapi_peak_memory_bytes"}


@pytest.mark.parametrize("text", [b"", b"1", b"not numbers"])
def test_a_proc_that_is_not_linux_s_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: bytes
) -> None:
    nowhere(monkeypatch, tmp_path)
    (tmp_path / "statm").write_bytes(text)
    assert process.memory() is None


@linux
@pytest.mark.parametrize("listing", ["/proc/self/fd", "/dev/fd"])
def test_open_files_are_those_that_are_open_but_not_the_looking(
    monkeypatch: pytest.MonkeyPatch, listing: str
) -> None:
    monkeypatch.setattr(process, "_LISTINGS", (Path("/nowhere"), Path(listing)))
    before = process.open_files()
    assert before is not None
    with ExitStack() as stack:
        for _ in range(7):
            stack.enter_context(Path(os.devnull).open())
        assert process.open_files() == before + 7
    assert process.open_files() == before
    known = {number for number in range(1000) if _is_open(number)}
    assert before == len(known)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@linux
def test_memory_in_use_is_not_more_than_its_peak_nor_than_the_address_space() -> None:
    told = process.memory()
    peak = process.peak_memory()
    assert told is not None
    assert peak is not None
    space, resident = told
    assert 1_000_000 < resident <= space
    assert resident < 1.1 * peak  # the kernel counts the peak in batches


@pytest.mark.parametrize(
    ("system", "unit"), [("Linux", 1024), ("FreeBSD", 1024), ("Darwin", 1), ("SunOS", None)]
)
def test_each_system_tells_the_peak_in_its_own_unit(
    monkeypatch: pytest.MonkeyPatch, system: str, unit: int | None
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    before, found, after = _most(), process.peak_memory(), _most()
    if unit is None:
        assert found is None
    else:
        assert found is not None
        assert before * unit <= found <= after * unit


def _most() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
