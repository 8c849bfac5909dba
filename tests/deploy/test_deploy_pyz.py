"""One file serves, in an empty environment, whatever Python from 3.11 on is there."""

from __future__ import annotations

import email
import os
import runpy
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.e2e.running import Process, until
from tests.e2e.running import commands as pasted
from tests.kit import index
from tests.kit.docs import ROOT, commands
from uniapi.codec import loads

PAGE = "conf/pyz.md"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, as the page's command makes it; pip brings the wheels."""
    target = tmp_path_factory.mktemp("dist") / "uniapi.pyz"
    (command,) = commands(PAGE, "Build it")
    # The environment is there already: only what is asked for is made.
    env = {**os.environ, "ARGS": f"--output {target}", "MAKEFLAGS": "-o .venv/.run"}
    done = subprocess.run(  # noqa: S603 - the page's own words
        command.split(), cwd=ROOT, env=env, check=False, capture_output=True, text=True
    )
    index.installed(done)
    return target


@pytest.fixture(scope="module")
def build() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "conf" / "build_pyz.py"))


@contextmanager
def alone(
    built: Path, folder: Path, command: str, env: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """The file alone in a folder, with one Python on the path and nothing else around it."""
    tools, place = folder / "bin", folder / "here"
    if not tools.exists():
        tools.mkdir()
        place.mkdir()
        bare = os.path.realpath(sys.executable)  # without the tests' own environment
        for name in ("python3", "python3.11"):
            (tools / name).write_text(f'#!/bin/sh\nexec "{bare}" "$@"\n')
            (tools / name).chmod(0o755)
        shutil.copy2(built, place / "uniapi.pyz")
    words = command.split()
    words[0] = words[0].replace("python3.11", str(tools / "python3.11"))
    process = Process(
        subprocess.Popen(  # noqa: S603 - what was just built
            words,
            cwd=place,
            env={"PATH": str(tools), "DISABLE_DATABASE": "true", **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    )
    try:
        yield process
    finally:
        process.stop()


def test_it_serves_the_demo_from_an_empty_folder_without_an_environment(
    built: Path, tmp_path: Path
) -> None:
    version, check, bare = commands(PAGE, "Run it")[:3]
    with alone(built, tmp_path, version) as process:
        assert process.status() == 0
        assert process.out[0].startswith("uniapi 0.")
    with alone(built, tmp_path, check) as process:
        assert process.status() == 1
        assert "no configuration" in process.out[0]
    with alone(built, tmp_path, bare, {"PORT": "0"}) as process:
        assert process.url.startswith("http://127.0.0.1:")
        until(lambda: len(pasted("".join(process.out))) == 2, "the demo's commands")
        asked = [
            subprocess.Popen(command, shell=True, stdout=subprocess.PIPE)  # noqa: S602 - what the program told its reader to paste
            for command in pasted("".join(process.out))
        ]
        whole, streamed = (one.communicate(timeout=20)[0].decode() for one in asked)
        match loads(whole):
            case {"choices": [{"message": {"content": str(said)}}]}:
                assert said.startswith("Hello!")
            case other:
                raise AssertionError(other)
        assert streamed.rstrip().endswith("data: [DONE]")
        process.command.terminate()
        assert process.status() == 0
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["uniapi.pyz"]


def test_it_checks_and_serves_a_configuration_with_a_python_that_is_named(
    built: Path, tmp_path: Path
) -> None:
    _, check, _, named = commands(PAGE, "Run it")
    text = (ROOT / "conf" / "api.minimal.yaml").read_text()
    with alone(built, tmp_path, check) as process:
        assert process.status() == 1
        (tmp_path / "here" / "api.yaml").write_text(text)
    with alone(built, tmp_path, check) as process:
        assert process.status() == 0, process.out
        assert "ok: " in process.out[-1]
    with alone(built, tmp_path, named.replace("8000", "0")) as process:
        assert process.url.startswith("http://127.0.0.1:")


def test_nothing_in_it_is_compiled_and_it_may_be_started(built: Path) -> None:
    assert built.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert built.stat().st_mode & stat.S_IXUSR
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
        magic = {archive.read(name)[:4] for name in names}
    assert not [name for name in names if name.endswith((".so", ".pyd", ".dylib", ".pyc"))]
    assert not magic & {b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"}
    assert "uniapi/demo/api.demo.yaml" in names
    assert "certifi/cacert.pem" in names


def _needs(metadata: str, environment: Mapping[str, str]) -> Iterator[str]:
    for line in email.message_from_string(metadata).get_all("Requires-Dist") or []:
        one = Requirement(line)
        if one.marker is None or one.marker.evaluate({**environment, "extra": ""}):
            yield canonicalize_name(one.name)


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("platform", ["linux", "darwin", "freebsd14"])
def test_what_its_parts_need_is_in_it_for_every_python_and_system(
    built: Path, version: str, platform: str
) -> None:
    environment = {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "sys_platform": platform,
        "platform_system": {"linux": "Linux", "darwin": "Darwin"}.get(platform, "FreeBSD"),
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    with zipfile.ZipFile(built) as archive:
        told = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        metadata = [archive.read(name).decode() for name in told]
    there = {canonicalize_name(name.partition("-")[0]) for name in told}
    needed = {need for text in metadata for need in _needs(text, environment)}
    assert len(there) > 15
    assert needed - there == set()


def test_the_same_input_makes_the_same_bytes(
    built: Path, tmp_path: Path, build: dict[str, Any]
) -> None:
    with zipfile.ZipFile(built) as archive:
        archive.extractall(tmp_path / "site")
    pack: Callable[[Path, Path], None] = build["pack"]
    pack(tmp_path / "site", tmp_path / "again.pyz")
    assert (tmp_path / "again.pyz").read_bytes() == built.read_bytes()


def test_something_compiled_stops_the_build(tmp_path: Path, build: dict[str, Any]) -> None:
    (tmp_path / "fast").mkdir()
    (tmp_path / "fast" / "inner.cpython-311-x86_64-linux-gnu.so").touch()
    with pytest.raises(ValueError, match=r"inner.*is compiled"):
        build["pack"](tmp_path, tmp_path / "dist" / "x.pyz")


def test_an_old_python_is_told_so(monkeypatch: pytest.MonkeyPatch, build: dict[str, Any]) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11"):
        exec(build["_MAIN"], {})  # noqa: S102 - the archive's own first lines
