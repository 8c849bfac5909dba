"""Where the process finds its configuration, and what it does about a broken one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import httpx
import pytest

from tests.e2e.running import KEY, NO_TLS, closed_port, ran, running
from uniapi import __version__
from uniapi.cli import main

FIXTURES = Path(__file__).parents[1] / "fixtures" / "config"
SECRET = "sk-very-secret-0123456789"
GOOD = f"""
providers:
  - provider: a
    base_url: http://127.0.0.1:9/v1/chat/completions
    api: {SECRET}
    model: [m]
api_keys:
  - api: {KEY}
    model: [all]
"""
BROKEN = f"""
providers:
  - provider: a
    base_url: http://127.0.0.1:9/v1/chat/completions
    api: {SECRET}
    preferences: {SECRET}
    model: [m
api_keys:
  - api: {KEY}
    api: {SECRET}
"""
WRONG = GOOD + "preferences:\n  rate_limit: sometimes\n"
ODD = GOOD.replace("model: [all]", "model: [nowhere/m, all]")


def written(folder: Path, text: str, name: str = "api.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its own name
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A web server of the folder `web`."""
    folder = tmp_path / "web"
    folder.mkdir()
    with HTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_version_and_help_need_no_config(tmp_path: Path) -> None:
    assert ran(tmp_path, "--version") == (0, f"uniapi {__version__}\n", "")
    status, out, err = ran(tmp_path, "--help")
    assert (status, err) == (0, "")
    assert "serve" in out
    assert "check" in out


@pytest.mark.parametrize(
    "arguments",
    [["--port", "70000"], ["--nonsense"], ["--grace", "soon"], ["--grace", "-1"], ["a", "b"]],
)
def test_a_command_line_it_cannot_follow_is_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: uniapi" in capsys.readouterr().err


def test_a_certificate_without_its_key_is_a_command_line_it_cannot_follow(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--certfile", "x"]) == 2
    assert "go together" in capsys.readouterr().err


def test_check_says_what_is_well(tmp_path: Path) -> None:
    written(tmp_path, GOOD)
    status, out, _ = ran(tmp_path, "check")
    assert (status, out) == (0, "ok: 1 providers, 1 client keys, 0 errors, 0 warnings\n")


def test_check_says_where_what_and_what_instead(tmp_path: Path) -> None:
    written(tmp_path, WRONG)
    status, out, _ = ran(tmp_path, "check")
    assert status == 1
    assert "api.yaml:11" in out
    assert "rate_limit" in out
    assert "fix:" in out
    assert SECRET not in out


def test_check_makes_warnings_errors_when_strict(tmp_path: Path) -> None:
    path = written(tmp_path, ODD, "other.yaml")
    status, out, _ = ran(tmp_path, "check", str(path))
    assert status == 0
    assert "nowhere" in out
    assert ran(tmp_path, "check", str(path), "--strict")[0] == 1


def test_check_warns_of_credits_that_a_restart_forgets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, GOOD + "    preferences: {credits: 5}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISABLE_DATABASE", raising=False)
    assert main(["check", "--strict"]) == 0
    monkeypatch.setenv("DISABLE_DATABASE", "true")
    assert main(["check", "--strict"]) == 1
    said = capsys.readouterr().out
    assert "api.yaml:1: warning: credits without statistics: " in said
    assert "fix: unset DISABLE_DATABASE" in said
    written(tmp_path, GOOD)
    assert main(["check", "--strict"]) == 0


def test_check_without_anything_to_check_is_1(tmp_path: Path) -> None:
    status, out, _ = ran(tmp_path, "check")
    assert status == 1
    assert "no configuration" in out
    assert ran(tmp_path, "check", "missing.yaml")[0] == 1


@pytest.mark.parametrize("text", [BROKEN, WRONG, ""], ids=["syntax", "meaning", "empty"])
def test_a_broken_config_never_starts_and_never_shows_a_secret(
    tmp_path: Path,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written(tmp_path, text)
    status, out, err = ran(tmp_path, "--port", "0")
    assert status == 1
    assert "not started" in err
    assert "api.yaml:" in err
    assert "server.started" not in err
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 1
    for said in (out, err, *capsys.readouterr()):
        assert SECRET not in said
        assert KEY not in said
        assert "Traceback" not in said


@pytest.mark.parametrize("name", ["seed_minimal.yaml", "seed_advanced.yaml"])
def test_the_examples_people_start_from_start_as_they_stand(tmp_path: Path, name: str) -> None:
    with running(tmp_path, str(FIXTURES / name), "--port", "0") as process:
        assert (
            httpx.get(f"{process.url}/healthz", trust_env=False, verify=NO_TLS).status_code == 200
        )
        assert not any("Traceback" in line for line in process.err)


def test_warnings_are_said_and_do_not_stop_it(tmp_path: Path) -> None:
    written(tmp_path, ODD)
    with running(tmp_path, "--port", "0") as process:
        assert (
            httpx.get(f"{process.url}/healthz", trust_env=False, verify=NO_TLS).status_code == 200
        )
        assert any("warning" in line and "nowhere" in line for line in process.err)


def test_a_config_may_come_from_an_address(tmp_path: Path, web: str) -> None:
    written(tmp_path / "web", GOOD, "config.yaml")
    env = {"CONFIG_URL": f"{web}/config.yaml"}
    told = ""
    for _ in ("the address", "the last good copy"):
        with running(tmp_path, "--port", "0", env=env) as process:
            started = process.url
            headers = {"authorization": f"Bearer {KEY}"}
            listed = httpx.get(
                f"{started}/v1/models", headers=headers, trust_env=False, verify=NO_TLS
            ).json()
            assert [model["id"] for model in listed["data"]] == ["m"]
            told = "".join(process.err)
        (tmp_path / "web" / "config.yaml").unlink(missing_ok=True)
    assert "last good copy" in told, "the second time the address had nothing"
    assert SECRET not in told


def test_an_address_without_a_config_never_starts(tmp_path: Path, web: str) -> None:
    urls = [f"{web}/missing.yaml", f"http://127.0.0.1:{closed_port()}/x", "ftp://x/y"]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(running(tmp_path, "--port", "0", env={"CONFIG_URL": url}))
            for url in urls
        ]
        for process, url in zip(processes, urls, strict=True):
            assert process.status() == 1, url
            said = "".join(process.err)
            assert "not started" in said
            assert "Traceback" not in said


def test_a_config_may_come_from_a_file_address(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD, "elsewhere.yaml")
    with running(tmp_path, "--port", "0", env={"CONFIG_URL": path.as_uri()}) as process:
        assert (
            httpx.get(f"{process.url}/healthz", trust_env=False, verify=NO_TLS).status_code == 200
        )


def test_a_value_may_come_from_the_environment(tmp_path: Path) -> None:
    written(tmp_path, GOOD.replace(SECRET, "${PROVIDER_KEY}").replace(KEY, "${A_KEY:-sk-default}"))
    status, out, _ = ran(tmp_path, "check")
    assert status == 1
    assert "PROVIDER_KEY" in out
    with running(tmp_path, "--port", "0", env={"PROVIDER_KEY": SECRET}) as process:
        headers = {"authorization": "Bearer sk-default"}
        assert httpx.get(
            f"{process.url}/v1/models", headers=headers, trust_env=False, verify=NO_TLS
        ).is_success
