"""The process takes another configuration while it serves: from a file, a signal, an address."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest

from tests.e2e.running import ASK, KEY, NO_TLS, Process, Streaming, running, served, until
from tests.kit.serving import serving
from uniapi.codec import JsonObject
from uniapi.demo import SIXTY, Behaviour, Provider

OFTEN = {"CONFIG_INTERVAL": "1s"}


def config(name: str, port: int, key: str = KEY) -> str:
    return (
        f"providers:\n  - provider: {name}\n    base_url: http://127.0.0.1:{port}/v1/chat/completions\n"
        f"    api: sk-up-0000\n    model: [m]\napi_keys:\n  - api: {key}\n    model: [all]\n"
    )


def written(folder: Path, text: str) -> None:
    """As an editor does it: another file takes the name."""
    draft = folder / "draft"
    draft.write_text(text)
    draft.chmod(0o600)
    draft.rename(folder / "api.yaml")


def who_answers(process: Process) -> str:
    """The provider of a new request, by the log."""
    before = len(process.events("request.done"))
    answer = httpx.post(
        f"{process.url}/v1/chat/completions",
        json=ASK,
        headers={"authorization": f"Bearer {KEY}"},
        trust_env=False,
        verify=NO_TLS,
        timeout=20,
    )
    assert answer.status_code == 200, answer.text
    assert SIXTY.split()[-1] in answer.text
    until(lambda: len(process.events("request.done")) > before, "the log tells of it")
    return str(process.events("request.done")[-1]["channel"])


def heard(process: Process, event: str, times: int = 1) -> JsonObject:
    """The last log line of this event, when there are so many."""
    until(lambda: len(process.events(event)) >= times, f"{event}, {times} times")
    found = process.events(event)
    assert len(found) == times
    return found[-1]


def test_an_edit_drops_no_stream_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    old, new = Provider(Behaviour(gap=0.08)), Provider(Behaviour())
    with served([old, new]) as (first, second):
        written(tmp_path, config("old", first))
        with running(tmp_path, "--port", "0", env=OFTEN) as process:
            streaming = Streaming(process.url)
            written(tmp_path, config("new", second))
            reloaded = heard(process, "config.reloaded")
            assert streaming.thread.is_alive(), "the stream is still under way"
            assert who_answers(process) == "new/m"
            assert reloaded["providers_added"] == ["new"]
            assert reloaded["providers_removed"] == ["old"]

            written(tmp_path, config("new", second) + "preferences:\n  rate_limit: sometimes\n")
            rejected = heard(process, "config.rejected")
            assert "api.yaml:10: error: preferences.rate_limit" in str(rejected["problems"])
            assert who_answers(process) == "new/m"

            process.signal(signal.SIGHUP)
            heard(process, "config.rejected", times=2)
            assert who_answers(process) == "new/m"
            streaming.thread.join()
            assert streaming.failed is None
            assert streaming.text.endswith("data: [DONE]\n\n")
            assert '"server_error"' not in streaming.text

            written(tmp_path, config("newer", second))
            process.signal(signal.SIGUSR1)
            assert heard(process, "config.reloaded", times=2)["by"] == "signal"
            assert who_answers(process) == "newer/m"
            process.signal(signal.SIGHUP)
            assert heard(process, "config.unchanged")["by"] == "signal"
            process.signal(signal.SIGTERM)
            assert process.status() == 0
            assert "Traceback" not in "".join(process.err)
            assert "sk-up-0000" not in "".join(process.err)


@pytest.mark.parametrize("text", [config("a", 8), "providers: ["], ids=["good", "broken"])
def test_systemd_hears_of_every_reload_and_of_its_end(tmp_path: Path, text: str) -> None:
    written(tmp_path, config("a", 9))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(10)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with running(tmp_path, "--port", "0", env=env) as process:
            assert systemd.recv(1000).startswith(b"READY=1\n")
            assert process.port
            written(tmp_path, text)
            process.signal(signal.SIGHUP)
            assert systemd.recv(1000).startswith(b"RELOADING=1\n")
            assert systemd.recv(1000) == b"READY=1\nSTATUS=serving, 1 providers"
            process.signal(signal.SIGTERM)
            assert systemd.recv(1000).startswith(b"STOPPING=1\n")


def test_the_demo_gives_way_to_a_file(tmp_path: Path) -> None:
    provider = Provider(Behaviour())
    with served([provider]) as (port,), running(tmp_path, "--port", "0", env=OFTEN) as process:
        assert process.url.startswith("http://127.0.0.1:")
        written(tmp_path, config("mine", port))
        heard(process, "config.reloaded")
        assert heard(process, "demo.over")["host"] == "127.0.0.1"
        assert who_answers(process) == "mine/m"


@dataclass
class Web:
    """An address with a configuration that has a version.

    Attributes:
        text: what it serves.
        version: its tag.
        status: other than 200 fails.
        asked: the tag each request showed.
    """

    text: str = ""
    version: int = 1
    status: int = 200
    asked: list[str | None] = field(default_factory=list)
    port: int = 0


@pytest.fixture
def web() -> Iterator[Web]:
    found = Web()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        tag, shown = f'"v{found.version}"', handler.headers.get("if-none-match")
        found.asked.append(shown)
        same = shown == tag and found.status == 200
        body = b"" if same else found.text.encode()
        handler.send_response(304 if same else found.status)
        handler.send_header("etag", tag)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with serving(answer) as found.port:
        yield found


def test_an_address_is_asked_again_and_again(tmp_path: Path, web: Web) -> None:
    provider = Provider(Behaviour())
    env = {"CONFIG_URL": f"http://127.0.0.1:{web.port}/api.yaml", **OFTEN}
    with served([provider]) as (port,):
        web.text = config("first", port)
        with running(tmp_path, "--port", "0", env=env) as process:
            assert who_answers(process) == "first/m"
            until(lambda: web.asked[-1] == '"v1"', "it shows the tag it was given")
            web.text, web.version = config("second", port), 2
            assert heard(process, "config.reloaded")["by"] == "address"
            assert who_answers(process) == "second/m"
            web.status = 500
            failing = len(web.asked)
            until(lambda: len(web.asked) >= failing + 2, "it goes on asking")
            assert "it answers 500" in str(heard(process, "config.unavailable")["problem"])
            assert who_answers(process) == "second/m"
            web.status = 200
            heard(process, "config.unchanged")
            process.signal(signal.SIGHUP)
            heard(process, "config.unchanged", times=2)


def test_variables_that_say_nothing_are_told_of_at_the_start(tmp_path: Path) -> None:
    written(tmp_path, config("a", 9))
    doubtful = {"CONFIG_INTERVAL": "often", "DISABLE_DATABASE": "maybe"}
    with running(tmp_path, "--port", "0", env=doubtful) as process:
        assert process.port
        said = "".join(process.err)
    assert "CONFIG_INTERVAL:1: warning: the environment variable CONFIG_INTERVAL is no time" in said
    assert "DISABLE_DATABASE:1: warning: the environment variable DISABLE_DATABASE is nei" in said
    assert (tmp_path / "data" / "stats.db").exists(), "and statistics are kept"
