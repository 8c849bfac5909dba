"""What a stranger sends costs a stranger's connection at most, and never the server."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.kit.wire import Wire
from tests.kit.world import World
from tests.server.peer import GET_HEALTH, chat, end_of, everything, post, settled, well

WEBSOCKET = (
    b"GET /healthz HTTP/1.1\r\nhost: g\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
H2C_UPGRADE = (
    b"GET /healthz HTTP/1.1\r\nhost: g\r\nconnection: Upgrade, HTTP2-Settings\r\n"
    b"upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
)
PRIOR_KNOWLEDGE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# HEADERS of stream 1, its `:path` the bytes ff fe: what ended hypercorn's own server.
NON_ASCII_PATH = (
    b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    b"\x00\x00\x0c\x01\x05\x00\x00\x00\x01\x82\x86\x04\x02\xff\xfe\x41\x01\x67\x88\x84\x84"
)


@pytest.fixture
def quiet(world: World) -> World:
    world.provider("a")
    return world.chain("a")


async def said(world: World, data: bytes) -> Wire:
    wire = world.connect()
    await wire.stream.send_all(data)
    return wire


async def test_a_websocket_upgrade_is_served_as_plain_http(
    quiet: World, autojump_clock: MockClock
) -> None:
    heard = await (await said(quiet, WEBSOCKET)).hear("GET")
    assert heard.status == 200
    assert heard.json() is not None


async def test_a_websocket_upgrade_with_a_stray_byte_ends_that_connection_only(
    quiet: World, autojump_clock: MockClock
) -> None:
    wire = await said(quiet, WEBSOCKET + b"\x00")
    assert (await wire.hear("GET")).status == 200
    await wire.stream.aclose()
    assert await well(quiet)
    await settled(quiet)


async def test_an_h2c_upgrade_is_served_as_plain_http(
    quiet: World, autojump_clock: MockClock
) -> None:
    heard = await (await said(quiet, H2C_UPGRADE)).hear("GET")
    assert heard.status == 200
    assert "upgrade" not in heard.headers


async def test_an_h2c_upgrade_with_a_non_ascii_path_ends_that_connection_only(
    quiet: World, autojump_clock: MockClock
) -> None:
    wire = await said(quiet, H2C_UPGRADE.replace(b"/healthz", b"/\xff\xfe"))
    assert (await wire.hear("GET")).status == 400
    assert await end_of(wire.stream) == 0
    await wire.stream.aclose()
    assert await well(quiet)
    await settled(quiet)


async def test_cleartext_http2_is_refused_and_the_server_lives(
    quiet: World, autojump_clock: MockClock
) -> None:
    wire = await said(quiet, PRIOR_KNOWLEDGE + NON_ASCII_PATH)
    answer = await everything(wire.stream)
    assert answer.startswith(b"HTTP/1.1 400 ")
    await wire.stream.aclose()
    assert await well(quiet)
    await settled(quiet)


@pytest.mark.parametrize("order", [0, 1])
async def test_a_length_and_chunks_together_are_refused_and_hung_up_on(
    quiet: World, autojump_clock: MockClock, order: int
) -> None:
    both = ["content-length: 4", "transfer-encoding: chunked"]
    smuggled = post(b"0\r\n\r\n" + GET_HEALTH, *(both if order else reversed(both)))
    wire = await said(quiet, smuggled)
    answer = await everything(wire.stream)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in answer
    assert answer.count(b"HTTP/1.1") == 1, "the hidden request was served"


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nhost: g\r\nx: " + b"a" * 40_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: g\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"x%d: y\r\n" % n for n in range(5000)),
    ],
    ids=["header", "target", "flood"],
)
async def test_a_giant_head_is_431(quiet: World, autojump_clock: MockClock, head: bytes) -> None:
    wire = await said(quiet, head)
    heard = await wire.hear("GET")
    assert heard.status == 431
    assert b"larger than 32768 bytes" in heard.body
    assert await end_of(wire.stream) == 0


@pytest.mark.parametrize(
    "soup",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: g\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: g\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: g\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: g\r\ntransfer-encoding: gzip\r\n\r\n",
        b"GET / HTTP/3.0\r\nhost: g\r\n\r\n",
    ],
    ids=["tls", "no host", "two hosts", "no colon", "negative", "two lengths", "te", "version"],
)
async def test_a_malformed_head_gets_an_error_object_and_is_hung_up_on(
    quiet: World, autojump_clock: MockClock, soup: bytes
) -> None:
    wire = await said(quiet, soup)
    heard = await wire.hear("GET")
    assert heard.status in {400, 501}
    match heard.json():
        case {"error": dict() as error}:
            assert set(error) == {"message", "type", "param", "code"}
        case other:
            raise AssertionError(other)
    assert await end_of(wire.stream) == 0
    assert await well(quiet)


async def test_bad_chunks_in_a_body_end_that_connection_only(
    quiet: World, autojump_clock: MockClock
) -> None:
    wire = await said(quiet, post(b"zz\r\n", "transfer-encoding: chunked"))
    assert (await wire.hear()).status == 400
    assert await end_of(wire.stream) == 0
    await wire.stream.aclose()
    assert await well(quiet)
    await settled(quiet)


async def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing_behind(
    quiet: World, autojump_clock: MockClock
) -> None:
    wire = await said(quiet, post(chat(), "content-length: 10000"))
    await trio.sleep(1)
    await wire.stream.aclose()
    await settled(quiet)
    assert trio.current_time() == 1
