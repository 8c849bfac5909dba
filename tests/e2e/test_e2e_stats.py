"""Statistics of a running process: what was asked is in the file, and outlives the process."""

from __future__ import annotations

import signal
import stat
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx

from tests.e2e.running import KEY, NO_TLS, Process, running, served, until
from tests.kit.records import RECORD
from uniapi.codec import Json, loads
from uniapi.config.types import Secret
from uniapi.demo import Behaviour, Provider
from uniapi.demo.behaviour import PROMPT_TOKENS
from uniapi.stats.store import Store

ADMIN = "sk-admin-0000"
# One answer costs 0.127 dollars: 7 tokens at 1000 a million, 60 at 2000.
API = """
providers:
  - {provider: a, base_url: 'http://127.0.0.1:PORT/v1/chat/completions', api: sk-up, model: [m]}
api_keys:
  - {api: KEY, model: [a/m], preferences: {credits: 0.3CREATED}}
  - {api: sk-admin-0000, role: admin}
preferences: {model_price: {m: '1000,2000'}}
"""


def write(folder: Path, port: int, created: str = "") -> None:
    path = folder / "api.yaml"
    began = f", created_at: '{created}'" if created else ""
    text = API.replace("PORT", str(port)).replace("KEY", KEY).replace("CREATED", began)
    path.write_text(text)
    path.chmod(0o600)


def ask(process: Process) -> int:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    with httpx.Client(trust_env=False, verify=NO_TLS, timeout=10) as client:
        url, auth = f"{process.url}/v1/chat/completions", {"authorization": f"Bearer {KEY}"}
        return client.post(url, json=body, headers=auth).status_code


def get(process: Process, path: str, key: str = ADMIN) -> Json:
    with httpx.Client(trust_env=False, verify=NO_TLS, timeout=10) as client:
        answer = client.get(f"{process.url}{path}", headers={"x-api-key": key})
        assert answer.status_code == 200, answer.text
        return loads(answer.content)


def usage(process: Process) -> tuple[int, int, str]:
    """Requests, tokens and balance of the key, by its own word."""
    match get(process, "/v1/token_usage", KEY):
        case {
            "usage": [{"request_count": int(requests), "total_tokens": int(tokens)}],
            "query_details": {"balance": str(balance)},
        }:
            return requests, tokens, balance
        case {"usage": [], "query_details": {"balance": str(balance)}}:
            return 0, 0, balance
        case other:
            raise AssertionError(other)


def test_sums_and_credits_outlive_the_process(tmp_path: Path) -> None:
    one = PROMPT_TOKENS + 60
    with served([Provider(Behaviour())]) as (port,):
        write(tmp_path, port)
        with running(tmp_path, "--port", "0", "--host", "127.0.0.1") as process:
            assert usage(process) == (0, 0, "$0.3")
            assert [ask(process), ask(process)] == [200, 200]
            until(lambda: usage(process) == (2, 2 * one, "$0.046"), "the writer's turn")
            match get(process, "/v1/stats?hours=1"):
                case {"channel_success_rates": [success], "model_request_counts": [*models]}:
                    assert success == {"provider": "a", "success_rate": 1.0, "total_requests": 2}
                    assert {"model": "m", "count": 2} in models
                case other:
                    raise AssertionError(other)
            process.signal(signal.SIGTERM)
            assert process.status() == 0
        file = tmp_path / "data" / "stats.db"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        with running(tmp_path, "--port", "0", "--host", "127.0.0.1") as process:
            assert usage(process) == (2, 2 * one, "$0.046")
            assert ask(process) == 200  # it may overdraw by one
            assert ask(process) == 429
            until(lambda: usage(process)[:2] == (3, 3 * one), "the writer's turn")
            process.signal(signal.SIGKILL)
            process.status()
        with running(tmp_path, "--port", "0", "--host", "127.0.0.1") as process:
            assert usage(process) == (3, 3 * one, "-$0.081")
            assert ask(process) == 429
            match get(process, f"/v1/explain?model=m&key={Secret(KEY).digest}"):
                case {"text": str(text), "served": False}:
                    assert "credits: -$0.081 left of $0.3" in text
                case other:
                    raise AssertionError(other)
            # The budget begins anew, without a restart.
            write(tmp_path, port, datetime.now(UTC).isoformat())
            process.signal(signal.SIGHUP)
            until(lambda: bool(process.events("config.reloaded")), "a reload")
            assert usage(process)[2] == "$0.3"
            assert ask(process) == 200
        assert b"sk-" not in file.read_bytes()


def test_without_a_database_a_budget_lasts_as_long_as_the_process(tmp_path: Path) -> None:
    with served([Provider(Behaviour())]) as (port,):
        write(tmp_path, port)
        quiet = {"DISABLE_DATABASE": "true"}
        with running(tmp_path, "--port", "0", "--host", "127.0.0.1", env=quiet) as process:
            assert [ask(process) for _ in range(4)] == [200, 200, 200, 429]
            assert get(process, "/v1/stats") == {"stats": {}}
            [warning] = process.events("credits.forgotten_at_restart")
            assert warning["keys"] == [Secret(KEY).digest]
        assert [each.name for each in tmp_path.iterdir()] == ["api.yaml"]


def test_a_file_that_is_damaged_under_the_process_costs_one_answer(tmp_path: Path) -> None:
    with served([Provider(Behaviour())]) as (port,):
        write(tmp_path, port)
        file = tmp_path / "data" / "stats.db"
        with running(tmp_path, "--port", "0", "--host", "127.0.0.1") as process:
            assert ask(process) == 200
            with closing(Store(file)) as other:
                other.write(
                    [replace(RECORD, at=time.time(), id=f"{n:0100}") for n in range(5000)], {}
                )
                other.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            pages = file.stat().st_size // 4096
            with file.open("r+b") as damaged:
                damaged.seek(pages // 4 * 4096)  # amid the requests, where none is added
                damaged.write(b"\xff" * 5 * 4096)
            with httpx.Client(trust_env=False, verify=NO_TLS, timeout=10) as client:
                said = client.get(f"{process.url}/v1/stats", headers={"x-api-key": ADMIN})
            assert said.status_code == 503
            until(lambda: len(process.events("statistics.renewed")) == 1, "a new file")
            get(process, "/v1/stats")
            process.signal(signal.SIGTERM)
            assert process.status() == 0
