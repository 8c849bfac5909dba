"""Any bytes at all end the connection they came on, and never the server."""

from __future__ import annotations

from random import Random

import h2.connection
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from trio.testing import MockClock, memory_stream_pair

from tests.kit.world import KEY, World
from uniapi.server.connection import Connection

ASK = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
GOOD = b"\r\n".join(
    [
        b"POST /v1/chat/completions HTTP/1.1",
        b"host: g",
        b"authorization: Bearer " + KEY.encode(),
        b"content-length: %d" % len(ASK),
        b"",
        ASK,
    ]
)

# What makes soup interesting to an HTTP parser.
WORDS = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [
            GOOD,
            GOOD[:100],
            b"GET /healthz HTTP/1.1\r\n",
            b"GET * HTTP/1.0\r\n",
            b"POST /v1/chat/completions HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"host: g\r\n",
            b"content-length: 5\r\n",
            b"content-length: 99999999999999999999\r\n",
            b"transfer-encoding: chunked\r\n",
            b"connection: upgrade\r\nupgrade: websocket\r\n",
            b"connection: close\r\n",
            b"expect: 100-continue\r\n",
            b"\r\n",
            b"\r\n\r\n",
            b"5\r\nabcde\r\n",
            b"0\r\n\r\n",
            b"ffffffffffffffffff\r\n",
            b"\x16\x03\x01",
            b"\x00" * 9,
            b" ",
            b":",
        ]
    ),
)
WEBSOCKET = b"GET /healthz HTTP/1.1\r\nhost: g\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
SOUP = st.lists(WORDS, max_size=12)


def in_the_dark(seed: int, reads: list[bytes], *, leave: bool, http2: bool) -> None:
    """Run one connection fed these reads to its end, beside one that is well."""
    rng = Random(seed)  # noqa: S311 - which reads fall together

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world = World(nursery)
            world.provider("a", gap=0.01)
            world.chain("a")
            if http2:
                ours, theirs = memory_stream_pair()
                nursery.start_soon(speak_http2, world, theirs)
            else:
                ours = world.connect().stream  # type: ignore[assignment] # it is a memory stream
            healthy = world.connect()
            await world.send(healthy)
            for read in reads:
                try:
                    await ours.send_all(read)
                except trio.BrokenResourceError:
                    break
                if rng.random() < 0.5:  # else it may arrive together with the next
                    await trio.testing.wait_all_tasks_blocked()
            if leave:
                await ours.aclose()
            assert (await healthy.hear()).events()[-1] == b"[DONE]"
            assert (await world.get("/healthz", key=None)).status == 200
            await healthy.stream.aclose()
            # Whatever was under way has its own end: a head in 10 s, a body in 60, idle in 75.
            await trio.sleep(75 + 60 + 10)
            assert world.server.open_connections == 0
            assert world.network.providers["a"].open_connections <= 10
            nursery.cancel_scope.cancel()

    with capture_logs():
        trio.run(main, clock=MockClock(autojump_threshold=0))


async def speak_http2(world: World, transport: trio.abc.Stream) -> None:
    """One connection that chose HTTP/2, without the TLS it would have been chosen in."""
    server = world.server
    connection = Connection(server._app, server._config, server._context, transport)

    async def chosen() -> tuple[str, bool]:
        return "h2", True

    connection._handshake = chosen  # type: ignore[method-assign] # the one thing TLS is here for
    server._connections.add(connection)
    await connection.run()
    server._connections.discard(connection)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(), reads=SOUP, leave=st.booleans())
@example(seed=0, reads=[WEBSOCKET, b"\r\n\x00"], leave=True)
@example(seed=0, reads=[GOOD, b"GE"], leave=False)
def test_any_bytes_end_that_connection_and_not_the_server(
    seed: int, reads: list[bytes], leave: bool
) -> None:
    in_the_dark(seed, reads, leave=leave, http2=False)


@settings(deadline=None, max_examples=40)
@given(st.integers(), st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.booleans())
def test_one_wrong_byte_in_a_good_request_is_no_more_than_that(
    seed: int, place: int, byte: int, leave: bool
) -> None:
    data = GOOD[:place] + bytes([byte]) + GOOD[place + 1 :]
    in_the_dark(seed, [data[: place // 2], data[place // 2 :]], leave=leave, http2=False)


def preface() -> bytes:
    http = h2.connection.H2Connection()
    http.initiate_connection()
    return http.data_to_send()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


HEADERS = b"\x82\x87\x84\x41\x01g"  # GET https / of g
FRAMES = st.one_of(
    st.builds(frame, st.integers(0, 12), st.integers(0, 255), st.integers(0, 7), st.binary()),
    st.builds(frame, st.just(1), st.just(5), st.sampled_from([1, 3, 5]), st.just(HEADERS)),
    st.builds(frame, st.just(1), st.just(4), st.sampled_from([1, 3, 5]), st.just(HEADERS)),
    st.builds(frame, st.just(0), st.sampled_from([0, 1]), st.sampled_from([1, 3]), st.binary()),
    st.builds(frame, st.just(3), st.just(0), st.sampled_from([1, 3]), st.just(b"\0\0\0\x08")),
    st.builds(
        frame, st.just(1), st.just(5), st.just(1), st.just(b"\x82\x87\x04\x02/\xff\x41\x01g")
    ),
    st.binary(max_size=40),
)


@settings(deadline=None, max_examples=60)
@given(st.integers(), st.lists(FRAMES, max_size=8), st.booleans())
def test_any_frames_of_http2_end_that_connection_and_not_the_server(
    seed: int, frames: list[bytes], leave: bool
) -> None:
    in_the_dark(seed, [preface(), *frames], leave=leave, http2=True)
