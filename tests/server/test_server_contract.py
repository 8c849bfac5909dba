"""What is used of hypercorn, so that an upgrade which changes it fails here and not in service."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import requires, version

import h11
import pytest
import trio
from h2.connection import H2Connection
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.protocol.events import Body, Response, StreamClosed
from hypercorn.protocol.h2 import BUFFER_HIGH_WATER, H2Protocol, StreamBuffer
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import TaskGroup

from uniapi.server import h1
from uniapi.server.connection import Tasks
from uniapi.server.h1 import H1

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


def test_of_their_http1_only_the_constructor_runs() -> None:
    theirs = {name for name, thing in vars(H11Protocol).items() if inspect.isfunction(thing)}
    ours = set(vars(H1))
    left = theirs - ours - {"__init__"}
    assert {"initiate", "handle"} <= theirs & ours, "what a connection calls"
    assert left, "or the next line holds nothing"
    assert re.findall(rf"\.({'|'.join(left)})\(", inspect.getsource(h1)) == []
    assert "super()" not in inspect.getsource(h1)


async def test_their_constructor_leaves_what_our_http1_reads(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def send(event: object) -> None:
        pass

    config, context = Config(), WorkerContext(None)
    config.h11_max_incomplete_size = 10
    app, tasks, client, server = object(), object(), ("c", 1), ("s", 2)
    one = H11Protocol(app, config, context, tasks, None, True, client, server, send)  # type: ignore[arg-type] # none of it is used in a constructor
    assert (one.app, one.task_group) == (app, tasks)
    assert (one.config, one.context, one.send) == (config, context, send)
    assert (one.ssl, one.client, one.server) == (True, client, server)
    assert (one.stream, one.keep_alive_requests) == (None, 0)
    match one.connection:
        case h11.Connection() as connection:
            assert connection.our_role is h11.SERVER
            connection.receive_data(b"GET / HTTP/1.1")
            with pytest.raises(h11.RemoteProtocolError):
                connection.next_event()
        case other:
            raise AssertionError(other)


def test_what_our_http2_overrides_is_what_theirs_calls() -> None:
    for name in ("_handle_events", "stream_send", "_flush"):
        assert inspect.iscoroutinefunction(vars(H2Protocol)[name]), name
    assert "await self._handle_events(events)" in inspect.getsource(H2Protocol.handle)
    assert "self.stream_send," in inspect.getsource(H2Protocol._create_stream)
    assert "self.stream_buffers[" in inspect.getsource(H2Protocol.stream_send)
    for name in ("close", "drain"):
        assert parameters(vars(StreamBuffer)[name]) == ["self"]
    assert BUFFER_HIGH_WATER == 32_768


async def test_what_our_http2_reads_of_theirs(autojump_clock: trio.testing.MockClock) -> None:
    async def send(event: object) -> None:
        pass

    context = WorkerContext(None)
    two = H2Protocol(None, Config(), context, None, None, True, None, None, send)  # type: ignore[arg-type] # none of it is used in a constructor
    assert (two.streams, two.stream_buffers) == ({}, {})
    assert isinstance(two.connection, H2Connection)
    assert callable(two.priority.unblock)
    assert not two.has_data.is_set()
    buffer = StreamBuffer(context.event_class)
    assert buffer.buffer == b""
    assert not buffer.complete
    assert not context.terminated.is_set()
    await context.terminated.set()
    assert context.terminated.is_set()


def test_our_tasks_are_what_their_streams_ask_for() -> None:
    assert parameters(Tasks.spawn_app) == parameters(TaskGroup.spawn_app)
    start = re.sub(r"\s+", " ", inspect.getsource(HTTPStream.handle))
    called = "self.app_put = await self.task_group.spawn_app( self.app, self.config, self.scope,"
    assert called in start
    assert '"extensions": {},' in start, "where we put what our server adds"
    assert "self.task_group.spawn(self.send_task)" in inspect.getsource(H2Protocol.initiate)
    assert "if message is None:" in inspect.getsource(HTTPStream.app_send), "the end, from `Tasks`"


def test_the_configuration_has_what_we_set() -> None:
    config = Config()
    for name in (
        "include_server_header",
        "errorlog",
        "h11_max_incomplete_size",
        "keep_alive_max_requests",
        "max_app_queue_size",
    ):
        assert hasattr(config, name), name
    assert config.accesslog is None, "requests are logged by us"
    config.include_server_header = False
    assert [name for name, _ in config.response_headers("h2")] == [b"date"]


def test_events_are_these() -> None:
    assert RawData(b"x").data == b"x"
    assert Updated(idle=True).idle
    assert Closed() == Closed()
    assert StreamClosed(stream_id=1).stream_id == 1
    assert Body(stream_id=1, data=b"x").data == b"x"
    assert Response(stream_id=1, headers=[], status_code=200).status_code == 200
