"""What stands behind a provider's SDK in tests: a transport that keeps and answers."""

from __future__ import annotations

import httpx


def canned() -> tuple[httpx.MockTransport, list[httpx.Request], dict[str, bytes]]:
    """A transport, what was asked of it, and what it shall answer: content type to body."""
    seen: list[httpx.Request] = []
    says: dict[str, bytes] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        ((kind, body),) = says.items()
        return httpx.Response(200, content=body, headers={"content-type": kind})

    return httpx.MockTransport(answer), seen, says
