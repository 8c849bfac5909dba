"""The README's commands, run as a newcomer types them; only the port is the system's choice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.running import Process, running, served, until
from tests.kit import index
from tests.kit.docs import ROOT, commands, snippet
from uniapi.codec import loads
from uniapi.demo import Behaviour, Provider

PAGE = "README.md"
KEY = "sk-choose-something-long-and-random"
_BIN = str(Path(sys.executable).parent)
_CONFIG = """
providers:
  - provider: openai
    base_url: http://127.0.0.1:{port}/v1/chat/completions
    api: sk-upstream
    model: [gpt-4o]
api_keys:
  - api: {key}
"""


def shell(
    command: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command as a newcomer types it, with our `uniapi` on the path, to its end."""
    path = f"{_BIN}:{os.environ['PATH']}"
    # A newcomer's make is not called by another, which would say so on its output.
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    return subprocess.run(  # noqa: S602 - what the page says, in a shell as its reader has one
        command,
        shell=True,
        cwd=cwd,
        env={**plain, "PATH": path, **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@contextmanager
def started(
    command: str, cwd: Path, env: Mapping[str, str] | None = None, *, path: str = _BIN
) -> Iterator[Process]:
    """A command that goes on, in an environment with nothing else in it."""
    clean = {"PATH": f"{path}:{os.environ['PATH']}", "HOME": str(cwd), "DISABLE_DATABASE": "true"}
    process = Process(
        subprocess.Popen(  # noqa: S602 - as above
            f"exec {command}",
            shell=True,
            cwd=cwd,
            env={**clean, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
    )
    try:
        yield process
    finally:
        if not process.ended:
            os.killpg(process.command.pid, 9)
        process.stop()


def write(folder: Path, text: str) -> None:
    """The reader's own api.yaml, for that reader alone."""
    (folder / "api.yaml").write_text(text)
    (folder / "api.yaml").chmod(0o600)


def make_in(folder: Path) -> None:
    """A checkout with its environment set up: ours, borrowed."""
    shutil.copy2(ROOT / "Makefile", folder)
    shutil.copy2(ROOT / "pyproject.toml", folder)
    ours, theirs = Path(_BIN).parent, folder / ".venv"
    theirs.mkdir()
    shutil.copy2(ours / "pyvenv.cfg", theirs)
    for name in ("bin", "lib"):
        (theirs / name).symlink_to(ours / name)
    (theirs / ".run").touch()  # newer than pyproject.toml: nothing is installed into ours


def test_make_run_starts_the_demo_and_the_readme_s_configuration_checks(tmp_path: Path) -> None:
    run, check = commands(PAGE, "Run it")
    make_in(tmp_path)
    with started(run, tmp_path, {"PORT": "0"}) as process:
        until(lambda: any("curl" in line for line in process.out), "the demo's welcome")
        assert process.url.startswith("http://127.0.0.1:")
    write(tmp_path, snippet(PAGE, "Run it", "yaml"))
    checked = shell(check, tmp_path, {"OPENAI_API_KEY": "sk-1", "GROQ_API_KEY": "gsk-1"})
    assert checked.stdout == "ok: 2 providers, 1 client keys, 0 errors, 0 warnings\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where `pip install .` put the command, in an environment that had nothing."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)  # noqa: S603 - ourselves
    install = commands(PAGE, "Install it")[0]
    assert install == "pip install ."
    into = {"PIP_PYTHON": str(folder / "bin" / "python"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    index.installed(shell(install, ROOT, into))
    return str(folder / "bin")


def test_the_installed_command_serves_checks_and_explains(tmp_path: Path, installed: str) -> None:
    _, bare, serve, check, explain, version = commands(PAGE, "Install it")
    write(tmp_path, _CONFIG.format(port=9, key="sk-…"))
    shutil.copy(tmp_path / "api.yaml", tmp_path / "my.yaml")
    path = {"PATH": f"{installed}:{os.environ['PATH']}"}
    assert shell("command -v uniapi", tmp_path, path).stdout == f"{installed}/uniapi\n"

    with started(bare, tmp_path, {"PORT": "0"}, path=installed) as process:
        assert process.url.startswith("http://127.0.0.1:")  # 0.0.0.0, seen from here
    assert "--port 9000" in serve
    with started(serve.replace("9000", "0"), tmp_path, path=installed) as process:
        assert process.url.startswith("http://127.0.0.1:")
    checked = shell(check, tmp_path, path)
    assert (checked.returncode, checked.stdout[:3]) == (0, "ok:"), checked.stdout
    explained = shell(explain, tmp_path, path)
    assert explained.returncode == 0, explained.stderr
    assert "openai/gpt-4o" in explained.stdout
    assert shell(version, tmp_path, path).stdout.startswith("uniapi 0.")


def test_the_curl_lines_and_the_sdk_snippet_reach_a_gateway(tmp_path: Path) -> None:
    chat, models = commands(PAGE, "Point your clients at it")
    code = snippet(PAGE, "Point your clients at it", "python")
    said = "Hello there, newcomer."
    with served([Provider(Behaviour(text=said))]) as (port,):
        write(tmp_path, _CONFIG.format(port=port, key=KEY))
        with running(tmp_path, "--port", "0", "--host", "127.0.0.1") as process:
            here = process.url.removeprefix("http://")

            def there(text: str) -> str:
                assert "127.0.0.1:8000" in text
                return text.replace("127.0.0.1:8000", here)

            streamed = shell(there(chat), tmp_path).stdout
            assert streamed.rstrip().endswith("data: [DONE]")
            match loads(shell(there(models), tmp_path).stdout):
                case {"data": [{"id": id_}]}:
                    assert id_ == "gpt-4o"
                case other:
                    raise AssertionError(other)
            ask = "messages=[{'role': 'user', 'content': 'Hello'}]"
            script = f"{there(code)}\nr = client.chat.completions.create(model='gpt-4o', {ask})\n"
            script += "print(r.choices[0].message.content)\n"
            (tmp_path / "client.py").write_text(script)
            assert shell("python client.py", tmp_path).stdout.strip() == said
