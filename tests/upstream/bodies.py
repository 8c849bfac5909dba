"""An answer's body as the transport gives it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx


def chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    """The transport's own iterator: httpx's is a generator, which does not like to be left."""
    match response.stream:
        case httpx.AsyncByteStream() as stream:
            return aiter(stream)
        case _:
            raise AssertionError(response.stream)
