"""What every ASGI application does: answer start and stop, as hypercorn wants it, and read."""

from __future__ import annotations

from typing import Any


async def alive(receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI as it comes
    """Say yes to both."""
    for _ in range(2):
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})


async def whole_body(receive: Any) -> bytes:  # noqa: ANN401 - as above
    """The whole body of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body
