"""The proxy one writes in an afternoon: hypercorn, a pooled httpx client, and bytes passed on."""

from __future__ import annotations

import argparse
from typing import Any

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from bench.contenders.asgi import alive, whole_body


class Proxy:
    """Passes everything to one upstream."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI as it comes
        """One request."""
        if scope["type"] == "lifespan":
            await alive(receive, send)
            return
        body = await whole_body(receive)
        passed = (b"authorization", b"content-type")
        headers = [(name, value) for name, value in scope["headers"] if name in passed]
        asked = self._client.build_request(
            scope["method"], scope["path"], headers=headers, content=body
        )
        answer = await self._client.send(asked, stream=True)
        try:
            kept = [pair for pair in answer.headers.raw if pair[0].lower() != b"transfer-encoding"]
            await send(
                {"type": "http.response.start", "status": answer.status_code, "headers": kept}
            )
            async for chunk in answer.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await answer.aclose()


async def main(port: int, upstream: str) -> None:
    """Serve until stopped."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
    async with httpx.AsyncClient(base_url=upstream, timeout=60, limits=limits) as client:
        await serve(Proxy(client), config)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="http://127.0.0.1:9001")
    args = parser.parse_args()
    trio.run(main, args.port, args.upstream)
