"""What hypercorn on trio costs by itself: an application that knows its only two answers."""

from __future__ import annotations

import argparse
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from bench.contenders.asgi import alive, whole_body
from bench.workloads import workload
from uniapi.codec import JsonObject, dumps
from uniapi.demo.completions import Ask, chat_chunk, completion, tokens

_ASK: Final = Ask("json")
_HOW: Final = workload("json")
_BODY: Final = dumps(completion(_ASK, _HOW))
_FIFTY: Final = workload("burst")
_DELTAS: Final[list[JsonObject]] = [{"role": "assistant", "content": ""}, *tokens(_ASK, _FIFTY)]
_CHUNKS: Final = [
    *(b"data: " + chat_chunk(_ASK, _FIFTY, delta) + b"\n\n" for delta in _DELTAS),
    b"data: " + chat_chunk(_ASK, _FIFTY, {}, "stop") + b"\n\ndata: [DONE]\n\n",
]


async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI as it comes
    """Read the question, give the answer."""
    if scope["type"] == "lifespan":
        await alive(receive, send)
        return
    stream = b'"stream":true' in await whole_body(receive)
    kind, length = (
        (b"text/event-stream", b"") if stream else (b"application/json", b"%d" % len(_BODY))
    )
    headers = [(b"content-type", kind), *([(b"content-length", length)] if length else [])]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for chunk in _CHUNKS if stream else [_BODY]:
        await send({"type": "http.response.body", "body": chunk, "more_body": stream})
    if stream:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    config = Config()
    config.bind = [f"127.0.0.1:{parser.parse_args().port}"]
    trio.run(serve, app, config)


if __name__ == "__main__":
    main()
