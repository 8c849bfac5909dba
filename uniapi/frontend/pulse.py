"""Signs of life for a client that waits: `: keepalive` comments, and the head before the first.

Proxies and phones drop a connection that says nothing for a minute, and a model may think for
longer. Once a comment has gone out the status is 200, and what fails after that is told in the
stream.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import trio

from uniapi.errors import ApiError
from uniapi.frontend.answer import Answer

T = TypeVar("T")

COMMENT: Final = b": keepalive\n\n"


@dataclass(slots=True)
class Pulse:
    """How often one waiting client hears from us.

    Attributes:
        answer: the way to the client.
        interval: seconds; None for never.
        head: sends the head of the answer.
    """

    answer: Answer
    interval: float | None
    head: Callable[[], Awaitable[None]]
    _wait: trio.CancelScope | None = None

    async def next(self, wait: Callable[[], Awaitable[T]]) -> T:
        """What `wait` brings; it is cancelled and called again, so nothing may be lost by that."""
        if self.interval is None:
            return await wait()
        while True:
            with trio.move_on_after(self.interval) as self._wait:
                return await wait()
            await self._beat()

    def felt(self) -> None:
        """The client has heard from us while `next` waits."""
        if self.interval is not None and self._wait is not None:
            self._wait.deadline = trio.current_time() + self.interval

    async def during(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` comes to; it is never cancelled.

        Raises:
            ApiError: as `work` does.
        """
        if self.interval is None:
            return await work()
        results: list[T] = []
        errors: list[ApiError] = []
        done = trio.Event()

        async def run() -> None:
            try:
                results.append(await work())
            except ApiError as error:
                errors.append(error)
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await self.next(done.wait)
        if errors:
            raise errors[0]
        return results[0]

    async def _beat(self) -> None:
        if not self.answer.started:
            await self.head()
        await self.answer.body(COMMENT)
