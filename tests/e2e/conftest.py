"""One gateway and its providers, for all tests that only talk to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.running import KEY, Process, closed_port, running, served
from uniapi.demo import Provider


@dataclass(frozen=True)
class Site:
    """A running gateway and what it asks.

    Attributes:
        first: behaves by the model's name; asked first.
        second: always healthy; asked when the first fails.
    """

    process: Process
    first: Provider
    second: Provider
    url: str


_CONFIG = """
providers:
  - provider: first
    base_url: http://127.0.0.1:{first}/v1/chat/completions
    api: sk-first-secret
    model:
      - ok
      - tools
      - reasoning
      - ok;ttft=30: thinking
      - ok;gap=0.05;tokens=500: talking
      - status-400: bad
      - status-429: busy
      - status-500: broken
      - status-404: gone
      - cut;at=3: cut
      - reset: f-reset
      - status-500: f-500
      - hang: f-stall
      - error-object: f-object
      - empty: f-empty
  - provider: closed
    base_url: http://127.0.0.1:{closed}/v1/chat/completions
    api: sk-closed-secret
    model: [f-refuse]
  - provider: second
    base_url: http://127.0.0.1:{second}/v1/chat/completions
    api: sk-second-secret
    model: [ok: f-reset, ok: f-500, ok: f-stall, ok: f-object, ok: f-empty, ok: f-refuse]
api_keys:
  - api: {key}
    model: [first/*, closed/*, second/*]
    preferences: {{SCHEDULING_ALGORITHM: fixed_priority}}
preferences:
  cooldown_period: 0
  model_timeout: {{f-stall: 0.3}}
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("e2e")
    first, second = Provider(), Provider()
    with served([first, second]) as (port, other):
        text = _CONFIG.format(first=port, second=other, closed=closed_port(), key=KEY)
        config = Path(folder) / "api.yaml"
        config.write_text(text)
        config.chmod(0o600)
        with running(folder, "--port", "0", "--host", "127.0.0.1") as process:
            yield Site(process, first, second, process.url)
