"""Where the statistics are: the seeds' variables, in the seeds' words."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniapi.stats.settings import database


@pytest.mark.parametrize("said", ["true", "True", " TRUE ", "1", "yes", "on"])
def test_disable_database_makes_nothing_whatever_its_case(said: str) -> None:
    assert database({"DISABLE_DATABASE": said, "DB_PATH": "x.db"}) is None


@pytest.mark.parametrize("said", ["false", "", "0", "no"])
def test_without_it_the_file_is_where_the_seeds_have_it(said: str) -> None:
    assert database({"DISABLE_DATABASE": said}) == Path("data/stats.db")


def test_db_path_is_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert database({"DB_PATH": " ~/x.db "}) == Path("/home/ada/x.db")


def test_a_demo_leaves_nothing_behind_unless_it_is_asked_to() -> None:
    assert database({}, demo=True) is None
    assert database({"DB_PATH": "x.db"}, demo=True) == Path("x.db")
