"""Who is compared: how each is started, and where it is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Final

import trio

from bench.running import free_port, listening, started
from bench.workloads import NAMES
from uniapi.codec import Json, dumps

ROOT: Final = Path(__file__).resolve().parent.parent
KEY: Final = "sk-bench-0000-0000-0000"  # of contenders/api.yaml
_HERE: Final = Path(__file__).resolve().parent / "contenders"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one run of a contender happens.

    Attributes:
        port: it is to listen on.
        upstream: the port of the provider.
        folder: a scratch folder of its own, its working directory.
    """

    port: int
    upstream: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Contender:
    """One of those that are compared.

    Attributes:
        name: unique in a comparison.
        command: what starts it.
        env: added to the environment.
        proxies: it asks the upstream; one that does not has its own answers to some workloads.
        translates: it has the models `translated-...`.
        many: it can be asked for a thousand streams at once.
        plans: `bench.planning` measures its code.
        patience: seconds it may take to start.
    """

    name: str
    command: Callable[[Place], list[str]]
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    proxies: bool = True
    translates: bool = False
    many: bool = True
    plans: bool = False
    patience: float = 20.0


@dataclass(frozen=True, slots=True)
class Running:
    """A contender that listens."""

    contender: Contender
    port: int
    pid: int
    seconds: float  # from its start to its first answer

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"


def hello() -> Contender:
    """Hypercorn on trio with an application that knows its answers."""
    return Contender("hello", lambda place: _script("hello.py", place), _path(), proxies=False)


def naive() -> Contender:
    """Hypercorn and httpx, forty lines."""
    upstream = "http://127.0.0.1:{}"
    return Contender(
        "naive",
        lambda place: [
            *_script("naive.py", place),
            "--upstream",
            upstream.format(place.upstream),
        ],
        _path(),
        many=False,
    )


def uniapi(
    name: str = "uniapi", *, tree: Path = ROOT, env: Mapping[str, str] | None = None
) -> Contender:
    """The gateway, without the compiled package that may be there.

    Args:
        name: in the tables.
        tree: the checkout whose code runs.
        env: added to the environment.
    """
    env = {"UNIAPI_PURE": "1", **_path(tree), **(env or {})}
    return Contender(name, _uniapi, env, translates=True, plans=True)


def with_orjson() -> Contender | None:
    """The gateway with the extra `fast`; None when it is not installed."""
    if find_spec("orjson") is None:
        return None
    return uniapi("uniapi with orjson", env={"UNIAPI_PURE": ""})


def nginx() -> Contender | None:
    """A plain nginx as reverse proxy; None when it is not installed."""
    path = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    return None if path is None else Contender("nginx", lambda place: _nginx(path, place))


def litellm(say: Callable[[str], None]) -> Contender:
    """The LiteLLM proxy, in a virtual environment of its own that is made the first time.

    Raises:
        subprocess.CalledProcessError: when it cannot be installed.
    """
    home = Path(__file__).resolve().parent / ".litellm"
    program = home / "bin" / "litellm"
    if not program.exists():
        say("installing LiteLLM in bench/.litellm; this takes a minute or two\n")
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        (home / ".gitignore").write_text("*\n")
        install = [str(home / "bin" / "pip"), "install", "--quiet", "litellm[proxy]"]
        subprocess.run(install, check=True)
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    return Contender(
        "LiteLLM",
        lambda place: _litellm(program, place),
        env,
        translates=True,
        many=False,
        patience=90,
    )


@asynccontextmanager
async def running(
    contender: Contender, upstream: int, *, cores: frozenset[int], quiet: bool
) -> AsyncIterator[Running]:
    """Start it, wait for its first answer, and stop it in the end.

    Raises:
        RuntimeError: it ended instead, or did not answer in its time.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = Place(free_port(), upstream, Path(folder))
        base = f"http://127.0.0.1:{upstream}/v1"
        env = {
            **contender.env,
            "PYTHONDONTWRITEBYTECODE": "",  # only the first start after an update compiles
            "BENCH_CHAT": f"{base}/chat/completions",
            "BENCH_MESSAGES": f"{base}/messages",
        }
        command = contender.command(place)
        begun = trio.current_time()
        async with started(command, quiet=quiet, env=env, cwd=place.folder, cores=cores) as process:
            await listening(place.port, process, healthy=False, patience=contender.patience)
            yield Running(contender, place.port, process.pid, trio.current_time() - begun)


def _path(tree: Path = ROOT) -> dict[str, str]:
    """The environment in which `uniapi` and `bench` come from this checkout."""
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": f"{tree}{os.pathsep}{before}" if before else str(tree)}


def _script(name: str, place: Place) -> list[str]:
    return [sys.executable, str(_HERE / name), "--port", str(place.port)]


def _uniapi(place: Place) -> list[str]:
    config = place.folder / "api.yaml"
    config.touch(mode=0o600)
    config.write_bytes((_HERE / "api.yaml").read_bytes())
    command = [sys.executable, "-m", "uniapi", "serve", str(config), "--host", "127.0.0.1"]
    return [*command, "--port", str(place.port)]


def _nginx(path: str, place: Place) -> list[str]:
    text = (_HERE / "nginx.conf").read_text()
    for word, value in (
        ("PORT", place.port),
        ("UPSTREAM", place.upstream),
        ("FOLDER", place.folder),
    ):
        text = text.replace(word, str(value))
    config = place.folder / "nginx.conf"
    config.write_text(text)
    return [path, "-p", str(place.folder), "-c", str(config)]


def _litellm(program: Path, place: Place) -> list[str]:
    base = f"http://127.0.0.1:{place.upstream}"
    models: list[Json] = []
    for name in NAMES:
        for model, params in (
            (name, {"model": f"openai/{name}", "api_base": f"{base}/v1"}),
            (f"translated-{name}", {"model": f"anthropic/{name}", "api_base": base}),
        ):
            models.append(
                {"model_name": model, "litellm_params": {**params, "api_key": "sk-scripted"}}
            )
    config = place.folder / "config.yaml"  # JSON is YAML
    settings: Json = {"model_list": models, "general_settings": {"master_key": KEY}}
    config.write_bytes(dumps(settings))
    command = [str(program), "--config", str(config), "--host", "127.0.0.1"]
    return [*command, "--port", str(place.port), "--num_workers", "1"]
