"""The process as a scraper beside it sees it, and as the page's commands show it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.e2e.running import NO_TLS, Process, running
from tests.kit.docs import ROOT, commands
from uniapi.codec import JsonObject, loads

KEY = "sk-choose-something-long-and-random"


@contextmanager
def gateway(folder: Path) -> Iterator[Process]:
    path = folder / "api.yaml"
    path.write_text(
        "providers:\n  - provider: a\n    base_url: http://127.0.0.1:9/v1/chat/completions\n"
        f"    api: sk-up-0000\n    model: [m]\napi_keys:\n  - api: {KEY}\n    model: [all]\n"
    )
    path.chmod(0o600)
    quiet = {"DISABLE_DATABASE": "true"}
    arguments = ("serve", str(path), "--host", "127.0.0.1", "--port", "0")
    with running(folder, *arguments, env=quiet) as process:
        yield process


def test_a_scraper_on_the_same_machine_sees_the_process(tmp_path: Path) -> None:
    with (
        gateway(tmp_path) as process,
        httpx.Client(trust_env=False, verify=NO_TLS, timeout=10, base_url=process.url) as client,
    ):
        scraped = client.get("/metrics")
        assert scraped.status_code == 200
        samples = dict(line.rsplit(" ", 1) for line in scraped.text.splitlines() if line[0] != "#")
        assert float(samples["uniapi_client_connections"]) == 1
        assert float(samples["uniapi_config_reloads_total"]) == 0
        if Path("/proc/self/statm").exists():
            assert 10e6 < float(samples["process_resident_memory_bytes"]) < 300e6
            assert 5 < float(samples["process_open_fds"]) < float(samples["process_max_fds"])
        assert client.get("/metrics", headers={"x-forwarded-for": "::1"}).status_code == 401
        told = client.get("/v1/status", headers={"authorization": f"Bearer {KEY}"}).json()
        assert told["connections"]["clients"] == 1
        assert told["process"]["tasks"] > 3


def test_the_page_names_every_family_and_no_other(tmp_path: Path) -> None:
    section = (ROOT / "conf" / "operate.md").read_text().partition("## See what happens")[2]
    named = {
        f"uniapi{name.removeprefix('uniapi')}"
        for name in re.findall(r"`((?:uniapi)?_[a-z_]+)`", section.partition("\n## ")[0])
    }
    with (
        gateway(tmp_path) as process,
        httpx.Client(trust_env=False, verify=NO_TLS, timeout=10) as client,
    ):
        lines = client.get(f"{process.url}/metrics").text.splitlines()
    families = {line.split()[2] for line in lines if line.startswith("# TYPE uniapi_")}
    told = {name for name in named if not name.startswith("uniapi_statistics_")}  # it has no file
    assert told == families


def test_the_page_s_commands_show_what_it_says(tmp_path: Path) -> None:
    def shown(command: str) -> str:
        assert "127.0.0.1:8000" in command
        here = command.replace("http://127.0.0.1:8000", process.url)
        done = subprocess.run(here, shell=True, capture_output=True, text=True, check=False)  # noqa: S602 - what the page says
        assert done.returncode == 0, done.stderr
        return done.stdout

    def told(command: str) -> JsonObject:
        match loads(shown(command)):
            case dict() as found:
                return found
            case other:
                raise AssertionError(other)

    metrics, status, config, key = commands("conf/operate.md", "See what happens")
    with gateway(tmp_path) as process:
        assert "uniapi_build_info" in shown(metrics)
        assert "channels" in told(status)
        match told(config):
            case {"api_config": {"providers": [{"provider": "a"}]}}:
                pass
            case other:
                raise AssertionError(other)
        assert len(str(told(key)["api_key"])) == 51
