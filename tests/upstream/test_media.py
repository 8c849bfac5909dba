"""What a request points to is fetched from the public internet or not at all."""

from __future__ import annotations

import ipaddress
import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from tests.kit.world import KEY, World
from uniapi.codec import Json
from uniapi.demo.http1 import Connection
from uniapi.errors import ApiError
from uniapi.upstream.media import MAX_SIZE, TIMEOUT, Fetcher, PublicNetwork, place, public, resolve
from uniapi.upstream.network import TcpNetwork

TLS = Path(__file__).parent.parent / "fixtures" / "tls"
PUBLIC = "93.184.216.34"
PNG = b"\x89PNG"

# ---- Addresses ----------------------------------------------------------------------------------

FORBIDDEN = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",  # where clouds keep credentials
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "233.252.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:7f00:1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "64:ff9b:1::808:808",
    "100::1",
    "2001:0:0:0:0:0:80ff:fffe",  # Teredo for 127.0.0.1
    "2001:db8::1",
    "2001:10::1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "2002:c0a8:101::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "localhost",
    "127.1",
    "",
]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_an_address_that_is_not_public_is_told(address: str) -> None:
    assert not public(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        PUBLIC,
        "2606:4700:4700::1111",
        "2a00:1450:4001:80b::200e",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2002:808:808::1",
    ],
)
def test_a_public_address_is_told(address: str) -> None:
    assert public(address)


PRIVATE = [
    ipaddress.IPv4Network(net)
    for net in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/3",
    )
]


@given(
    st.sampled_from(PRIVATE).flatmap(lambda net: st.integers(int(net[0]), int(net[-1]))),
    st.sampled_from(["::ffff:0:0", "64:ff9b::", "2002::", "::", "::ffff:0:0:0"]),
)
def test_no_disguise_makes_a_private_address_public(number: int, disguise: str) -> None:
    assert not public(str(ipaddress.IPv4Address(number)))
    shift = 80 if disguise == "2002::" else 0
    assert not public(
        str(ipaddress.IPv6Address(int(ipaddress.IPv6Address(disguise)) | number << shift))
    )


# ---- The way to them ----------------------------------------------------------------------------

Serve = Callable[[trio.abc.Stream], Awaitable[None]]


def saying(*parts: bytes, kind: str = "image/png", status: str = "200 OK", head: str = "") -> Serve:
    """A server that answers every request with these parts, until asked no more."""

    async def serve(stream: trio.abc.Stream) -> None:
        connection = Connection(stream)
        while await connection.request() is not None:
            body = b"".join(parts)
            kinds = f"content-type: {kind}\r\n" if kind else ""
            lines = f"HTTP/1.1 {status}\r\n{kinds}{head}content-length: {len(body)}\r\n\r\n"
            await stream.send_all(lines.encode() + body)

    return serve


@dataclass
class Net:
    """Names, what they lead to, and who is there; it writes down where a connection was made."""

    nursery: trio.Nursery
    serve: Serve = field(default_factory=lambda: saying(PNG))
    names: dict[str, Sequence[str]] = field(default_factory=lambda: {"pics.example": [PUBLIC]})
    dead: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    connected: list[tuple[str, str, int, bool]] = field(default_factory=list)

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        self.asked.append(host)
        if host not in self.names:
            raise OSError("no such host")
        return self.names[host]

    async def connect_to(self, address: str, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.connected.append((address, host, port, tls))
        if address in self.dead:
            raise OSError("unreachable")
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self.serve, theirs)
        return ours

    def fetcher(self) -> Fetcher:
        return Fetcher(PublicNetwork(self, self.resolve))


@pytest.fixture
def net(nursery: trio.Nursery) -> Net:
    return Net(nursery)


async def refused(net: Net, url: str = "https://pics.example/cat.png?token=s3cret") -> str:
    """Why a URL is not fetched; the error is the client's and names the parameter."""
    param = "messages[0].content[1].image_url.url"
    with pytest.raises(ApiError) as caught:
        await net.fetcher().fetch(url, param)
    error = caught.value
    assert (error.status, error.param, error.code) == (400, param, "media_not_fetched")
    assert error.message.startswith(f"{param}: ")
    assert "s3cret" not in error.message
    assert "cat.png" not in error.message
    return error.message


async def test_what_is_there_is_fetched(net: Net) -> None:
    media = await net.fetcher().fetch("https://pics.example:8443/cat.png?size=1")
    assert (media.media_type, media.data) == ("image/png", PNG)
    assert net.connected == [(PUBLIC, "pics.example", 8443, True)]


@pytest.mark.parametrize("addresses", [["10.0.0.1"], [PUBLIC, "::1"], ["127.0.0.1", PUBLIC], []])
async def test_a_name_with_a_private_address_is_not_connected_to(
    net: Net, addresses: list[str]
) -> None:
    net.names["pics.example"] = addresses
    message = await refused(net)
    assert "host pics.example" in message
    assert "not public" in message
    assert net.connected == []


async def test_the_checked_address_is_the_one_connected_to(net: Net) -> None:
    """A name that changes its mind between the check and the connection changes nothing."""
    answers = iter([[PUBLIC], ["127.0.0.1"]])

    async def changing(host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        return next(answers)

    fetcher = Fetcher(PublicNetwork(net, changing))
    await fetcher.fetch("http://pics.example/cat.png")
    assert [address for address, *_ in net.connected] == [PUBLIC]
    with pytest.raises(ApiError, match="not public"):
        await fetcher.fetch("http://pics.example/cat.png")
    assert [address for address, *_ in net.connected] == [PUBLIC]


async def test_an_address_nobody_answers_at_is_followed_by_the_next(net: Net) -> None:
    other = "2606:4700::1"
    net.names["pics.example"] = [other, other, PUBLIC]
    net.dead = {other}
    await net.fetcher().fetch("http://pics.example/cat.png")
    assert [address for address, *_ in net.connected] == [other, PUBLIC]
    net.dead.add(PUBLIC)
    assert "could not be fetched" in await refused(net)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "localhost",
        "10.1",
        "192.168.257",
        "169.254.43518",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
    ],
)
async def test_no_spelling_of_a_private_address_gets_through(net: Net, host: str) -> None:
    """With the system's own resolver, which accepts more spellings than one would think."""
    with trio.fail_after(5), pytest.raises(ApiError) as caught:
        await Fetcher(PublicNetwork(net, resolve)).fetch(f"http://{host}/latest/meta-data")
    assert caught.value.status == 400
    assert "meta-data" not in caught.value.message
    assert net.connected == []


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://",
        "http:///x.png",
        "http://pics.example:99999/",
        "http://pics.example:0/",
        "http://pics.example:port/",
        "http://a..b/",
        "http://\u2488\u2488/",
        "file:///etc/passwd",
        "gopher://pics.example/",
        "ftp://pics.example/cat.png",
        "pics.example/cat.png",
        "",
    ],
)
async def test_what_is_no_web_address_is_refused(net: Net, url: str) -> None:
    await refused(net, url)
    assert net.connected == []


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Again", "308 Moved"])
async def test_redirects_are_not_followed(net: Net, status: str) -> None:
    net.serve = saying(status=status, head="location: http://127.0.0.1/\r\n")
    assert f"answered {status[:3]}" in await refused(net)
    assert len(net.connected) == 1


@pytest.mark.parametrize("status", ["204 Nothing", "206 Part", "403 No", "404 Gone", "500 Oops"])
async def test_only_a_200_brings_media(net: Net, status: str) -> None:
    net.serve = saying(status=status)
    assert f"answered {status[:3]}" in await refused(net)


@pytest.mark.parametrize("kind", ["text/html", "application/json", "application/octet-stream", ""])
async def test_only_media_is_taken(net: Net, kind: str) -> None:
    net.serve = saying(kind=kind)
    assert f"it is {kind or 'of no type'}, not media" in await refused(net)


async def test_a_type_has_no_parameters_and_no_capitals(net: Net) -> None:
    net.serve = saying(kind="Image/JPEG; q=1")
    media = await net.fetcher().fetch("http://pics.example/")
    assert media.media_type == "image/jpeg"


async def test_what_is_too_large_is_left_where_it_was_noticed(net: Net) -> None:
    net.serve = saying(bytes(MAX_SIZE))
    media = await net.fetcher().fetch("http://pics.example/")
    assert len(media.data) == MAX_SIZE
    net.serve = saying(bytes(MAX_SIZE + 1))
    assert "larger than" in await refused(net)


async def test_an_endless_answer_is_cut(net: Net) -> None:
    sent = 0

    async def endless(stream: trio.abc.Stream) -> None:
        nonlocal sent
        await Connection(stream).request()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-type: video/mp4\r\n\r\n")
        with suppress(trio.BrokenResourceError):
            while sent < 10 * MAX_SIZE:
                await stream.send_all(bytes(1_000_000))
                sent += 1_000_000
                await trio.testing.wait_all_tasks_blocked()

    net.serve = endless
    assert "larger than" in await refused(net)
    assert sent <= MAX_SIZE + 2_000_000


@pytest.mark.parametrize("where", ["name", "connection", "head", "body"])
async def test_all_of_it_has_ten_seconds(
    net: Net, where: str, autojump_clock: trio.testing.MockClock
) -> None:
    async def dripping(stream: trio.abc.Stream) -> None:
        await Connection(stream).request()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 90000\r\n\r\n"
        if where == "body":
            await stream.send_all(head)
        for byte in bytes(60) if where == "body" else head:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.9)

    async def slow_name(host: str, port: int) -> Sequence[str]:
        await trio.sleep_forever()

    async def no_way(address: str, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        await trio.sleep_forever()

    net.serve = dripping
    if where == "name":
        net.resolve = slow_name  # type: ignore[method-assign] # a fake's own method
    if where == "connection":
        net.connect_to = no_way  # type: ignore[method-assign] # as above
    assert "did not arrive within 10 s" in await refused(net)
    assert trio.current_time() == TIMEOUT == 10


async def test_a_url_shows_no_password(net: Net) -> None:
    net.names = {}
    message = await refused(net, "https://user:s3cret@pics.example/cat.png")
    assert "user" not in message.replace("was not used", "")


async def test_https_proves_the_name_though_the_address_was_looked_up_before(
    nursery: trio.Nursery,
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "localhost.pem", TLS / "localhost.key")

    async def serve(stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            await saying(PNG)(secure)
        except trio.BrokenResourceError:
            await stream.aclose()  # the other side saw whom it had reached

    listeners = await nursery.start(
        trio.serve_listeners, serve, await trio.open_tcp_listeners(0, host="127.0.0.1")
    )
    port = listeners[0].socket.getsockname()[1]

    async def here(host: str, port: int) -> Sequence[str]:
        await trio.lowlevel.checkpoint()
        return ["127.0.0.1"]

    trusted = TcpNetwork(ssl.create_default_context(cafile=str(TLS / "ca.pem")))
    fetcher = Fetcher(PublicNetwork(trusted, here, allowed=lambda address: True))
    with trio.fail_after(10):
        media = await fetcher.fetch(f"https://localhost:{port}/cat.png")
        assert media.data == PNG
        with pytest.raises(ApiError, match="could not be fetched"):
            await fetcher.fetch(f"https://pics.example:{port}/cat.png")


# ---- Where they stand ---------------------------------------------------------------------------

CAT, DOG = "https://pics.example/cat.png", "https://pics.example/dog.pdf"
MESSAGES: Json = [
    {"role": "system", "content": "Look."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "This?"},
            {"type": "image_url", "image_url": {"url": CAT}},
            {"type": "file", "file": {"file_data": DOG}},
            {"type": "image_url", "image_url": {"url": CAT}},
        ],
    },
]


def test_a_url_is_called_by_its_first_place() -> None:
    assert place(MESSAGES, CAT) == "messages[1].content[1].image_url.url"
    assert place(MESSAGES, DOG) == "messages[1].content[2].file.file_data"
    assert place(MESSAGES, "https://elsewhere.example/") == "messages"


# ---- Through the gateway ------------------------------------------------------------------------

CONFIG = f"""
providers:
  - provider: google
    base_url: http://google.example/v1beta
    api: k-google
    model: [gemini-2.5-flash]
api_keys:
  - api: {KEY}
"""
ANSWER = (
    b'{"candidates":[{"content":{"role":"model","parts":[{"text":"A cat."}]},'
    b'"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1,"totalTokenCount":2}}'
)
HEAD = (
    f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(ANSWER)}\r\n\r\n"
).encode()


async def test_the_client_is_told_which_part_of_its_request_was_not_fetched(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    asked: list[bytes] = []

    async def google(stream: trio.abc.Stream) -> None:
        connection = Connection(stream)
        while (message := await connection.request()) is not None:
            asked.append(message.body)
            await stream.send_all(HEAD + ANSWER)

    world.network.servers["google.example"] = google
    world.start(CONFIG)
    net = Net(world.nursery)
    world.gateway.fetcher = net.fetcher()
    heard = await world.ask(model="gemini-2.5-flash", messages=MESSAGES, stream=False)
    assert heard.status == 200, heard.body
    assert len(net.connected) == 2, "each URL once"
    assert asked[0].count(b64encode(PNG)) == 3
    net.names["pics.example"] = ["192.168.0.1"]
    heard = await world.ask(model="gemini-2.5-flash", messages=MESSAGES, stream=False)
    assert heard.status == 400
    match heard.json():
        case {"error": {"param": str(param), "message": str(message)}}:
            assert param in {place(MESSAGES, CAT), place(MESSAGES, DOG)}
            assert "(host pics.example) was not used: its address is not public" in message
            assert "cat.png" not in message
        case other:
            raise AssertionError(other)
    assert len(asked) == 1
