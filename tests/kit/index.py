"""Commands that need a package index: where there is none, their tests are skipped."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import pytest

_SMALL = "h11"  # a dependency of ours: where not even this can be had, there is no index


def installed(done: subprocess.CompletedProcess[str]) -> None:
    """Go on when a command that installs went well; else fail, or skip without an index."""
    if done.returncode == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        options = ["--no-deps", "--retries=0", "--timeout=5", f"--dest={folder}"]
        probe = subprocess.run(  # noqa: S603 - pip, of this environment
            [sys.executable, "-m", "pip", "download", "--quiet", *options, _SMALL],
            capture_output=True,
            check=False,
        )
    if probe.returncode:
        pytest.skip("there is no package index")
    pytest.fail(done.stdout + done.stderr)
