"""A source is looked at again: what is new is given once, what is being written not at all."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from uniapi.config.fetch import Validators
from uniapi.config.source import FileSource, Loaded, SourceError, UnavailableError, UrlSource
from uniapi.config.watch import (
    MISSING,
    FileWatch,
    Look,
    Nothing,
    Stamp,
    UrlWatch,
    interval,
    stamp,
    watch,
)

# ---- files -----------------------------------------------------------------------------------


@dataclass
class Disk:
    """One file whose stamp and text a test sets."""

    text: str | None
    version: int = 1
    during: list[str] = field(default_factory=list)  # written while the file is read
    loads: int = 0

    def write(self, text: str | None) -> None:
        self.text = text
        self.version += 1

    def stamp(self, source: FileSource) -> Stamp:
        return MISSING if self.text is None else Stamp(self.version, self.version, len(self.text))

    def load(self, source: FileSource) -> Loaded:
        self.loads += 1
        text = self.text
        if self.during:
            self.write(self.during.pop())
        if text is None:
            raise UnavailableError(source.name, "there is no such file", "create it")
        if text == "\xff":
            raise SourceError(source.name, "it is not UTF-8", "save it")
        return Loaded(text, source.name)

    def watch(self, have: str | None) -> FileWatch:
        source = FileSource(Path("api.yaml"), "api.yaml")
        return FileWatch(source, have=have, stamp=self.stamp, load=self.load)


def text_of(look: Look) -> str:
    assert isinstance(look, Loaded), look
    return look.text


def test_what_was_read_at_the_start_is_not_new() -> None:
    disk = Disk("one")
    watched = disk.watch("one")
    assert [watched.look() for _ in range(3)] == [Nothing.SETTLED, Nothing.NEW, Nothing.NEW]
    assert disk.loads == 1, "once it is read, only the stamp is looked at"


def test_an_edit_between_the_start_and_the_first_look_is_seen() -> None:
    watched = Disk("two").watch("one")
    assert watched.look() is Nothing.SETTLED
    assert text_of(watched.look()) == "two"


def test_an_edit_is_given_once_it_stands_still_and_then_never_again() -> None:
    disk = Disk("one")
    watched = disk.watch("one")
    watched.look(), watched.look()
    for text in ("half", "half of", "half of two"):
        disk.write(text)
        assert watched.look() is Nothing.SETTLED
    assert text_of(watched.look()) == "half of two"
    assert watched.look() is Nothing.NEW


def test_a_touch_is_nothing_new() -> None:
    disk = Disk("one")
    watched = disk.watch("one")
    watched.look(), watched.look()
    disk.write("one")
    assert [watched.look(), watched.look()] == [Nothing.SETTLED, Nothing.NEW]


def test_an_edit_of_the_same_length_and_time_is_seen_by_its_other_marks() -> None:
    disk = Disk("one")
    watched = disk.watch("one")
    watched.look(), watched.look()
    disk.text = "two"
    for mark in ("changed", "inode", "device"):
        watched._stamp = lambda _, mark=mark: disk.stamp(watched.source)._replace(**{mark: 99})  # type: ignore[misc] # a default to bind the loop's value
        assert watched.look() is Nothing.SETTLED, mark


def test_a_file_that_is_away_for_a_moment_is_nothing_new() -> None:
    disk = Disk("one")
    watched = disk.watch("one")
    watched.look(), watched.look()
    disk.write(None)
    assert watched.look() is Nothing.SETTLED
    disk.write("one")
    assert watched.look() is Nothing.SETTLED
    assert watched.look() is Nothing.NEW


def test_a_file_that_stays_away_is_said_once_and_any_text_is_news_after_it() -> None:
    disk = Disk("one")
    watched = disk.watch("one")
    watched.look(), watched.look()
    disk.write(None)
    assert watched.look() is Nothing.SETTLED
    with pytest.raises(UnavailableError):
        watched.look()
    assert watched.look() is Nothing.NEW
    disk.write("one")
    assert watched.look() is Nothing.SETTLED
    assert text_of(watched.look()) == "one"


def test_what_is_no_text_is_said_once_and_any_text_is_news_after_it() -> None:
    disk = Disk("one")
    watched = disk.watch("one")
    disk.write("\xff")
    watched.look()
    with pytest.raises(SourceError):
        watched.look()
    assert watched.look() is Nothing.NEW
    disk.write("one")
    assert [watched.look(), text_of(watched.look())] == [Nothing.SETTLED, "one"]


def test_a_file_written_while_it_is_read_is_read_again() -> None:
    disk = Disk("half", during=["whole"])
    watched = disk.watch("one")
    assert watched.look() is Nothing.SETTLED
    assert watched.look() is Nothing.SETTLED, "it was read, but it changed meanwhile"
    assert watched.look() is Nothing.SETTLED
    assert text_of(watched.look()) == "whole"


def test_a_file_that_never_stands_still_is_read_all_the_same() -> None:
    disk = Disk("one")
    watched = disk.watch("one")
    looks: list[Look] = []
    for n in range(11):
        disk.write(f"version {n}")
        looks.append(watched.look())
    assert looks[:10] == [Nothing.SETTLED] * 10
    assert text_of(looks[10]) == "version 10"


def test_whoever_asks_gets_the_text_even_if_it_is_the_same() -> None:
    disk = Disk("one")
    watched = disk.watch("one")
    assert text_of(watched.look(force=True)) == "one"
    assert text_of(watched.look(force=True)) == "one"
    assert watched.look() is Nothing.NEW
    disk.write(None)
    with pytest.raises(UnavailableError):
        watched.look(force=True)


def test_whoever_asks_while_it_is_written_gets_it_later() -> None:
    disk = Disk("half", during=["whole"])
    watched = disk.watch("one")
    assert watched.look(force=True) is Nothing.SETTLED
    assert text_of(watched.look(force=True)) == "whole"


def test_where_there_was_no_file_the_first_one_is_news() -> None:
    disk = Disk(None)
    watched = disk.watch(None)
    assert watched.look() is Nothing.NEW
    disk.write("one")
    assert watched.look() is Nothing.SETTLED
    assert text_of(watched.look()) == "one"


# ---- real files ------------------------------------------------------------------------------


def replaced(path: Path) -> None:
    """As editors do: write beside it, rename over it."""
    other = path.with_name("new")
    other.write_text("two")
    other.rename(path)


def backed_up(path: Path) -> None:
    """As other editors do: move it away, write a new one."""
    path.rename(path.with_name("api.yaml~"))
    path.write_text("two")


def written(path: Path) -> None:
    path.write_text("two")


def unseen(path: Path) -> None:
    """The same length, and the time of change set back."""
    before = path.stat()
    path.write_text("two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("edit", [replaced, backed_up, written, unseen])
def test_every_way_of_editing_is_seen(tmp_path: Path, edit: object) -> None:
    path = tmp_path / "api.yaml"
    path.write_text("one")
    watched = FileWatch(FileSource(path, "api.yaml"), have="one")
    assert [watched.look(), watched.look()] == [Nothing.SETTLED, Nothing.NEW]
    assert callable(edit)
    edit(path)
    assert watched.look() is Nothing.SETTLED
    assert text_of(watched.look()) == "two"


def test_a_swapped_link_is_seen_as_kubernetes_swaps_them(tmp_path: Path) -> None:
    for name, text in (("v1", "one"), ("v2", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "api.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "api.yaml").symlink_to("..data/api.yaml")
    watched = FileWatch(FileSource(tmp_path / "api.yaml", "api.yaml"), have="one")
    assert [watched.look(), watched.look()] == [Nothing.SETTLED, Nothing.NEW]
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert watched.look() is Nothing.SETTLED
    assert text_of(watched.look()) == "two"


def test_a_pipe_is_not_read_a_second_time(tmp_path: Path) -> None:
    path = tmp_path / "api.yaml"
    os.mkfifo(path)
    watched = watch(FileSource(path, "api.yaml"), {}, have="one")
    assert watched.interval is None
    with pytest.raises(UnavailableError, match="it can be read only once"):
        watched.look(force=True)


def test_a_folder_in_its_place_is_unavailable(tmp_path: Path) -> None:
    source = FileSource(tmp_path, "api.yaml")
    assert stamp(source) != MISSING
    with pytest.raises(UnavailableError, match="this is a folder"):
        FileWatch(source, have="one").look(force=True)


# ---- addresses -------------------------------------------------------------------------------


@dataclass
class Web:
    """An address that answers what a test sets."""

    text: str | Exception | None = "one"
    version: str = "1"
    asked: list[Validators] = field(default_factory=list)

    def load(self, source: UrlSource, known: Validators) -> tuple[Loaded | None, Validators]:
        self.asked.append(known)
        validators = Validators(etag=self.version)
        match self.text:
            case Exception() as error:
                raise error
            case None:
                return None, known
            case str(text):
                return Loaded(text, source.name), validators

    def watch(self, have: str | None) -> UrlWatch:
        return UrlWatch(UrlSource("https://h/api.yaml"), have=have, load=self.load)


def test_an_address_is_asked_with_what_it_said_of_the_text_before() -> None:
    web = Web()
    watched = web.watch("one")
    assert watched.look() is Nothing.NEW, "the same text as at the start"
    web.text = None
    assert watched.look() is Nothing.NEW
    web.text, web.version = "two", "2"
    assert text_of(watched.look()) == "two"
    assert watched.look() is Nothing.NEW, "an answer with the same text is nothing new either"
    assert web.asked == [Validators(), Validators("1"), Validators("1"), Validators("2")]


def test_whoever_asks_gets_the_text_of_the_address_whatever_it_says() -> None:
    web = Web()
    watched = web.watch("one")
    watched.look()
    assert text_of(watched.look(force=True)) == "one"
    assert web.asked == [Validators(), Validators()]


@pytest.mark.parametrize("error", [UnavailableError, SourceError])
def test_after_a_failure_any_text_is_news(error: type[SourceError]) -> None:
    web = Web()
    watched = web.watch("one")
    watched.look()
    web.text = error("u", "it answers 500", "look")
    for _ in range(2):
        with pytest.raises(error):
            watched.look()
    web.text = "one"
    assert text_of(watched.look()) == "one"
    assert web.asked[2:] == [Validators(), Validators()]


# ---- how often -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "file", "url"),
    [
        ("", 2, 30),
        (" ", 2, 30),
        ("5m", 300, 300),
        ("1", 1, 1),
        ("0", None, None),
        ("0s", None, None),
    ],
)
def test_how_often_is_configured(written: str, file: float | None, url: float | None) -> None:
    env = {"CONFIG_INTERVAL": written}
    assert interval(env)[1] is None
    assert watch(FileSource(Path("x"), "x"), env, have="").interval == file
    assert watch(UrlSource("https://h/x"), env, have="").interval == url


@pytest.mark.parametrize("written", ["soon", "-1", "500ms", "1 fortnight", "nan", "inf"])
def test_an_interval_that_is_none_is_a_warning(written: str) -> None:
    env = {"CONFIG_INTERVAL": written}
    said, problem = interval(env)
    assert said is None
    assert problem is not None
    assert problem.file == "CONFIG_INTERVAL"
    assert watch(UrlSource("https://h/x"), env, have="").interval == 30
