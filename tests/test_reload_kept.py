"""After a reload what is still true is kept, and those who listen have heard of it."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing

from tests.kit.reloading import (
    Disk,
    Logs,
    config,
    events,
    names,
    started,
)
from tests.kit.wire import Heard
from tests.kit.world import KEY, World
from uniapi.buckets import Bucket, Scope
from uniapi.config.source import (
    FileSource,
)
from uniapi.config.types import Config, Secret
from uniapi.config.watch import FileWatch
from uniapi.demo import SIXTY, Behaviour
from uniapi.state import DiscoveryStatus
from uniapi.upstream.credentials import _Grant, _identity
from uniapi.upstream.proxied import Proxies
from uniapi.upstream.transport import Transport

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
    meter = state.buckets.metered(mine)
    moved = config("a", "b").replace("http://b/v1", "http://b/v2")
    scene.write(moved)
    scene.reloader.ask()
    await scene.wait_for(1)
    assert state.channel_cooldown("a", "m", now) == 500
    assert state.key_cooldown("a", Secret("sk-up-a").digest, now) == 500
    assert state.pool_cursor("a") == 1
    assert state.buckets.get(mine) is meter
    assert state.channel_cooldown("gone", "m", now) == 0
    assert state.pool_cursor("gone") == 0
    assert state.channel_cooldown("b", "m", now) == 0, "another address deserves a try at once"
    assert state.key_cooldown("b", Secret("sk-up-b").digest, now) == 0
    assert state.pool_cursor("b") == 1


async def test_a_proxy_that_was_taken_away_serves_its_last_stream_and_is_closed(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    provider = world.provider("a", gap=0.5)
    through = ", preferences: {proxy: 'http://proxy:3128'}"
    scene = started(world, config("a", more=through))
    client = world.gateway.client
    client._proxied = Proxies(lambda url: Transport(world.network))
    heard: list[Heard] = []

    async def ask() -> None:
        heard.append(await world.ask())

    world.nursery.start_soon(ask)
    await scene.wait_for(5)
    scene.write(config("a"))
    scene.reloader.ask()
    await scene.wait_for(1)
    assert await client.sweep() == 0
    assert (client.open_connections, provider.open_connections) == (1, 1)
    await scene.wait_for(30)
    assert heard[0].text() == SIXTY
    assert (client.open_connections, provider.open_connections) == (0, 1)
    assert await client.sweep() == 1
    await scene.wait_for(0)
    assert provider.open_connections == 0


async def test_a_proxy_that_is_still_named_keeps_its_connections(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    provider = world.provider("a")
    top = "preferences: {proxy: 'http://proxy:3128'}\n"
    scene = started(world, config("a", "gone", top=top))
    client = world.gateway.client
    client._proxied = Proxies(lambda url: Transport(world.network))
    await world.ask()
    scene.write(config("a", top=top))
    scene.reloader.ask()
    await scene.wait_for(1)
    assert names(world) == ["a"]
    assert await client.sweep() == 0
    assert provider.open_connections == 1


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
