#!/usr/bin/env python3
"""Build dist/uniapi.pyz: the gateway and all it needs in one file, for any Python from 3.11 on.

Nothing compiled goes in: pip is asked for wheels that fit every machine, and what arrives is looked
through. With the same versions of the dependencies the file is the same to the byte.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent

# pip looks at the markers with the Python it runs on: what older ones need is named here (anyio,
# below 3.13).
_FOR_OLDER: Final = ("typing_extensions",)
_ANY: Final = (
    "--only-binary=:all:",
    "--platform=any",
    "--implementation=py",
    "--abi=none",
    "--python-version=3.11",
)
_COMPILED: Final = (".so", ".pyd", ".dylib", ".dll", ".a", ".o")
_LEFT_OUT: Final = frozenset({"bin", "__pycache__", "tests", "_tests"})
_RECORDS: Final = frozenset({"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"})
_SHEBANG: Final = b"#!/usr/bin/env python3\n"
_MAIN: Final = """\
import sys

if sys.version_info < (3, 11):
    sys.exit("uniapi needs Python 3.11 or newer; this is " + sys.version.split()[0])

from uniapi.__main__ import run

run()
"""
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say


def gather(into: Path, pip_options: Sequence[str] = ()) -> None:
    """Put the program and its dependencies into a folder.

    Raises:
        subprocess.CalledProcessError: pip found no wheel that fits every machine.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *_FOR_OLDER]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-compile", "--no-warn-conflicts", f"--target={into}", *_ANY, *pip_options]
    subprocess.run([*command, *wanted], check=True)  # noqa: S603 - pip, with the project's own list
    hidden = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "uniapi", into / "uniapi", ignore=hidden)
    beside = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for source, target in beside.items():
        shutil.copy(ROOT / source, into / target)
    (into / "__main__.py").write_text(_MAIN)


def files_of(folder: Path) -> list[Path]:
    """What goes into the archive, in order.

    Raises:
        ValueError: something compiled is among it.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_dir() or _LEFT_OUT & set(inside.parts[:-1]):
            continue
        if path.name in _RECORDS and inside.parts[0].endswith(".dist-info"):
            continue
        if path.suffix in _COMPILED or ".so." in path.name:
            raise ValueError(f"{inside} is compiled: this would run on one kind of machine only")
        found.append(inside)
    return found


def pack(folder: Path, target: Path) -> None:
    """Write the archive, executable; the same input gives the same bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        file.write(_SHEBANG)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for inside in files_of(folder):
                entry = zipfile.ZipInfo(inside.as_posix(), _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, (folder / inside).read_bytes())
    target.chmod(0o755)


def main(arguments: Sequence[str]) -> int:
    """Build; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "dist" / "uniapi.pyz")
    options, pip_options = parser.parse_known_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "site"
        try:
            gather(folder, pip_options)
            pack(folder, options.output)
        except subprocess.CalledProcessError as error:
            sys.stderr.write("build_pyz: pip could not bring the dependencies\n")
            return error.returncode
        except ValueError as error:
            sys.stderr.write(f"build_pyz: {error}\n")
            return 1
    size = options.output.stat().st_size / 1e6
    sys.stdout.write(f"{options.output}: {size:.1f} MB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
