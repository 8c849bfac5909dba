"""The demo: its config, its variables and its providers belong together."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from uniapi.config.read import read
from uniapi.demo import Provider, run
from uniapi.demo.run import demo_config_text, start

Connect = Callable[[Provider], Any]


async def test_the_config_reads_without_a_word_of_complaint(nursery: trio.Nursery) -> None:
    demo = await start(nursery)
    assert set(re.findall(r"\$\{(\w+)\}", demo.text)) == set(demo.env)
    report = read(demo.text, name="api.demo.yaml", env=demo.env)
    assert report.problems == ()
    assert report.config is not None
    assert [p.name for p in report.config.providers] == list(demo.providers)
    assert [key.secret.reveal() for key in report.config.keys] == [demo.key]
    assert report.config.preferences.cooldown_period == 0


@pytest.mark.parametrize(
    ("name", "model", "status", "words"),
    [
        ("broken", "demo-broken", 503, b"broken on purpose"),
        ("steady", "demo-fallback", 200, b"a 503, so it went on"),
        ("steady", "demo-steady", 200, b"provider named steady"),
        ("slow", "demo-slow", 200, b"provider named slow"),
    ],
)
async def test_each_provider_answers_for_itself(
    autojump_clock: MockClock,
    connect: Connect,
    name: str,
    model: str,
    status: int,
    words: bytes,
) -> None:
    wire = connect(run.scripted()[name])
    await wire.send({"model": model}, authorization="Bearer demo-provider-key")
    heard = await wire.hear()
    assert heard.status == status
    assert words in heard.body
    await wire.send({"model": model})
    assert (await wire.hear()).status == 401


async def test_its_urls_lead_to_its_providers(nursery: trio.Nursery) -> None:
    demo = await start(nursery)
    for name, provider in demo.providers.items():
        host, port = re.findall(r"^http://([\d.]+):(\d+)/", demo.env[f"DEMO_{name.upper()}_URL"])[0]
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")
        assert (host, provider.connections) == ("127.0.0.1", 1)


def test_a_checkout_and_a_wheel_have_the_same_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = demo_config_text()
    assert checkout == Path("conf/api.demo.yaml").read_text(encoding="utf-8")
    (tmp_path / "api.demo.yaml").write_text("shipped")
    monkeypatch.setattr(importlib.resources, "files", lambda _: tmp_path)
    assert demo_config_text() == "shipped"
