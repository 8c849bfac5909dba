"""Fixtures every folder may ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from tests.kit.world import World


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
