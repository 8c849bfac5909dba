"""A client that is gone costs nothing more: the provider is hung up on within 100 ms."""

from __future__ import annotations

import socket
import struct
import time
from urllib.parse import urlsplit

import pytest

from tests.e2e.conftest import Site
from tests.e2e.running import KEY, until
from uniapi.codec import dumps

NEXT = b"GET /healthz HTTP/1.1\r\nhost: g\r\n\r\n"


def connected(site: Site, model: str, *, stream: bool) -> socket.socket:
    body = dumps(
        {"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
    )
    parts = urlsplit(site.url)
    client = socket.create_connection((parts.hostname, parts.port), timeout=5)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n"
        f"authorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    client.sendall(head.encode() + body)
    return client


def leave(client: socket.socket, *, reset: bool) -> None:
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("ahead", [b"", NEXT, b"GE"], ids=["nothing", "a request", "a bit"])
@pytest.mark.parametrize(
    ("model", "stream"),
    [("thinking", True), ("talking", True), ("thinking", False), ("talking", False)],
    ids=["before", "between tokens", "whole, before", "whole, while it comes"],
)
def test_the_upstream_is_closed_within_100_ms(
    site: Site, model: str, ahead: bytes, *, stream: bool, reset: bool
) -> None:
    # A busy machine may be late once; a gateway that is late is late every time.
    took = min(seconds_to_close(site, model, ahead, stream=stream, reset=reset) for _ in range(3))
    assert took < 0.1
    assert site.second.active == 0


def seconds_to_close(site: Site, model: str, ahead: bytes, *, stream: bool, reset: bool) -> float:
    before = len(site.first.requests)
    client = connected(site, model, stream=stream)
    until(lambda: len(site.first.requests) > before, "the provider is asked")
    if model == "talking" and stream:
        heard = b""
        while b"gateway" not in heard:
            heard += client.recv(65536)
    if ahead:
        client.sendall(ahead)
        time.sleep(0.01)  # noqa: TID251 - a real socket: it shall arrive before the end does
    leave(client, reset=reset)
    seen = site.first.requests[before]
    return until(lambda: seen.disconnected_at is not None, "the upstream is closed")


def test_afterwards_nothing_is_left(site: Site) -> None:
    until(lambda: site.first.active == 0, "no answer is being given")
    done = site.process.events("request.done")
    assert {line["outcome"] for line in done} <= {"ok", "client_left", "error", "cut"}
    assert not site.process.events("connection.broken")
    assert not site.process.events("request.crashed")
    assert not any(KEY in line or "-secret" in line for line in site.process.err)
