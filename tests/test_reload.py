"""A reload drops nothing, keeps what is still true, and says what happened exactly once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
import structlog
import trio
import trio.testing

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
from uniapi.config.types import Config, Secret
from uniapi.config.watch import MISSING, FileWatch, Stamp, UrlWatch, Watch
from uniapi.demo import SIXTY, Behaviour
from uniapi.reload import Reloader
from uniapi.state import Bucket, DiscoveryStatus, Scope
from uniapi.upstream.credentials import _Grant, _identity

T = TypeVar("T")
Logs = list[structlog.typing.EventDict]

LATER = "sk-client-later"


def config(*hosts: str, key: str = KEY, more: str = "", top: str = "") -> str:
    """Providers by these hosts, tried in this order; a `?` after one leaves out its models."""
    entries = "".join(
        f"  - {{provider: {host.strip('?')}, api: sk-up-{host.strip('?')}, "
        f"base_url: 'http://{host.strip('?')}/v1/chat/completions'"
        f"{'' if host.endswith('?') else ', model: [m]'}{more}}}\n"
        for host in hosts
    )
    return f"providers:\n{entries}api_keys:\n  - {{api: {key}, model: [all]}}\n{top}"


@dataclass
class Disk:
    """One file, whose stamp changes with its text."""

    text: str | None
    version: int = 1

    def write(self, text: str | None) -> None:
        self.text = text
        self.version += 1

    def stamp(self, source: FileSource) -> Stamp:
        return MISSING if self.text is None else Stamp(self.version)

    def load(self, source: FileSource) -> Loaded:
        if self.text is None:
            raise UnavailableError(source.name, "there is no such file", "create it")
        return Loaded(self.text, source.name)


@dataclass
class Threads:
    """In place of worker threads, of which a virtual clock knows nothing.

    Attributes:
        seconds: how long work takes.
        begun: when each piece began.
        most: how much was under way at once.
    """

    seconds: float = 0.0
    begun: list[float] = field(default_factory=list)
    active: int = 0
    most: int = 0

    async def __call__(self, work: Callable[[], T], /) -> T:
        self.begun.append(trio.current_time())
        self.active += 1
        self.most = max(self.most, self.active)
        await trio.sleep(self.seconds)
        self.active -= 1
        return work()


@dataclass
class Scene:
    """A gateway, the file it was started from, and its reloader."""

    world: World
    disk: Disk
    threads: Threads
    env: dict[str, str]
    reloader: Reloader

    def write(self, text: str | None) -> None:
        self.disk.write(text)

    async def wait_for(self, seconds: float) -> None:
        await trio.sleep(seconds)
        await trio.testing.wait_all_tasks_blocked()


def started(
    world: World, text: str, env: dict[str, str] | None = None, *, watch: Watch | None = None
) -> Scene:
    """The gateway on this text, watched; the first looks are at 2 and 3 s, then every 2 s."""
    variables = env if env is not None else {}
    world.start(text, variables)
    disk, threads = Disk(text), Threads()
    source = FileSource(Path("api.yaml"), "api.yaml")
    seen = watch or FileWatch(source, have=text, stamp=disk.stamp, load=disk.load)
    reloader = Reloader(world.gateway, seen, variables, threads)
    world.nursery.start_soon(reloader.run)
    world.nursery.start_soon(world.gateway.discovery.run)
    return Scene(world, disk, threads, variables, reloader)


@pytest.fixture
def logs() -> Iterator[Logs]:
    with structlog.testing.capture_logs() as found:
        yield found


def events(logs: Logs) -> list[str]:
    """The log lines about the configuration."""
    return [str(line["event"]) for line in logs if str(line["event"]).startswith("config.")]


def line(logs: Logs, event: str) -> structlog.typing.EventDict:
    (found,) = [entry for entry in logs if entry["event"] == event]
    return found


def names(world: World) -> list[str]:
    """The providers that serve now."""
    return [provider.name for provider in world.gateway.config.providers]


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
        answers[0] = UnavailableError("u", f"CONFIG_URL cannot be read: it answers {status}", "")
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


# ---- what survives ---------------------------------------------------------------------------


async def test_what_is_still_true_is_kept_and_the_rest_forgotten(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    scene = started(world, config("a", "b", "gone"))
    state, now = world.gateway.state, trio.current_time()
    for host in ("a", "b", "gone"):
        state.cool_channel(host, "m", now, 500)
        state.cool_key(host, Secret(f"sk-up-{host}").digest, now, 500)
        state.advance_pool(host)
    mine = Bucket(Scope.CLIENT, Secret(KEY).digest)
    meter = state.metered(mine)
    moved = config("a", "b").replace("http://b/v1", "http://b/v2")
    scene.write(moved)
    scene.reloader.ask()
    await scene.wait_for(1)
    assert state.channel_cooldown("a", "m", now) == 500
    assert state.key_cooldown("a", Secret("sk-up-a").digest, now) == 500
    assert state.pool_cursor("a") == 1
    assert state.meter(mine) is meter
    assert state.channel_cooldown("gone", "m", now) == 0
    assert state.pool_cursor("gone") == 0
    assert state.channel_cooldown("b", "m", now) == 0, "another address deserves a try at once"
    assert state.key_cooldown("b", Secret("sk-up-b").digest, now) == 0
    assert state.pool_cursor("b") == 1


async def test_only_who_is_another_is_asked_for_its_models_again(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    listings = {host: world.provider(host) for host in ("a", "b", "c", "b2")}
    for host, provider in listings.items():
        provider.models = [f"{host}-model"]
    scene = started(world, config("a?", "b?"))
    await scene.wait_for(1)
    state = world.gateway.state
    text = config("a?", "b?", "c?", top="preferences: {cooldown_period: 1}\n")
    scene.write(text.replace("http://b/", "http://b2/"))
    scene.reloader.ask()
    await scene.wait_for(0.01)
    found = {name: [m.name for m in state.discovery(name).models] for name in "abc"}
    assert found == {"a": ["a-model"], "b": ["b2-model"], "c": ["c-model"]}
    assert [len(listings[host].requests) for host in ("a", "b", "c", "b2")] == [1, 1, 1, 1]
    scene.write(config("a", "b?", "c?"))
    scene.reloader.ask()
    await scene.wait_for(0.01)
    assert state.discovery("a").models == (), "it says itself what it has"
    assert state.discovery("b").status is DiscoveryStatus.READY
    await scene.wait_for(1800)
    assert len(listings["a"].requests) == 1
    assert len(listings["c"].requests) == 2


async def test_a_listing_under_way_is_not_taken_for_the_new_providers(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    slow, quick = world.provider("slow"), world.provider("quick")
    slow.models, slow.catalogue = ["old"], Behaviour(delay=10)
    quick.models = ["new"]
    scene = started(world, config("slow?"))
    await scene.wait_for(5)
    scene.write(config("slow?").replace("http://slow/", "http://quick/"))
    scene.reloader.ask()
    await scene.wait_for(0.01)
    assert [m.name for m in world.gateway.state.discovery("slow").models] == ["new"]
    await scene.wait_for(20)
    assert [m.name for m in world.gateway.state.discovery("slow").models] == ["new"]
    assert slow.open_connections == 0, "nobody waits for it"


async def test_a_request_that_waits_for_a_listing_gets_the_new_ones(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    slow, quick = world.provider("slow"), world.provider("quick", Behaviour())
    slow.catalogue = Behaviour(delay=10)
    quick.models = ["m"]
    scene = started(world, config("slow?"))
    heard: list[Heard] = []

    async def ask() -> None:
        await trio.sleep(0.5)
        heard.append(await world.ask())

    world.nursery.start_soon(ask)
    await scene.wait_for(1)
    scene.write(config("slow?").replace("http://slow/", "http://quick/"))
    scene.reloader.ask()
    await scene.wait_for(0.1)
    assert [one.text() for one in heard] == [SIXTY]
    assert (await world.ask()).text() == SIXTY


async def test_tokens_of_providers_that_are_gone_are_forgotten(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    scene = started(world, config("same", "changed", "gone", more=", private_key: 'one'"))
    grants = world.gateway.credentials._grants
    for provider in world.gateway.config.providers:
        grants[_identity(provider)] = _Grant()
    same = grants[_identity(world.gateway.config.providers_by_name["same"])]
    text = config("same", "changed", more=", private_key: 'one'").splitlines(keepends=True)
    scene.write("".join(row.replace("one", "two") if "changed" in row else row for row in text))
    scene.reloader.ask()
    await scene.wait_for(1)
    assert list(world.gateway.credentials._grants.values()) == [same]


# ---- those who listen ------------------------------------------------------------------------


async def test_listeners_hear_of_the_beginning_the_swap_and_the_end(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    scene = started(world, config("a"))
    heard: list[str] = []

    def swapped(config: Config) -> None:
        assert world.gateway.config is config
        heard.append(",".join(provider.name for provider in config.providers))

    scene.reloader.on_begin.append(lambda: heard.append("begin"))
    scene.reloader.on_reload.append(swapped)
    scene.reloader.on_reject.append(lambda: heard.append("reject"))
    scene.reloader.on_end.append(lambda: heard.append("end"))
    await scene.wait_for(10)
    assert heard == []
    for text, told in (
        (config("b"), ["begin", "b", "end"]),
        (config("b") + "# a remark", ["begin", "end"]),
        ("providers: [", ["begin", "reject", "end"]),
        (None, []),
    ):
        scene.write(text)
        await scene.wait_for(10)
        assert heard == told
        heard.clear()
    scene.reloader.ask()
    await scene.wait_for(10)
    assert heard == ["begin", "end"], "a signal is always answered"
    heard.clear()
    scene.write("providers: [")
    await scene.wait_for(60)
    assert heard == ["begin", "reject", "end"], "once, however long it stays"


async def test_a_listener_that_fails_and_a_look_that_breaks_harm_nobody(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    scene = started(world, config("a"))

    def broken() -> None:
        raise RuntimeError("a bug")

    scene.reloader.on_begin.append(broken)
    scene.write(config("b"))
    scene.reloader.ask()
    await scene.wait_for(1)
    assert events(logs) == ["config.listener_failed", "config.reloaded"]
    scene.reloader.on_begin.clear()
    scene.disk.text = 5  # type: ignore[assignment] # no text at all: a bug somewhere else
    scene.reloader.ask()
    await scene.wait_for(1)
    assert events(logs)[2:] == ["config.reload_failed"]
    scene.write(config("c"))
    await scene.wait_for(10)
    assert events(logs)[3:] == ["config.reloaded"]


# ---- the demo --------------------------------------------------------------------------------


async def test_where_there_was_no_file_the_first_one_is_served(
    world: World, logs: Logs, autojump_clock: trio.testing.MockClock
) -> None:
    disk = Disk(None)
    watch = FileWatch(FileSource(Path("api.yaml"), "api.yaml"), stamp=disk.stamp, load=disk.load)
    scene = started(world, config("demo"), watch=watch)
    await scene.wait_for(60)
    assert events(logs) == [], "no file is how it should be"
    disk.write(config("mine"))
    await scene.wait_for(3)
    assert events(logs) == ["config.reloaded"]
    assert names(world) == ["mine"]
