"""The Dockerfile's steps, replayed in a folder: what it copies, installs, starts and asks.

There is no docker daemon where the tests run. What this cannot show is the base image itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest
import strictyaml

from tests.e2e.running import Process, closed_port, served, until
from tests.kit import index
from tests.kit.docs import ROOT
from uniapi.config.fetch import fetch
from uniapi.config.types import Secret
from uniapi.demo import Behaviour, Provider

_KEY = "sk-docker-0000"
_CONFIG = """
providers:
  - {{provider: one, base_url: "http://127.0.0.1:{port}/v1/chat/completions", api: k, model: [m]}}
api_keys:
  - api: {key}
"""


@dataclass(frozen=True)
class Step:
    """An instruction; `words` of one in exec form are its list."""

    name: str
    rest: str

    @property
    def words(self) -> list[str]:
        return [str(word) for word in json.loads(self.rest[self.rest.index("[") :])]


def steps() -> list[Step]:
    text = (ROOT / "conf" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    parted = (line.partition(" ") for line in joined.splitlines() if line.strip())
    return [Step(name, " ".join(rest.split())) for name, _, rest in parted]


def last(name: str) -> Step:
    return [step for step in steps() if step.name == name][-1]


def sent(path: str) -> bool:
    """Whether `.dockerignore` lets a file of the context through: the last rule counts."""
    allowed = True
    parts = path.split("/")
    ways = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        rule = line.removeprefix("!")
        if not rule or rule.startswith("#"):
            continue
        anywhere = rule.removeprefix("**/")
        if any(fnmatch(way, rule) for way in ways) or (anywhere != rule and anywhere in parts):
            allowed = line.startswith("!")
    return allowed


class Replay:
    """A folder in place of the image's root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workdir = root
        self.env: dict[str, str] = {"PATH": os.environ["PATH"]}

    def inside(self, text: str) -> str:
        """Absolute paths of the image, in the folder."""
        return re.sub(r"(?<![\w.$])/(opt|home|src)\b", rf"{self.root}/\1", text)

    def play(self, step: Step) -> None:
        match step.name:
            case "WORKDIR":
                self.workdir = Path(self.inside(step.rest))
                self.workdir.mkdir(parents=True, exist_ok=True)
            case "ENV":
                for name, value in re.findall(r"(\w+)=(\S+)", step.rest):
                    self.env[name] = self.inside(value).replace("$PATH", self.env["PATH"])
            case "COPY" if step.rest.startswith("--from="):
                source = step.rest.split()[1]
                assert Path(self.inside(source)).exists()  # both stages are in one folder
            case "COPY":
                *sources, target = step.rest.split()
                for source in sources:
                    self._copy(source, target)
            case "RUN":
                # The owner that is made for the image is nobody here.
                command = self.inside(step.rest).replace("-o 1000 -g 1000", "")
                done = subprocess.run(  # noqa: S602 - the Dockerfile's own words
                    command, shell=True, cwd=self.workdir, check=False, capture_output=True,
                    env={"PIP_DISABLE_PIP_VERSION_CHECK": "1", **os.environ, **self.env}, text=True,
                )  # fmt: skip
                index.installed(done)
            case "FROM" | "USER" | "EXPOSE" | "STOPSIGNAL" | "HEALTHCHECK" | "ENTRYPOINT" | "CMD":
                pass
            case name:
                raise AssertionError(f"nobody here knows {name}")

    def _copy(self, source: str, target: str) -> None:
        assert sent(source), f"{source} is in .dockerignore"
        place = self.workdir / target
        if (ROOT / source).is_dir():
            hidden = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, place, ignore=hidden)
            return
        if target.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / source, place)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    replay = Replay(tmp_path_factory.mktemp("image"))
    replay.env["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for step in steps():
        replay.play(step)
    shutil.rmtree(replay.root / "src")  # the first stage is not in the image
    return replay


def test_what_it_installs_starts_serves_is_healthy_and_ends(image: Replay) -> None:
    home, port = image.root / "home", closed_port()
    env = {**image.env, "PORT": str(port)}
    assert image.workdir == home
    check = last("HEALTHCHECK").words

    def healthy() -> bool:
        return subprocess.run(check, env=env, capture_output=True, check=False).returncode == 0  # noqa: S603 - the image's own check

    with served([Provider(Behaviour(text="Hello you."))]) as (upstream,):
        (home / "api.yaml").write_text(_CONFIG.format(port=upstream, key=_KEY))
        assert not healthy()
        start = [*last("ENTRYPOINT").words, *last("CMD").words]
        start[0] = shutil.which(start[0], path=env["PATH"]) or start[0]
        assert start[0].startswith(str(image.root))
        process = Process(
            subprocess.Popen(  # noqa: S603 - as the image starts
                start, cwd=home, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        )
        try:
            assert process.port == port
            assert "0.0.0.0" in str(process.events("server.started")[0]["url"])
            assert healthy()
            url = f"{process.url}/v1/models"
            assert b'"m"' in fetch(url, seconds=5, limit=10_000, bearer=Secret(_KEY))
            process.signal(signal.SIGTERM)
            assert process.status() == 0
            until(lambda: not healthy(), "unhealthy when it is gone")
        finally:
            process.stop()


def test_it_runs_without_root_and_hears_signals() -> None:
    assert last("USER").rest == "1000:1000"
    assert last("STOPSIGNAL").rest == "SIGTERM"
    assert last("EXPOSE").rest == "8000"
    for name in ("ENTRYPOINT", "CMD"):
        assert last(name).words, f"{name} is not in exec form: a shell would keep the signals"
    assert "PYTHONMALLOC=malloc" in last("ENV").rest  # or it would start itself again
    assert "curl" not in last("HEALTHCHECK").rest  # slim has none


def test_the_builder_is_sent_the_program_and_no_secrets() -> None:
    for path in ("uniapi/run.py", "uniapi/server/serve.py", "pyproject.toml", "conf/api.demo.yaml"):
        assert sent(path), path
    for path in (
        "api.yaml", "conf/api.yaml", "data/stats.db", "uniapi_db/stats.db", ".env", ".git/config",
        ".venv/bin/python", "uniapi/__pycache__/run.cpython-311.pyc", "tests/conftest.py",
    ):  # fmt: skip
        assert not sent(path), path


def test_the_compose_file_has_the_mounts_and_variables_people_know() -> None:
    text = (ROOT / "conf" / "docker-compose.yml").read_text()
    (service,) = strictyaml.load(text).data["services"].values()
    mounts = dict(mount.split(":") for mount in service["volumes"])
    assert set(mounts.values()) == {"/home/api.yaml", "/home/data"}
    assert {(ROOT / "conf" / source).resolve().parent for source in mounts} == {ROOT}
    assert service["ports"] == ["8001:8000"]
    assert [one.partition("=")[0] for one in service["environment"]] == ["CONFIG_URL"]
    context = (ROOT / "conf" / service["build"]["context"]).resolve()
    assert (context / service["build"]["dockerfile"]).is_file()
    assert context == ROOT
    assert int(service["stop_grace_period"].removesuffix("s")) > 30  # what --grace gives streams


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint comes as a wheel for Linux on x86-64 only")
    found = subprocess.run(  # noqa: S603 - a linter
        [hadolint, ROOT / "conf" / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
    assert found.returncode == 0
