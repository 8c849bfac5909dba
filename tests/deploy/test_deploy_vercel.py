"""The function, put together as its page says and loaded as the platform does."""
# ruff: noqa: TID251 - the platform's event loop is asyncio's

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from tests.e2e.running import served, until
from tests.kit.asgi_host import Exchange, Lifespan, chat
from tests.kit.docs import ROOT, script
from uniapi.bridge import Bridge
from uniapi.demo import Behaviour, Fault, Provider

_KEY = "sk-vercel-0000"
_CONFIG = """
providers:
  - {{provider: one, base_url: "http://127.0.0.1:{port}/v1/chat/completions", api: k, model: [m]}}
api_keys:
  - api: {key}
"""


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that would be deployed."""
    checkout = tmp_path_factory.mktemp("checkout")
    (checkout / "conf").mkdir()
    shutil.copytree(ROOT / "conf" / "vercel", checkout / "conf" / "vercel")
    (checkout / "uniapi").symlink_to(ROOT / "uniapi")
    commands = script("conf/vercel.md", "Put it together")
    subprocess.run(["/bin/sh", "-eu", "-c", commands], cwd=checkout, check=True)  # noqa: S603 - the page's own words
    return checkout / "dist" / "vercel"


def loaded(function: Path) -> ModuleType:
    """`api/index.py`, by its path."""
    path = list(sys.path)
    spec = importlib.util.spec_from_file_location("vercel_index", function / "api" / "index.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert sys.path[0] == str(function)
    sys.path[:] = path
    return module


@contextmanager
def deployed(
    function: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, provider: Provider
) -> Iterator[Bridge]:
    """The function before this provider, with its configuration at an address."""
    with served([provider]) as (port,):
        config = folder / "far.yaml"
        config.write_text(_CONFIG.format(port=port, key=_KEY))
        settings = json.loads((function / "vercel.json").read_text())["env"]
        for name, value in {**settings, "CONFIG_URL": config.as_uri()}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
        monkeypatch.chdir(function)
        app: Bridge = loaded(function).app
        yield app
        asyncio.run(app.aclose())


def test_a_stream_passes_as_it_comes_and_twenty_pass_at_a_time(
    function: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def host() -> None:
        lifespan = Lifespan(app)
        assert (await lifespan.say("startup"))["type"] == "lifespan.startup.complete"
        first = chat(app, _KEY, stream=True)
        await first.until(lambda: len(first.sent) > 1)
        assert not provider.requests[0].finished  # the last word is still to be said
        others = [chat(app, _KEY, stream=bool(number % 2)) for number in range(20)]
        for one in (first, *others):
            assert (await one.ended()).status == 200
        assert first.body.endswith(b"data: [DONE]\n\n")
        assert (await lifespan.say("shutdown"))["type"] == "lifespan.shutdown.complete"

    provider = Provider(Behaviour(text="one two three", gap=0.1))
    with deployed(function, tmp_path, monkeypatch, provider) as app:
        asyncio.run(host())


def test_leaving_ends_the_provider_s_work(
    function: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def host() -> None:
        asked = chat(app, _KEY, stream=True)
        await asked.until(lambda: len(asked.sent) > 1)
        asked.leave()
        await asked.ended()

    provider = Provider(Behaviour(fault=Fault.STALL, at=3))
    with deployed(function, tmp_path, monkeypatch, provider) as app:
        asyncio.run(host())
        until(lambda: provider.active == 0, "the provider is hung up on")


def test_every_path_leads_to_it_and_nothing_is_written_where_nothing_can_be(
    function: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def host() -> None:
        for path in ("/healthz", "/v1/models", "/models"):
            headers = {"authorization": f"Bearer {_KEY}"}
            assert (await Exchange(app, path, "GET", headers).ended()).status == 200

    before = sorted(path for path in function.rglob("*") if "__pycache__" not in path.parts)
    with deployed(function, tmp_path, monkeypatch, Provider()) as app:
        asyncio.run(host())
    assert sorted(p for p in function.rglob("*") if "__pycache__" not in p.parts) == before
    settings = json.loads((ROOT / "conf" / "vercel" / "vercel.json").read_text())
    assert settings["rewrites"] == [{"source": "/(.*)", "destination": "/api/index"}]
    assert list(settings["functions"]) == ["api/index.py"]
    assert settings["env"]["DISABLE_DATABASE"] == "true"
    assert os.access(settings["env"]["XDG_CACHE_HOME"], os.W_OK)  # the one place that can be


def test_the_platform_takes_it_for_asgi(function: Path) -> None:
    app = loaded(function).app
    assert inspect.iscoroutinefunction(type(app).__call__)  # how its runtime tells it from WSGI


def test_the_program_beside_it_is_the_one_that_runs(function: Path) -> None:
    code = "import runpy; runpy.run_path('api/index.py'); import uniapi; print(uniapi.__file__)"
    found = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", code], cwd=function, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == str(function / "uniapi" / "__init__.py")


def test_it_asks_for_the_same_libraries_as_the_project() -> None:
    lines = (ROOT / "conf" / "vercel" / "requirements.txt").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert [line for line in lines if not line.startswith("#")] == project["project"][
        "dependencies"
    ]
