"""The file of the program we take the place of works here unchanged, by its page's own commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.kit.docs import ROOT, commands


def test_the_old_file_is_read_and_explained_as_it_is(tmp_path: Path) -> None:
    old = (ROOT / "tests" / "fixtures" / "config" / "seed_advanced.yaml").read_text()
    (tmp_path / "api.yaml").write_text(old)
    (tmp_path / "api.yaml").chmod(0o600)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    said = [
        subprocess.run(  # noqa: S602 - what the page tells its reader to type
            command,
            shell=True,
            cwd=tmp_path,
            env={"PATH": path},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for command in commands("conf/migration.md", "What to do")
    ]
    checked, explained = said
    assert " 0 errors" in checked
    assert "provider_name/gpt-4o" in explained
    assert (tmp_path / "api.yaml").read_text() == old  # never written
    assert [one.name for one in tmp_path.iterdir()] == ["api.yaml"]
