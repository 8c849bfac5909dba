"""The statistics of a real process: a kill in mid-write, a restart, and every way to have none."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.e2e.running import KEY, NO_TLS, Process, running, served, until
from tests.kit.docs import commands
from uniapi.codec import JsonObject
from uniapi.demo import Behaviour, Provider
from uniapi.stats.store import reader

ASK: JsonObject = {"model": "m", "messages": [{"role": "user", "content": "a secret wish"}]}
BATCH = 20

# Writes batches of 20 requests of 2 attempts until it is killed; says how many it has written.
_WRITING = f"""
import sys
from pathlib import Path
from uniapi.stats.record import Attempted, Record
from uniapi.stats.store import Step, Store, Taken

store, batch = Store(Path(sys.argv[1])), int(sys.argv[2])
step = Step("client", "ada", "", "", "requests", 86400.0, 1)
tried = (Attempted("a", "m", "", "ok", "", 1.0, 1.0, 1),) * 2
while True:
    batch += 1
    one = Record(0.0, str(batch), "", "", "ada", "m", True, 200, "ok", "", "a", "m", 1.0, 1.0, 1,
                 1, 2, 0.0, (), tried)
    store.write([one] * {BATCH}, {{step: Taken(1.0, {BATCH})}})
    print(batch, flush=True)
"""


def asked(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(reader(path)) as connection:
        return connection.execute(query).fetchall()


def test_a_kill_in_mid_write_leaves_whole_batches_and_a_sound_file(tmp_path: Path) -> None:
    path, rng, told = tmp_path / "stats.db", random.Random(7), 0  # noqa: S311 - a fixed seed, for moments
    for _ in range(12):
        with subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-c", _WRITING, str(path), str(told + 1)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        ) as writing:
            assert writing.stdout is not None
            begun = told = int(writing.stdout.readline())
            threading.Event().wait(rng.uniform(0, 0.03))
            writing.kill()
            for line in writing.stdout:
                if line.endswith("\n"):
                    told = int(line)
            assert told >= begun
        # Opened as the gateway opens it: what the file says of itself is not touched before.
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            counts = connection.execute(
                "SELECT request, count(*) FROM requests GROUP BY request"
            ).fetchall()
            sums = [
                connection.execute(query).fetchone()[0]
                for query in (
                    "SELECT count(*) FROM requests",
                    "SELECT count(*) / 2 FROM attempts",
                    "SELECT sum(requests) FROM days",
                    "SELECT sum(amount) FROM taken",
                )
            ]
        batches = {int(request): count for request, count in counts}
        assert set(batches.values()) == {BATCH}, "no half of a batch"
        assert told in batches, "what was said to be written is there"
        assert sums == [len(batches) * BATCH] * 4
        told = max(batches)


def config(folder: Path, port: int) -> None:
    path = folder / "api.yaml"
    path.write_text(
        f"providers:\n  - provider: a\n    base_url: http://127.0.0.1:{port}/v1/chat/completions\n"
        f"    api: sk-up-0000\n    model: [m]\napi_keys:\n  - api: {KEY}\n    role: ada\n"
        "    preferences: {rate_limit: 10/day}\n"
    )
    path.chmod(0o600)


def ask(process: Process, number: int) -> list[int]:
    with httpx.Client(
        base_url=process.url,
        trust_env=False,
        verify=NO_TLS,
        headers={"authorization": f"Bearer {KEY}"},
    ) as client:
        return [client.post("/v1/chat/completions", json=ASK).status_code for _ in range(number)]


def test_a_killed_gateway_remembers_its_requests_and_its_limits(tmp_path: Path) -> None:
    with served([Provider(Behaviour(tokens=5))]) as (port,):
        config(tmp_path, port)
        path = tmp_path / "data" / "stats.db"
        with running(tmp_path, "--port", "0") as process:
            assert ask(process, 7) == [200] * 7
            until(lambda: asked(path, "SELECT count(*) FROM requests") == [(7,)], "written")
            process.signal(signal.SIGKILL)
            process.status()
        with running(tmp_path, "--port", "0") as process:
            assert ask(process, 4) == [200] * 3 + [429]
            process.signal(signal.SIGTERM)
            assert process.status() == 0
            assert process.events("statistics.on")[0]["windows"] == 1
    assert asked(path, "SELECT status, count(*) FROM requests GROUP BY status") == [
        (200, 10),
        (429, 1),
    ], "the end has written what was waiting"
    assert asked(path, "SELECT label FROM labels ORDER BY label") == [("a #1",), ("ada",)]
    if shutil.which("sqlite3"):
        for command in commands("conf/operate.md", "Statistics"):
            said = subprocess.run(  # noqa: S602 - as the page says it
                command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
            )
            assert said.stderr == ""
            assert ("a|ok|10" in said.stdout) == ("attempts" in command)
        assert asked(tmp_path / "stats-copy.db", "SELECT count(*) FROM requests") == [(11,)]
    held = path.read_bytes()
    for secret in (KEY, "sk-up-0000", "a secret wish"):
        assert secret.encode() not in held


def test_disable_database_makes_no_file(tmp_path: Path) -> None:
    with served([Provider(Behaviour())]) as (port,):
        config(tmp_path, port)
        with running(tmp_path, "--port", "0", env={"DISABLE_DATABASE": "True"}) as process:
            assert ask(process, 1) == [200]
            process.signal(signal.SIGTERM)
            assert process.status() == 0
    assert [name.name for name in tmp_path.iterdir() if name.name == "data"] == []


def test_a_python_without_sqlite_serves_and_says_what_to_install(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "_sqlite3.py").write_text("raise ModuleNotFoundError(\"No module named '_sqlite3'\")")
    with served([Provider(Behaviour())]) as (port,):
        config(tmp_path, port)
        with running(tmp_path, "--port", "0", env={"PYTHONPATH": str(hidden)}) as process:
            assert ask(process, 1) == [200]
            process.signal(signal.SIGTERM)
            assert process.status() == 0
            [line] = process.events("statistics.off")
    assert "_sqlite3" in str(line["error"])
    assert "py311-sqlite3" in str(line["fix"])


@pytest.mark.parametrize("made", ["a file where the folder should be", "a folder"])
def test_requests_do_not_need_the_file(tmp_path: Path, made: str) -> None:
    if made == "a folder":
        (tmp_path / "data" / "stats.db").mkdir(parents=True)
    else:
        (tmp_path / "data").write_text(made)
    with served([Provider(Behaviour())]) as (port,):
        config(tmp_path, port)
        with running(tmp_path, "--port", "0") as process:
            assert ask(process, 3) == [200] * 3
            process.signal(signal.SIGTERM)
            assert process.status() == 0
            [line] = process.events("statistics.off")
    assert "DISABLE_DATABASE=true" in str(line["fix"])
