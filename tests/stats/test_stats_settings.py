"""Where the statistics are: the seeds' variables, in the seeds' words."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniapi.stats.settings import database, undecided


@pytest.mark.parametrize("said", ["true", "True", " TRUE ", "1", "yes", "on"])
def test_disable_database_makes_nothing_whatever_its_case(said: str) -> None:
    assert database({"DISABLE_DATABASE": said, "DB_PATH": "x.db"}) is None


@pytest.mark.parametrize("said", ["maybe", "ture", "2"])
def test_what_is_neither_yes_nor_no_is_told_of_and_statistics_are_kept(said: str) -> None:
    env = {"DISABLE_DATABASE": said}
    assert database(env) == Path("data/stats.db")
    what, fix = undecided(env) or ("", "")
    assert what.startswith("the environment variable DISABLE_DATABASE is neither true nor false")
    assert "DISABLE_DATABASE=true" in fix
    assert said not in what.replace("DISABLE_DATABASE", ""), "a stranger's word is not repeated"


@pytest.mark.parametrize("said", ["true", " Yes ", "1", "on", "false", "No", "0", "OFF", "", " "])
def test_a_yes_and_a_no_are_not_told_of(said: str) -> None:
    assert undecided({"DISABLE_DATABASE": said}) is None
    assert undecided({}) is None


@pytest.mark.parametrize("said", ["false", "", "0", "no", "off"])
def test_without_it_the_file_is_where_the_seeds_have_it(said: str) -> None:
    assert database({"DISABLE_DATABASE": said}) == Path("data/stats.db")


def test_db_path_is_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert database({"DB_PATH": " ~/x.db "}) == Path("/home/ada/x.db")


def test_a_demo_leaves_nothing_behind_unless_it_is_asked_to() -> None:
    assert database({}, demo=True) is None
    assert database({"DB_PATH": "x.db"}, demo=True) == Path("x.db")
