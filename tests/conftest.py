"""Fixtures every folder may ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
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
