"""Fixtures every folder may ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from math import inf
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from hypothesis import HealthCheck, settings

from tests.kit.world import World

# The same examples in every run, however slow the machine: a law that breaks in one breaks in
# all. To look for new ones: `pytest --hypothesis-profile=search`.
settings.register_profile(
    "suite",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile("suite")

_PROCESSES = ("tests/e2e/", "tests/deploy/")


def pytest_configure(config: pytest.Config) -> None:
    """Let xdist hand out the files in our order, not those with the most tests first."""
    if config.pluginmanager.hasplugin("xdist"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: what is left at the end divides evenly.

    They start processes, and have few tests each.
    """
    items.sort(key=lambda item: not item.nodeid.startswith(_PROCESSES))


@pytest.fixture(scope="session", autouse=True)
def _no_logger_remembers() -> Iterator[None]:
    """A logger first used after `log.configure` would keep that stream in every later test."""
    configure = structlog.configure

    def uncached(**settings: Any) -> None:
        configure(**{**settings, "cache_logger_on_first_use": False})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structlog, "configure", uncached)
        yield


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.fixture
def logs() -> Iterator[list[structlog.typing.EventDict]]:
    """What is logged during the test."""
    with structlog.testing.capture_logs() as found:
        yield found


@pytest.fixture
def autojump_clock(monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    """pytest-trio's, but its time stands still while a thread works.

    Trio counts a task that waits for a thread as idle, so its own clock would jump on, and how
    far the work had come at which second would be a matter of the machine's load.
    """
    clock = trio.testing.MockClock(autojump_threshold=0)
    run_sync = trio.to_thread.run_sync
    working = 0

    async def in_no_time(work: Callable[..., object], *args: object, **options: Any) -> object:
        nonlocal working
        working += 1
        clock.autojump_threshold = inf
        try:
            return await run_sync(work, *args, **options)
        finally:
            working -= 1
            clock.autojump_threshold = inf if working else 0

    monkeypatch.setattr(trio.to_thread, "run_sync", in_no_time)
    return clock


@pytest.fixture
async def world(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> AsyncIterator[World]:
    """A gateway in a network of memory; the test asks for `autojump_clock` too, by name."""
    clock = trio.lowlevel.current_clock()  # pytest-trio takes only the test's own arguments
    assert clock is autojump_clock, "ask for autojump_clock as well"
    built = World(nursery)
    yield built
    nursery.cancel_scope.cancel()
