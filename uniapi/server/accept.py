"""Accepting connections, in a wait that is begun afresh now and then.

A wait is a handful of objects, and those made in a peak keep its memory from being given back
(`upkeep`). Begun afresh, they move to where memory is in use anyway: five megabytes after 500
streams.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import structlog
import trio

Listener: TypeAlias = trio.abc.Listener[Any]

_AFRESH: Final = 5.0  # seconds a wait lasts at most
_PAUSE: Final = 0.1  # seconds without accepting when there is no room: it does not spin
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})

log = structlog.get_logger()


async def accept(
    listener: Listener, handler: Callable[[Any], Awaitable[None]], connections: trio.Nursery
) -> None:
    """Hand every connection to a task of its own, until cancelled; then close the listener.

    Raises:
        OSError: the listener is broken. Having no descriptors left is waited out instead.
    """
    async with listener:
        while True:
            with trio.move_on_after(_AFRESH):
                try:
                    connections.start_soon(handler, await listener.accept())
                except OSError as error:
                    if error.errno not in _NO_ROOM:
                        raise
                    log.warning("server.no_room", error=error.strerror)
                    await trio.sleep(_PAUSE)
