"""The life of the process: how it starts, what it says, which signals end it and how."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.running import KEY, NO_TLS, Streaming, closed_port, ran, running, served, until
from uniapi.demo import SIXTY, Behaviour, Provider

TLS = Path(__file__).parents[1] / "fixtures" / "tls"


def config(folder: Path, port: int = 9) -> Path:
    path = folder / "api.yaml"
    path.write_text(
        f"providers:\n  - provider: a\n    base_url: http://127.0.0.1:{port}/v1/chat/completions\n"
        f"    api: sk-up-0000\n    model: [m]\napi_keys:\n  - api: {KEY}\n    model: [all]\n"
    )
    path.chmod(0o600)
    return path


def refused(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_sigterm_lets_a_stream_finish_and_exits_0(tmp_path: Path) -> None:
    provider = Provider(Behaviour(gap=0.02))
    with served([provider]) as (port,):
        config(tmp_path, port)
        with running(tmp_path, "--port", "0") as process:
            streaming = Streaming(process.url)
            where = process.port
            process.signal(signal.SIGTERM)
            until(lambda: refused(where), "no more connections")
            assert not process.ended
            assert process.status() == 0
            streaming.thread.join()
    assert streaming.failed is None
    assert streaming.text.endswith("data: [DONE]\n\n")
    assert SIXTY.split()[-1] in streaming.text


def test_the_grace_of_sigterm_has_an_end(tmp_path: Path) -> None:
    provider = Provider(Behaviour(gap=0.02, tokens=5000))
    with served([provider]) as (port,):
        config(tmp_path, port)
        with running(tmp_path, "--port", "0", "--grace", "0.2") as process:
            streaming = Streaming(process.url)
            process.signal(signal.SIGTERM)
            assert process.status(seconds=10) == 0
            streaming.thread.join()
    assert streaming.failed is None
    assert '"code":"stopped"' in streaming.text
    assert "[DONE]" not in streaming.text, "what was cut must not look whole"


@pytest.mark.parametrize(
    ("signals", "status"),
    [([signal.SIGINT], 130), ([signal.SIGTERM, signal.SIGTERM], 143)],
    ids=["SIGINT", "SIGTERM twice"],
)
def test_these_end_it_at_once(tmp_path: Path, signals: list[signal.Signals], status: int) -> None:
    provider = Provider(Behaviour(gap=0.02, tokens=5000))
    with served([provider]) as (port,):
        config(tmp_path, port)
        with running(tmp_path, "--port", "0") as process:
            streaming = Streaming(process.url)
            for number, sent in enumerate(signals, start=1):
                process.signal(sent)
                until(lambda n=number: len(process.events("server.signal")) >= n, "heard")  # type: ignore[misc] # a default to bind the loop's value
            assert process.status(seconds=10) == status
            streaming.thread.join()
            assert "Traceback" not in "".join(process.err)


def test_sighup_does_not_end_it(tmp_path: Path) -> None:
    config(tmp_path)
    with running(tmp_path, "--port", "0") as process:
        url = process.url
        process.signal(signal.SIGHUP)
        until(lambda: bool(process.events("server.signal")), "the signal is heard")
        assert httpx.get(f"{url}/healthz", trust_env=False, verify=NO_TLS).status_code == 200
        process.signal(signal.SIGTERM)
        assert process.status() == 0


def test_a_log_nobody_reads_any_more_does_not_end_it(tmp_path: Path) -> None:
    config(tmp_path)
    with running(tmp_path, "--port", "0") as process:
        url = process.url
        assert process.command.stderr is not None
        stderr = process.command.stderr.fileno()
        # The pipe's reading end goes away, as a terminal does; writing to it fails from here on.
        with open("/dev/null", "rb") as nothing:  # noqa: PTH123 - its descriptor is wanted
            os.dup2(nothing.fileno(), stderr)
        for _ in range(3):
            assert httpx.get(f"{url}/v1/models", trust_env=False, verify=NO_TLS).status_code == 401


def test_a_port_in_use_is_said_with_what_to_do(tmp_path: Path) -> None:
    config(tmp_path)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with running(tmp_path, "--port", str(port), "--host", "127.0.0.1") as process:
            assert process.status() == 1
            said = "".join(process.err)
    assert f"cannot listen on 127.0.0.1:{port}: " in said
    assert "choose another with --port" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_an_address_that_is_not_ours_is_said_with_what_to_do(tmp_path: Path, host: str) -> None:
    config(tmp_path)
    status, _, said = ran(tmp_path, "--port", "0", "--host", host)
    assert status == 1
    assert f"cannot listen on {host}:0: " in said
    assert "choose another with --host" in said
    assert "Traceback" not in said


def test_an_ipv6_address_is_written_as_urls_have_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("there is no IPv6 here")
    with running(tmp_path, "--port", "0", "--host", "::1") as process:
        assert process.url.startswith("http://[::1]:")
        assert (
            httpx.get(f"{process.url}/healthz", trust_env=False, verify=NO_TLS).status_code == 200
        )
        until(lambda: any("curl" in line for line in process.out), "the demo's command")
        assert f" {process.url}/v1/chat/completions " in "".join(process.out)


def test_an_empty_port_in_the_environment_is_none(tmp_path: Path) -> None:
    config(tmp_path)
    with running(tmp_path, "--port", "0", env={"PORT": "", "HOST": ""}) as process:
        assert process.port
    status, _, said = ran(tmp_path, env={"PORT": "http"})
    assert (status, said.count("PORT: 'http' is not a port")) == (2, 1)


def test_the_port_may_come_from_the_environment(tmp_path: Path) -> None:
    config(tmp_path)
    port = closed_port()
    with running(tmp_path, env={"PORT": str(port), "HOST": "127.0.0.1"}) as process:
        assert process.url == f"http://127.0.0.1:{port}"


def test_without_a_config_the_demos_commands_work_when_pasted(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here to paste into")
    with running(tmp_path, "--port", "0") as process:
        assert process.url.startswith("http://127.0.0.1:")
        until(lambda: sum("curl" in line for line in process.out) == 2, "two commands")
        whole, streamed = [line.strip() for line in process.out if "curl" in line]
        shells = [
            subprocess.Popen(["sh", "-c", line], stdout=subprocess.PIPE, text=True)  # noqa: S603, S607 - what it tells people to do
            for line in (whole, streamed)
        ]
        answer, stream = (shell.communicate(timeout=10)[0] for shell in shells)
        until(lambda: len(process.events("request.done")) == 2, "two lines in the log")
    assert "This answer was written beforehand" in answer
    assert stream.endswith("data: [DONE]\n\n")
    for line in process.events("request.done"):
        assert str(line["attempts"]).startswith("broken/demo-broken;server_error;status=503")
        assert line["channel"] == "steady/demo-fallback"


def test_https_serves_http2_and_http_1_1(tmp_path: Path) -> None:
    config(tmp_path)
    arguments = ["--certfile", str(TLS / "localhost.pem"), "--keyfile", str(TLS / "localhost.key")]
    with running(tmp_path, "--port", "0", *arguments) as process:
        url = process.url.replace("127.0.0.1", "localhost")
        assert url.startswith("https://")
        verify = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
        for http2 in (True, False):
            with httpx.Client(http2=http2, verify=verify, trust_env=False) as client:
                answer = client.get(f"{url}/healthz")
                assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")


@pytest.mark.parametrize("files", [("nowhere.pem", "nowhere.key"), ("api.yaml", "api.yaml")])
def test_a_certificate_that_cannot_be_read_is_said_by_name(
    tmp_path: Path, files: tuple[str, str]
) -> None:
    config(tmp_path)
    with running(tmp_path, "--port", "0", "--certfile", files[0], "--keyfile", files[1]) as process:
        assert process.status() == 1
        said = "".join(process.err)
    assert f"cannot serve HTTPS with {files[0]} and {files[1]}: " in said
    assert "--certfile is" in said
    assert "Traceback" not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk to lend")
@pytest.mark.parametrize("away", [">/dev/full 2>&1", "<&- >&- 2>&-"], ids=["full", "closed"])
def test_it_serves_though_nobody_can_hear_it(tmp_path: Path, away: str) -> None:
    config(tmp_path).chmod(0o644)  # something to warn of
    port = closed_port()
    words = [sys.executable, "-m", "uniapi", "--host", "127.0.0.1", "--port", str(port)]
    command = f"exec {shlex.join(words)} {away}"
    with subprocess.Popen(["/bin/sh", "-c", command], cwd=tmp_path) as process:  # noqa: S603 - ourselves
        until(lambda: not refused(port) or process.poll() is not None, "listening")
        with httpx.Client(verify=NO_TLS) as client:
            assert client.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        process.terminate()
        process.wait(10)
    assert (tmp_path / "data" / "stats.db").read_bytes().startswith(b"SQLite format 3")
