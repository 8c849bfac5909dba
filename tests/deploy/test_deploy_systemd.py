"""conf/uniapi.service: everything it names exists, and systemd hears what it waits for."""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.pages import CONF
from tests.e2e.running import running, until
from tests.kit.docs import ROOT
from uniapi import cli

UNIT = CONF / "uniapi.service"
PAGE = (CONF / "systemd.md").read_text()


def options() -> dict[str, list[str]]:
    """The unit's options; one given several times has several values."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


def variables() -> dict[str, str]:
    """What `Environment=` sets."""
    words = [word for line in options()["Environment"] for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words)


def seconds(name: str) -> float:
    (value,) = options()[name]
    return float(value)


def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    program = tmp_path / "uniapi"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / "uniapi.service"
    copy.write_text(UNIT.read_text().replace("/opt/uniapi/bin/uniapi", str(program)))
    done = subprocess.run(  # noqa: S603 - its own file
        ["systemd-analyze", "verify", str(copy)],  # noqa: S607 - of this machine
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    said = [line for line in done.stderr.splitlines() if "uniapi" in line]
    assert (done.returncode, said) == (0, [])


def test_the_page_states_the_exposure_that_systemd_finds() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze")
    done = subprocess.run(  # noqa: S603 - its own file
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],  # noqa: S607 - of this machine
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze looks at running services only")
    found = re.search(r"exposure level for uniapi.service: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= 1.5
    stated = re.search(r"gives the unit an exposure of ([0-9.]+)", " ".join(PAGE.split()))
    assert stated
    assert stated[1] == found[1]


def test_its_command_is_one_of_the_program() -> None:
    (command,) = options()["ExecStart"]
    program, *arguments = shlex.split(command)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert Path(program).name in scripts
    parsed = cli._parser().parse_args(arguments)
    assert parsed.command == "serve"
    assert parsed.config is None, "a path here would go before CONFIG_URL"


@pytest.mark.parametrize("text", re.findall(r"^ExecStart=(\S.*)$", PAGE, re.MULTILINE))
def test_the_commands_of_the_page_are_of_the_program(text: str) -> None:
    assert cli._parser().parse_args(shlex.split(text)[1:]).command == "serve"


def test_every_variable_it_sets_is_read() -> None:
    source = "".join(path.read_text() for path in (ROOT / "uniapi").rglob("*.py"))
    assert [name for name in variables() if f'"{name}"' not in source] == []


def test_what_is_written_lies_where_it_may_write() -> None:
    (state,), (cache,) = options()["StateDirectory"], options()["CacheDirectory"]
    assert options()["ProtectSystem"] == ["strict"]
    assert Path(variables()["DB_PATH"]).parent == Path("/var/lib") / state
    # The copy of CONFIG_URL is in a folder of this name below XDG_CACHE_HOME.
    assert Path(variables()["XDG_CACHE_HOME"]) / "uniapi" == Path("/var/cache") / cache
    assert "ReadWritePaths" not in options()
    assert "ConfigurationDirectory" not in options()


def test_the_configuration_is_looked_for_where_the_page_puts_it() -> None:
    (folder,) = options()["WorkingDirectory"]
    asserted = [value.removeprefix("|") for value in options()["AssertPathExists"]]
    (variables_file,) = options()["EnvironmentFile"]
    assert asserted == [f"{folder}/api.yaml", variables_file.removeprefix("-")]
    assert variables_file.startswith("-"), "it may be missing"
    for path in (*asserted, variables()["DB_PATH"], f"{variables()['XDG_CACHE_HOME']}/uniapi"):
        assert f"`{path}`" in PAGE


def test_it_waits_longer_than_the_program_does() -> None:
    grace = cli._parser().parse_args(["serve"]).grace
    assert seconds("TimeoutStopSec") >= grace + 10
    for text in re.findall(r"--grace (\d+)\nTimeoutStopSec=(\d+)", PAGE):
        assert int(text[1]) >= int(text[0]) + 10


def test_a_sign_of_life_may_be_late_by_seconds() -> None:
    assert options()["Type"] == ["notify"]
    assert seconds("WatchdogSec") / 2 >= 10


def test_a_wrong_command_line_is_not_tried_again_and_a_wish_to_end_is_no_failure() -> None:
    assert options()["Restart"] == ["on-failure"]
    assert options()["RestartPreventExitStatus"] == ["2"]
    assert options()["SuccessExitStatus"] == [f"130 {128 + signal.SIGTERM}"]


def test_it_may_do_what_the_program_does() -> None:
    families = options()["RestrictAddressFamilies"][0].split()
    assert families == ["AF_INET", "AF_INET6", "AF_UNIX"]
    assert options()["CapabilityBoundingSet"] == [""]
    assert int(options()["LimitNOFILE"][0]) >= 4096


class Manager:
    """The datagram socket of a service manager that asks who is speaking."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(path)
        self.socket.settimeout(10)

    def hears(self) -> tuple[str, int]:
        """The next message, and the process it is from."""
        message, extra, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(12))
        ((_, _, credentials),) = extra
        return message.decode(), int.from_bytes(credentials[:4], sys.byteorder)

    def more(self, seconds: float = 0) -> bool:
        """Whether another message is there, or comes within so many seconds."""
        return bool(select.select([self.socket], [], [], seconds)[0])


def _state(pid: int) -> str:
    """What Linux says the process does: R, S, T, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    if sys.platform != "linux":
        pytest.skip("the sender's number is asked for as Linux has it")
    manager = Manager(str(tmp_path / "notify"))
    with manager.socket:
        yield manager


def test_the_main_process_says_when_it_serves_lives_and_drains(
    tmp_path: Path, manager: Manager
) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    with running(tmp_path, "--port", "0", env=env) as process:
        pid = process.command.pid  # which has started itself again by the time it speaks
        message, sender = manager.hears()
        assert sender == pid
        assert message.startswith(f"READY=1\nSTATUS=serving {process.url}, ")
        assert manager.hears() == ("WATCHDOG=1", pid)
        assert manager.hears() == ("WATCHDOG=1", pid)
        process.signal(signal.SIGTERM)
        heard = [manager.hears()[0]]
        while heard[-1] == "WATCHDOG=1":
            heard.append(manager.hears()[0])
        assert heard[-1] == "STOPPING=1\nSTATUS=draining, 0 connections open"
        assert process.status() == 0
        assert process.events("notify.failed") == []


def test_a_process_that_stands_still_gives_no_sign_of_life(
    tmp_path: Path, manager: Manager
) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
    with running(tmp_path, "--port", "0", env=env) as process:
        manager.hears()
        manager.hears()
        process.signal(signal.SIGSTOP)
        until(lambda: _state(process.command.pid) == "T", "it stands still")
        while manager.more():
            manager.hears()
        assert not manager.more(seconds=0.3), "six signs are missing"
        process.signal(signal.SIGCONT)
        assert manager.hears()[0] == "WATCHDOG=1"


_DENY = """
import ctypes, mmap, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
    sys.exit(77)
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except OSError:
    os.execv(sys.executable, [sys.executable, "-m", "uniapi", "--port", "0"])
"""


def test_python_bears_memory_that_is_never_both_written_and_run(tmp_path: Path) -> None:
    assert options()["MemoryDenyWriteExecute"] == ["yes"]
    if sys.platform != "linux":
        pytest.skip("Linux has this restriction")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DISABLE_DATABASE": "true"}
    with subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-c", _DENY],
        cwd=tmp_path,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            if not line and process.wait(10) == 77:
                pytest.skip("this kernel is older than 6.3")
            assert '"server.started"' in line
        finally:
            process.kill()
