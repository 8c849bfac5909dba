from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import memory_stream_pair

from tests.kit.wire import Heard, Wire
from uniapi.codec import Json
from uniapi.demo import Behaviour, Provider, serve_stream

Connect = Callable[[Provider], Wire]
Ask = Callable[..., Awaitable[Heard]]


@pytest.fixture
def connect(nursery: trio.Nursery) -> Connect:
    def opened(provider: Provider) -> Wire:
        ours, theirs = memory_stream_pair()
        nursery.start_soon(serve_stream, theirs, provider)
        return Wire(ours)

    return opened


@pytest.fixture
def ask(connect: Connect) -> Ask:
    """Ask a provider that behaves so, once, on a connection of its own."""

    async def once(how: Behaviour, *, stream: bool = True, **fields: Json) -> Heard:
        wire = connect(Provider(how))
        await wire.send({"model": "m", "stream": stream, **fields})
        return await wire.hear()

    return once
