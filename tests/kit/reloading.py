"""A gateway in virtual time that is given other configurations while it serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog
import trio
import trio.testing

from tests.kit.world import KEY, World
from uniapi.config.source import (
    FileSource,
    Loaded,
    UnavailableError,
)
from uniapi.config.watch import MISSING, FileWatch, Stamp, Watch
from uniapi.reload import Reloader

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


def events(logs: Logs) -> list[str]:
    """The log lines about the configuration."""
    return [str(line["event"]) for line in logs if str(line["event"]).startswith("config.")]


def names(world: World) -> list[str]:
    """The providers that serve now."""
    return [provider.name for provider in world.gateway.config.providers]
