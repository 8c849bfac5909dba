"""A provider is killed in mid-stream; the official openai SDK gets the whole answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai

from tests.e2e.running import KEY, running, served, until
from uniapi.demo import SIXTY, Behaviour, Provider

SCRIPT = str(Path("bench/provider.py").resolve())

CONFIG = """
providers:
  - provider: first
    base_url: http://127.0.0.1:{first}/v1/chat/completions
    model: ['ok;gap=0.02': m]
  - provider: second
    base_url: http://127.0.0.1:{second}/v1/chat/completions
    model: [m]
api_keys:
  - api: {key}
    model: [first/m, second/m]
"""


@contextmanager
def mortal() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A provider as a process, and its port."""
    command = [sys.executable, SCRIPT, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ourselves
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_a_provider_is_killed_in_mid_stream(tmp_path: Path) -> None:
    path = tmp_path / "api.yaml"
    words: list[str] = []
    reasons: list[str] = []
    with mortal() as (process, first), served([Provider(Behaviour())]) as [port]:
        path.write_text(CONFIG.format(first=first, second=port, key=KEY))
        with running(tmp_path, "serve", str(path), "--port", "0") as gateway:
            client = openai.OpenAI(
                api_key=KEY, base_url=f"{gateway.url}/v1", max_retries=0, timeout=10
            )
            with client:
                stream = client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "Hello"}], stream=True
                )
                for chunk in stream:
                    words.append(chunk.choices[0].delta.content or "")
                    reasons += [chunk.choices[0].finish_reason or ""]
                    if len(words) == 20:
                        process.kill()
            until(lambda: bool(gateway.events("request.done")), "the line of the request")
            (done,) = gateway.events("request.done")
    assert "".join(words) == SIXTY
    assert [reason for reason in reasons if reason] == ["stop"]
    assert done["rescued"] == 1
    assert done["outcome"] == "ok"
