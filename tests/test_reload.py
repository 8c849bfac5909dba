"""A reload drops nothing and says what happened exactly once, whatever asked for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.kit.logged import line
from tests.kit.reloading import (
    LATER,
    Disk,
    Logs,
    config,
    events,
    names,
    started,
)
from tests.kit.wire import Heard
from tests.kit.world import KEY, World
from uniapi.config.fetch import Validators
from uniapi.config.read import Report
from uniapi.config.source import (
    FileSource,
    Loaded,
    SourceError,
    UnavailableError,
    UrlSource,
    last_good,
)
from uniapi.config.types import Secret
from uniapi.config.watch import FileWatch, UrlWatch
from uniapi.demo import SIXTY

# ---- the edit of a file ----------------------------------------------------------------------


async def test_a_stream_outlives_its_provider_its_key_and_its_limits(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    for host in ("old", "new"):
        world.provider(host, gap=0.5)
    scene = started(world, config("old"))
    heard: list[Heard] = []

    async def ask() -> None:
        heard.append(await world.ask())

    world.nursery.start_soon(ask)
    await scene.wait_for(3.5)
    scene.write(config("new", key=LATER))
    await scene.wait_for(3)
    assert world.gateway.config.keys[0].secret == Secret(LATER)
    assert (await world.ask()).status == 401
    later = await world.ask(key=LATER)
    assert (later.status, later.text()) == (200, SIXTY)
    (stream,) = heard
    assert (stream.status, stream.text()) == (200, SIXTY)
    assert stream.body.endswith(b"data: [DONE]\n\n")
    assert "new" not in stream.body.decode(), "nobody had to carry it on"
    reloaded = line(logs, "config.reloaded")
    assert reloaded["by"] == "file"
    assert reloaded["providers_added"] == ["new"]
    assert reloaded["providers_removed"] == ["old"]
    assert reloaded["keys_added"] == [Secret(LATER).digest]
    assert reloaded["keys_removed"] == [Secret(KEY).digest]


async def test_an_edit_serves_a_second_after_it_was_seen(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    scene = started(world, config("a"))
    before = world.gateway.config
    await scene.wait_for(4.5)
    scene.write(config("b"))  # seen at 5
    await scene.wait_for(1.4)
    assert world.gateway.config is before
    await scene.wait_for(0.2)
    assert names(world) == ["b"]
    await scene.wait_for(60)
    assert events(logs) == ["config.reloaded"]


async def test_half_a_file_is_never_served(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    text = config("a", "b")
    scene = started(world, text)
    await scene.wait_for(4.5)
    scene.write(config("a"))  # half of the new one, and valid
    await scene.wait_for(1)
    scene.write(None)
    await scene.wait_for(1)
    scene.write(config("a", "b", "c"))
    assert names(world) == ["a", "b"]
    await scene.wait_for(3)
    assert names(world) == ["a", "b", "c"]
    assert events(logs) == ["config.reloaded"]


async def test_a_remark_changes_nothing_and_says_so(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    text = config("a")
    scene = started(world, text)
    before = world.gateway.config
    scene.write(f"# a remark\n\n{text}")
    await scene.wait_for(10)
    assert world.gateway.config is before
    assert events(logs) == ["config.unchanged"]


async def test_a_broken_file_is_told_of_once_and_the_mended_one_served(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    world.provider("a")
    scene = started(world, config("a"))
    before = world.gateway.config
    scene.write(config("a", top="preferences: {rate_limit: sometimes, cooldown_period: never}\n"))
    await scene.wait_for(60)
    assert world.gateway.config is before
    assert (await world.ask()).text() == SIXTY
    assert events(logs) == ["config.rejected"]
    rejected = line(logs, "config.rejected")
    assert rejected["log_level"] == "error"
    assert len(rejected["problems"]) == 2
    for problem in rejected["problems"]:
        assert problem.startswith("api.yaml:5: error: preferences.")
        assert "; fix: " in problem
    scene.write(config("a", top="preferences: {rate_limit: nonsense}\n"))
    await scene.wait_for(60)
    scene.write(config("a", top="preferences: {rate_limit: 5/min}\n"))
    await scene.wait_for(60)
    assert events(logs) == ["config.rejected", "config.rejected", "config.reloaded"]
    assert line(logs, "config.reloaded")["preferences_changed"] == ["rate_limit"]


async def test_a_broken_file_that_is_put_back_says_that_all_is_well(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    scene = started(world, config("a"))
    scene.write("providers: [")
    await scene.wait_for(10)
    scene.write(config("a"))
    await scene.wait_for(10)
    assert events(logs) == ["config.rejected", "config.unchanged"]


async def test_hundreds_of_errors_are_one_line_of_twenty(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    scene = started(world, config("a"))
    scene.write("providers:\n" + "  - {provider: x, base_url: nowhere}\n" * 100)
    await scene.wait_for(10)
    problems = line(logs, "config.rejected")["problems"]
    assert len(problems) == 21
    assert "more: uniapi check tells all of them" in problems[-1]


async def test_warnings_are_told_also_when_the_meaning_is_the_same(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    scene = started(world, config("a"))
    scene.write(config("a", top="preferences: {cooldown_perod: 9}\n"))
    await scene.wait_for(10)
    assert events(logs) == ["config.unchanged", "config.warnings"]
    (problem,) = line(logs, "config.warnings")["problems"]
    assert problem.startswith("api.yaml:5: warning: ")
    assert "cooldown_period" in problem


async def test_a_file_that_is_gone_is_told_of_once_and_its_return_too(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    text = config("a")
    scene = started(world, text)
    before = world.gateway.config
    scene.write(None)
    await scene.wait_for(60)
    assert events(logs) == ["config.unavailable"]
    assert "there is no such file" in line(logs, "config.unavailable")["problem"]
    assert world.gateway.config is before
    scene.write(text)
    await scene.wait_for(10)
    assert events(logs) == ["config.unavailable", "config.unchanged"]


async def test_no_line_of_the_log_holds_a_secret(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    secrets = ("sk-Zq8vT3nLw0pXr5bKd7", "sk-P1mWc6yRj4uVt9aHs2", "sk-Hn5xBf8oQe3kGz7dLi")
    scene = started(world, config("a"))
    for text in (
        config("a", key=secrets[0], more=f", preferences: {{headers: {{x-key: {secrets[1]}}}}}"),
        config("a", key=secrets[2], more=f", preferences: {{proxy: 'http://u:{secrets[1]}@h:1'}}"),
        config("a", key=secrets[2], more=f", preferences: {secrets[1]}"),
    ):
        scene.write(text)
        await scene.wait_for(10)
    assert events(logs) == ["config.reloaded", "config.reloaded", "config.rejected"]
    assert not any(secret in repr(logs) for secret in secrets)


async def test_while_a_text_is_read_the_event_loop_comes_first(
    world: World, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    turns: list[float] = []
    usual = sys.getswitchinterval()

    def reading(text: str, **how: object) -> Report:
        turns.append(sys.getswitchinterval())
        raise RuntimeError("a bug")

    monkeypatch.setattr("uniapi.reload.read", reading)
    scene = started(world, config("a"))
    scene.reloader.ask()
    await scene.wait_for(1)
    assert turns[0] < usual / 10
    assert sys.getswitchinterval() == usual


# ---- signals ---------------------------------------------------------------------------------


async def test_a_signal_reloads_at_once_and_says_so_when_nothing_changed(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    scene = started(world, config("a"))
    scene.reloader.ask()
    await scene.wait_for(0.01)
    assert line(logs, "config.unchanged")["by"] == "signal"
    scene.write(config("b"))
    scene.reloader.ask()
    await scene.wait_for(0.01)
    assert line(logs, "config.reloaded")["by"] == "signal"
    await scene.wait_for(60)
    assert events(logs) == ["config.unchanged", "config.reloaded"]


async def test_a_signal_tells_again_what_is_wrong(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    scene = started(world, config("a"))
    for broken, event in (("providers: [", "config.rejected"), (None, "config.unavailable")):
        logs.clear()
        scene.write(broken)
        await scene.wait_for(10)
        scene.reloader.ask()
        await scene.wait_for(10)
        assert events(logs) == [event, event]


async def test_the_variables_of_the_environment_are_read_again(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    text = config("a").replace(KEY, "'${CLIENT}'")
    scene = started(world, text, {"CLIENT": KEY})
    scene.env["CLIENT"] = LATER
    await scene.wait_for(10)
    assert events(logs) == [], "nobody asked"
    scene.reloader.ask()
    await scene.wait_for(1)
    assert world.gateway.config.keys[0].secret == Secret(LATER)
    del scene.env["CLIENT"]
    scene.reloader.ask()
    await scene.wait_for(1)
    assert world.gateway.config.keys[0].secret == Secret(LATER)
    assert events(logs) == ["config.reloaded", "config.rejected"]


async def test_signals_in_the_middle_of_a_reload_lead_to_one_more(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    scene = started(world, config("a"))
    scene.threads.seconds = 3  # for the look, and for the reading
    scene.reloader.ask()
    for _ in range(5):
        await scene.wait_for(1)
        scene.reloader.ask()
    await scene.wait_for(10)
    assert events(logs) == ["config.unchanged", "config.unchanged"]
    assert scene.threads.begun[:4] == [0, 3, 6, 9]
    assert scene.threads.most == 1


async def test_a_gateway_that_is_never_to_look_obeys_a_signal(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    disk = Disk(config("a"))
    source = FileSource(Path("api.yaml"), "api.yaml")
    watch = FileWatch(source, have=disk.text, interval=None, stamp=disk.stamp, load=disk.load)
    scene = started(world, config("a"), watch=watch)
    disk.write(config("b"))
    await scene.wait_for(1e6)
    assert events(logs) == []
    scene.reloader.ask()
    await scene.wait_for(1)
    assert events(logs) == ["config.reloaded"]


# ---- an address ------------------------------------------------------------------------------


async def test_an_address_that_fails_is_told_of_once_until_it_recovers(
    world: World,
    logs: Logs,
    autojump_clock: trio.testing.MockClock,
    tmp_path: Path,
) -> None:
    text, asked = config("a"), []
    answers: list[str | SourceError] = [text]

    def load(source: UrlSource, known: Validators) -> tuple[Loaded | None, Validators]:
        asked.append(trio.current_time())
        said = answers[0]
        if isinstance(said, SourceError):
            raise said
        return Loaded(said, source.name), Validators()

    watch = UrlWatch(UrlSource("https://h/api.yaml"), have=text, load=load)
    scene = started(world, text, {"XDG_CACHE_HOME": str(tmp_path)}, watch=watch)
    await scene.wait_for(95)
    assert asked == [30, 60, 90]
    assert events(logs) == []
    for status in (500, 502, 404):
        answers[0] = UnavailableError("u", f"the address cannot be read: it answers {status}", "")
        await scene.wait_for(60)
    assert events(logs) == ["config.unavailable"]
    answers[0] = SourceError("u", "it is not UTF-8", "save it as UTF-8")
    await scene.wait_for(300)
    assert events(logs)[1:] == ["config.rejected"]
    answers[0] = config("b")
    await scene.wait_for(300)
    assert events(logs)[2:] == ["config.reloaded"]
    assert line(logs, "config.reloaded")["by"] == "address"
    kept = last_good(watch.source, scene.env)
    assert kept is not None
    assert kept.text == config("b"), "the last good copy is the new one"
    answers[0] = "providers: ["
    await scene.wait_for(300)
    assert events(logs)[3:] == ["config.rejected"]
    assert last_good(watch.source, scene.env) == kept
