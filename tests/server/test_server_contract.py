"""What is used of hypercorn, so that an upgrade which changes it fails here and not in service."""

from __future__ import annotations

import inspect
from importlib.metadata import requires, version

import h11
import pytest
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol.events import Body, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.h2 import BUFFER_HIGH_WATER, H2Protocol, StreamBuffer
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.worker_context import WorkerContext

PROTOCOL = [
    "self",
    "app",
    "config",
    "context",
    "task_group",
    "connection_state",
    "ssl",
    "client",
    "server",
    "send",
]


def parameters(thing: object) -> list[str]:
    assert callable(thing)
    return list(inspect.signature(thing).parameters)


def test_the_version_is_the_one_these_facts_were_read_in() -> None:
    assert version("hypercorn").split(".")[:2] == ["0", "18"]
    pinned = [line.replace(" ", "") for line in requires("uniapi") or ()]
    assert any(line.startswith("hypercorn") and "<0.19" in line for line in pinned)


@pytest.mark.parametrize("protocol", [H11Protocol, H2Protocol])
def test_a_protocol_is_made_from_these(protocol: type[H11Protocol | H2Protocol]) -> None:
    assert parameters(protocol.__init__) == PROTOCOL


def test_a_stream_is_made_from_these() -> None:
    assert parameters(HTTPStream.__init__) == [
        "self",
        "app",
        "config",
        "context",
        "task_group",
        "ssl",
        "client",
        "server",
        "send",
        "stream_id",
    ]


def test_what_our_http1_overrides_is_what_theirs_calls() -> None:
    for name in ("handle", "initiate", "_handle_events", "_create_stream", "_maybe_recycle"):
        assert inspect.iscoroutinefunction(vars(H11Protocol)[name]), name
    used = inspect.getsource(H11Protocol.stream_send)
    assert "await self._maybe_recycle()" in used
    assert "await self._send_h11_event(" in used
    assert parameters(H11Protocol._send_h11_event) == ["self", "event"]
    assert parameters(H11Protocol._close_stream) == ["self"]
    assert STREAM_ID == 1


def test_what_our_http2_overrides_is_what_theirs_calls() -> None:
    for name in ("_handle_events", "stream_send", "_flush"):
        assert inspect.iscoroutinefunction(vars(H2Protocol)[name]), name
    assert "await self._handle_events(events)" in inspect.getsource(H2Protocol.handle)
    assert "self.stream_send," in inspect.getsource(H2Protocol._create_stream)
    assert "self.stream_buffers[" in inspect.getsource(H2Protocol.stream_send)
    for name in ("close", "drain"):
        assert parameters(vars(StreamBuffer)[name]) == ["self"]
    assert BUFFER_HIGH_WATER == 32_768


async def test_a_protocol_keeps_what_we_read_of_it(autojump_clock: trio.testing.MockClock) -> None:
    async def send(event: object) -> None:
        pass

    config = Config()
    context = WorkerContext(None)
    one = H11Protocol(None, config, context, None, None, False, None, None, send)  # type: ignore[arg-type] # none of it is used in a constructor
    assert one.stream is None
    assert one.keep_alive_requests == 0
    assert isinstance(one.connection, h11.Connection)
    two = H2Protocol(None, config, context, None, None, True, None, None, send)  # type: ignore[arg-type] # as above
    assert (two.streams, two.stream_buffers) == ({}, {})
    buffer = StreamBuffer(context.event_class)
    assert buffer.buffer == b""
    assert not buffer.complete
    assert not context.terminated.is_set()
    await context.terminated.set()
    assert context.terminated.is_set()


def test_the_configuration_has_what_we_set() -> None:
    config = Config()
    for name in (
        "include_server_header",
        "errorlog",
        "h11_max_incomplete_size",
        "keep_alive_max_requests",
        "graceful_timeout",
        "max_app_queue_size",
    ):
        assert hasattr(config, name), name
    assert config.response_headers("h11")[0][0] == b"date"


def test_events_are_these() -> None:
    assert RawData(b"x").data == b"x"
    assert Updated(idle=True).idle
    assert Closed() == Closed()
    assert StreamClosed(stream_id=1).stream_id == EndBody(stream_id=1).stream_id == 1
    assert Body(stream_id=1, data=b"x").data == b"x"
    assert Response(stream_id=1, headers=[], status_code=200).status_code == 200
    assert parameters(Request) == [
        "stream_id",
        "headers",
        "http_version",
        "method",
        "raw_path",
        "state",
    ]
