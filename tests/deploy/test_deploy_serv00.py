"""conf/serv00.sh, run by a strict shell on a PATH with nothing but what every FreeBSD has."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement

from tests.deploy.pages import CONF, run_by
from tests.e2e.running import NO_TLS, closed_port, until
from tests.kit.docs import ROOT
from uniapi import __version__

SCRIPT = CONF / "serv00.sh"
# Of FreeBSD's base system, as far as the script uses it; tmux, crontab and python are told apart.
_TOOLS = (
    "sh", "cat", "chmod", "cp", "cut", "date", "dirname", "du", "env", "grep", "mkdir", "mv", "ps",
    "rm", "sed", "sleep", "tail", "touch",
)  # fmt: skip

_FREEBSD = {
    "os_name": "posix", "sys_platform": "freebsd14", "platform_system": "FreeBSD",
    "platform_machine": "amd64", "platform_python_implementation": "CPython",
    "implementation_name": "cpython", "python_version": "3.11", "python_full_version": "3.11.11",
    "extra": "",
}  # fmt: skip

# A session is a process of its own, found again by a file with its number.
_TMUX = """#!/bin/sh
printf '%s\\n' "$*" >>"$FAKES/tmux.log"
case $1 in
    new-session) sh -c "$5" >>"$FAKES/pane" 2>&1 </dev/null & echo $! >"$FAKES/session" ;;
    has-session) [ -f "$FAKES/session" ] && kill -0 "$(cat "$FAKES/session")" 2>/dev/null ;;
    kill-session) kill -HUP "$(cat "$FAKES/session")" 2>/dev/null && rm "$FAKES/session" ;;
esac
"""
_CRONTAB = """#!/bin/sh
case $1 in
    -l) cat "$FAKES/crontab" 2>/dev/null || { echo 'no crontab for you' >&2; exit 1; } ;;
    -*) echo "crontab $1 asks you something" >&2; exit 2 ;;
    *) cat "$1" >"$FAKES/crontab" ;;
esac
"""
# `python -m venv` without the network: pip and what is needed lie in a folder beside it.
_PYTHON = """#!/bin/sh
case "$1 $2" in
    '-m venv')
        "$REAL" -m venv --without-pip "$3"
        echo "$LIBRARY" >"$3/lib/python{version}/site-packages/library.pth"
        ;;
    *) exec "$REAL" "$@" ;;
esac
"""
_CONFIG = """
providers:
  - provider: a
    base_url: http://127.0.0.1:9/v1/chat/completions
    api: ${KEY_OF_A}
    model: [m]
api_keys:
  - api: sk-serv00-test
"""


def closure() -> dict[str, importlib.metadata.Distribution]:
    """What a FreeBSD host would install for uniapi, by name."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [("uniapi", "")]
    while waiting:
        name, extra = waiting.pop()
        distribution = importlib.metadata.distribution(name)
        for line in distribution.requires or ():
            wanted = Requirement(line)
            if wanted.marker and not any(
                wanted.marker.evaluate({**_FREEBSD, "extra": one}) for one in {"", extra}
            ):
                continue
            if wanted.name not in found:
                found[wanted.name] = importlib.metadata.distribution(wanted.name)
                waiting += [(wanted.name, one) for one in ("", *wanted.extras)]
    return found


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies of pip and of uniapi's dependencies: what a package index would have given."""
    folder = tmp_path_factory.mktemp("library")
    for distribution in (*closure().values(), importlib.metadata.distribution("pip")):
        for file in distribution.files or ():
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(str(file.locate()), target)
    return folder


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout as a wheel, which needs no build tool."""
    path = tmp_path_factory.mktemp("wheel") / f"uniapi-{__version__}-py3-none-any.whl"
    info = f"uniapi-{__version__}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((ROOT / "uniapi").rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                archive.write(file, file.relative_to(ROOT))
        archive.write(CONF / "api.demo.yaml", "uniapi/demo/api.demo.yaml")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: uniapi\nVersion: {__version__}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@dataclass
class Host:
    """An account on a shared host.

    Attributes:
        home: its home folder, whose name is unkind to careless scripts.
        path: the only folder on PATH.
        fakes: what tmux and crontab have written.
    """

    home: Path
    path: Path
    fakes: Path
    env: dict[str, str] = field(default_factory=dict)
    script: Path = SCRIPT

    @property
    def place(self) -> Path:
        return self.home / ".uniapi"

    def tool(self, name: str, text: str) -> None:
        """Put a program on the PATH, in place of a copy that may be there, never into it."""
        draft = self.path / f"{name}.new"
        draft.write_text(text)
        draft.chmod(0o755)
        draft.replace(self.path / name)

    def runs(self, *words: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
        """`sh serv00.sh words`: its status, and all it said."""
        shell = shutil.which("dash") or "/bin/sh"
        done = subprocess.run(  # noqa: S603 - our own script
            [shell, str(self.script), *words],
            env={**self.env, **(env or {})},
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout

    def pastes(self, text: str) -> str:
        """A block of the page, in the folder with the source; what it said."""
        done = subprocess.run(  # noqa: S603 - what the page says
            [shutil.which("dash") or "/bin/sh", "-euc", text],
            env=self.env,
            cwd=self.home / "source",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def installed(self, port: int) -> None:
        """As after `install`, but with this Python and this checkout, in no time."""
        binary = self.place / "venv" / "bin" / "python"
        binary.parent.mkdir(parents=True)
        binary.write_text('#!/bin/sh\nexec "$REAL" "$@"\n')
        binary.chmod(0o755)
        (self.place / "settings").write_text(f"PORT={port}\nDISABLE_DATABASE=true\n")
        (self.place / "api.yaml").write_text(_CONFIG.replace("${KEY_OF_A}", "sk-a"))
        (self.place / "api.yaml").chmod(0o600)
        shutil.copy(SCRIPT, self.place / "serv00.sh")

    def crontab(self) -> list[str]:
        file = self.fakes / "crontab"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def host(tmp_path: Path, library: Path) -> Iterator[Host]:
    home, path, fakes = tmp_path / "it's 100% my $HOME", tmp_path / "bin", tmp_path / "fakes"
    for folder in (home, path, fakes):
        folder.mkdir()
    for name in _TOOLS:
        found = shutil.which(name)
        assert found, name
        shutil.copy(found, path / name)  # no link: what writes here must not write there
    host = Host(home, path, fakes)
    host.env = {
        "PATH": str(path), "HOME": str(home), "FAKES": str(fakes), "POSIXLY_CORRECT": "1",
        "LOCALBASE": str(tmp_path / "none"),
        "REAL": sys.executable, "LIBRARY": str(library),
        "PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1",
    }  # fmt: skip
    host.tool("tmux", _TMUX)
    host.tool("crontab", _CRONTAB)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    host.tool("python3.11", _PYTHON.format(version=version))
    yield host
    if (host.place / "pid").exists():
        host.runs("stop")


def answers(port: int) -> bool:
    try:
        return httpx.get(
            f"http://127.0.0.1:{port}/healthz", trust_env=False, verify=NO_TLS
        ).is_success
    except httpx.TransportError:
        return False


def test_the_shells_find_no_mistake_in_it() -> None:
    for shell in ("sh", "dash", "bash"):
        if shutil.which(shell):
            subprocess.run([shell, "-n", str(SCRIPT)], check=True)  # noqa: S603 - reads our own file


def test_shellcheck_finds_nothing() -> None:
    beside = Path(sys.executable).with_name("shellcheck")
    tool = str(beside) if beside.exists() else shutil.which("shellcheck")
    if tool is None:
        pytest.skip("there is no shellcheck")
    scripts = [str(SCRIPT), str(Path(__file__).with_name("boot.sh"))]
    done = subprocess.run(  # noqa: S603 - reads our own files
        [tool, "--shell=sh", "--severity=style", *scripts],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    "habit",
    [
        r"\[\[", r"^ *local ", r"(^|; |&& )source ", r"sed -i", r"sed -r", r"grep -P",
        r"readlink -f", r"\bseq\b", r"^ *timeout ", r"\bpgrep\b|\bpkill\b|\bkillall\b",
        r"==", r"\bcurl\b|\bwget\b", r"echo -[en]", r"<<<", r"\$'", r"&>", r"crontab -r",
    ],
)  # fmt: skip
def test_it_has_no_habit_that_freebsds_shell_does_not_share(habit: str) -> None:
    assert not re.search(habit, SCRIPT.read_text(), re.MULTILINE)


def test_all_that_would_be_installed_on_freebsd_is_pure_python() -> None:
    installed = closure()
    assert {"trio", "hypercorn", "httpx", "socksio", "strictyaml", "structlog"} <= set(installed)
    for name, distribution in installed.items():
        assert "Root-Is-Purelib: true" in (distribution.read_text("WHEEL") or ""), name
        compiled = [
            file for file in distribution.files or () if file.suffix in {".so", ".pyd", ".c"}
        ]
        assert compiled == [], name


def test_a_stranger_follows_the_page(host: Host, wheel: Path) -> None:
    install, write, start, daily, key, update, away = run_by("serv00.md", __file__)
    port = closed_port()
    source = host.home / "source" / "conf"
    source.mkdir(parents=True)
    for file in (SCRIPT, CONF / "api.minimal.yaml"):
        shutil.copy(file, source)
    host.env["UNIAPI_SOURCE"] = str(wheel)
    (host.fakes / "crontab").write_text("5 4 * * * something of mine\n")

    said = host.pastes(install.replace("12345", str(port)))
    assert f"installed uniapi {__version__}" in said
    assert "now write" in said
    assert (host.place / "settings").stat().st_mode & 0o077 == 0
    host.script = host.place / "serv00.sh"
    status, said = host.runs("start")
    assert (status, "no configuration" in said) == (1, True), said

    host.pastes(write)
    config = host.place / "api.yaml"
    assert config.stat().st_mode & 0o077 == 0
    config.write_text(_CONFIG)
    assert host.runs("set", "KEY_OF_A", "it's a $ecret")[0] == 0
    assert host.runs("set", "DISABLE_DATABASE", "true")[0] == 0
    assert f"it runs: http://127.0.0.1:{port}" in host.pastes(start)
    assert answers(port)
    assert "it runs already" in host.runs("start")[1]
    assert not (host.place / "data").exists(), "DISABLE_DATABASE is heard"

    said = host.pastes(daily)
    assert "runs as process" in said
    assert '"server.started"' in said
    assert not answers(port)
    host.pastes(key)
    del host.env["UNIAPI_SOURCE"]
    assert f"it runs: http://127.0.0.1:{port}" in host.pastes(update)
    assert host.crontab()[0] == "5 4 * * * something of mine"
    assert len(host.crontab()) == 3, "once is enough"

    host.pastes(away)
    assert not answers(port)
    assert host.crontab() == ["5 4 * * * something of mine"]
    assert not (host.place / "venv").exists()
    assert config.exists()
    assert host.runs("status")[0] == 1


def test_the_crontabs_line_starts_it(host: Host, wheel: Path) -> None:
    port = str(closed_port())
    env = {"CONFIG_URL": f"file://{host.home}/elsewhere.yaml", "HOST": "0.0.0.0"}
    (host.home / "elsewhere.yaml").write_text(_CONFIG.replace("${KEY_OF_A}", "sk-a"))
    status, said = host.runs("install", port, str(wheel), env=env)
    assert status == 0, said
    boot, rotate = host.crontab()
    when, _, command = boot.partition(" ")
    assert (when, rotate.partition(" ")[0]) == ("@reboot", "@daily")
    # cron takes a percent sign as the end of the command, unless it is escaped.
    assert re.search(r"(?<!\\)%", command) is None
    for line in (command, rotate.partition(" ")[2]):
        done = subprocess.run(  # noqa: S603 - the line, as cron runs it
            ["/bin/sh", "-c", line.replace(r"\%", "%")],
            env=host.env,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert (done.returncode, done.stderr) == (0, "")
    until(lambda: answers(int(port)), "it answers")
    assert "http://0.0.0.0" in (host.place / "uniapi.log").read_text()
    assert host.runs("stop")[0] == 0


def test_a_crash_is_followed_by_another_start(host: Host) -> None:
    host.tool("sleep", f'#!/bin/sh\n[ $1 = 5 ] || exec {shutil.which("sleep")} "$1"\n')
    port = closed_port()
    host.installed(port)
    assert host.runs("start")[0] == 0
    first = int((host.place / "pid").read_text())
    os.kill(first, 9)
    until(
        lambda: (host.place / "pid").exists() and (host.place / "pid").read_text() != f"{first}\n",
        "another process",
    )
    until(lambda: "status 137" in (host.fakes / "pane").read_text(), "the pane tells of it")
    until(lambda: answers(port), "it serves again")
    status, said = host.runs("stop")
    assert status == 0, said
    until(lambda: "ended with status 0" in (host.fakes / "pane").read_text(), "and of the end")


def test_it_runs_in_a_real_tmux(host: Host) -> None:
    tmux = shutil.which("tmux")
    if tmux is None:
        pytest.skip("there is no tmux")
    shutil.copy(tmux, host.path / "tmux.new")
    (host.path / "tmux.new").replace(host.path / "tmux")
    host.env["TMUX_TMPDIR"] = str(host.fakes)  # a server of its own
    port = closed_port()
    host.installed(port)
    status, said = host.runs("start")
    try:
        assert (status, f"it runs: http://127.0.0.1:{port}" in said) == (0, True), said
        assert answers(port)
        assert "it runs already" in host.runs("start")[1]
        os.kill(int((host.place / "pid").read_text()), 9)
        until(lambda: "between two tries" in host.runs("status")[1], "it has noticed")
        assert host.runs("stop")[0] == 0, "also in the pause"
        assert host.runs("status")[1] == "does not run\n"
        assert host.runs("start")[0] == 0
        assert host.runs("stop")[0] == 0
        assert not answers(port)
    finally:
        subprocess.run([tmux, "kill-server"], env=host.env, check=False)  # noqa: S603 - its own server


def test_what_is_missing_is_said_with_what_to_do(host: Host) -> None:
    status, said = host.runs("install")
    assert status == 1
    assert "devil port add tcp random" in said
    for wrong in ("80", "70000", "http", "-1", "123456789012"):
        status, said = host.runs("install", wrong, "/src")
        assert (status, "not a port" in said) == (1, True), said
    (host.path / "tmux").rename(host.path / "txum")
    assert "there is no tmux" in host.runs("install", "8123", "/src")[1]
    (host.path / "python3.11").unlink()
    status, said = host.runs("install", "8123", "/src")
    assert (status, "no Python 3.11 or newer" in said) == (1, True), said
    status, said = host.runs("start")
    assert (status, "not installed" in said) == (1, True)
    status, said = host.runs("frobnicate")
    assert (status, "there is no command frobnicate" in said) == (1, True)
    assert host.crontab() == []


def test_what_it_tells_you_to_type_can_be_typed(host: Host) -> None:
    """The script lies in a folder with blanks and quotes: every hint names it as one word."""
    host.script = host.home / "serv00.sh"
    shutil.copy(SCRIPT, host.script)
    said = [host.runs("start")[1], host.runs("install")[1], host.runs("install", "8123")[1]]
    (host.path / "python3.11").rename(host.path / "away")
    said.append(host.runs("install", "8123", "/src")[1])
    (host.path / "away").rename(host.path / "python3.11")
    host.installed(8123)
    said += [host.runs("set", "DISABLE_DATABASE", "true")[1], host.runs("set", "0")[1]]
    host.tool("tmux", "#!/bin/sh\n")
    said.append(host.runs("status")[1])
    (host.place / "api.yaml").unlink()
    host.tool("tmux", "#!/bin/sh\nexit 1\n")
    said.append(host.runs("start")[1])
    hints = [found for one in said for found in re.findall(r"\bsh .*", one)]
    typed = [as_typed(hint) for hint in hints]
    assert {script for _, script, *_ in typed} == {str(host.script)}
    assert [command for _, _, command, *_ in typed] == [
        "install", "install", "install", "install", "restart", "set", "log", "set",
    ]  # fmt: skip


def as_typed(command: str) -> list[str]:
    """The words that a shell takes a command for."""
    done = subprocess.run(  # noqa: S603 - what the script says
        ["/bin/sh", "-c", f"printf '%s\\n' {command}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    assert done.returncode == 0, command
    return done.stdout.splitlines()


def test_an_old_python_is_passed_over(host: Host) -> None:
    (host.path / "python3.11").unlink()
    host.tool("python3", "#!/bin/sh\nexit 1\n")  # what the version's question answers
    assert "no Python 3.11 or newer" in host.runs("install", "8123", "/src")[1]


def test_a_source_that_is_none_leaves_nothing_behind_that_would_start(host: Host) -> None:
    status, said = host.runs("install", "8123", str(host.home / "nothing here"))
    assert (status, "pip could not install it" in said) == (1, True), said
    assert host.crontab() == []


def test_help_names_every_command(host: Host) -> None:
    status, said = host.runs("help")
    assert status == 0
    assert said == host.runs()[1]
    offered = set(re.findall(r"^([a-z]+)\)", SCRIPT.read_text(), re.MULTILINE))
    assert offered - {"boot", "run", "rotate"} == {
        "install", "start", "stop", "restart", "status", "log", "attach", "set", "uninstall",
    }  # fmt: skip
    for command in offered - {"boot", "run", "rotate"}:
        assert re.search(rf"\b{command}\b", said)


def test_a_log_that_has_grown_is_set_aside(host: Host) -> None:
    host.installed(8123)
    log = host.place / "uniapi.log"
    log.write_text("small\n")
    assert host.runs("rotate")[0] == 0
    assert log.read_text() == "small\n"
    log.write_bytes(b"x" * 11_000_000)
    assert host.runs("rotate")[0] == 0
    assert log.read_text() == ""
    assert (host.place / "uniapi.log.1").stat().st_size == 11_000_000
