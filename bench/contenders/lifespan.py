"""ASGI's start and stop, which hypercorn wants answered."""

from __future__ import annotations

from typing import Any


async def alive(receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI as it comes
    """Say yes to both."""
    for _ in range(2):
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
