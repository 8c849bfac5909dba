"""A network made of memory: providers by host name, the whole gateway, and clients of it.

Everything but the sockets is real: the connection handler, the protocols, the transport. With the
autojump clock a test says the exact second at which something must happen.
"""

from __future__ import annotations

import textwrap
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from urllib.parse import urlsplit

import httpx
import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from tests.kit.prompt import prompt_pair
from tests.kit.replies import Asked, Fake, Reply
from tests.kit.wire import Heard, Wire
from uniapi.codec import Json, dumps
from uniapi.config.read import read, render
from uniapi.config.types import Config
from uniapi.demo import Behaviour, Provider, serve_stream
from uniapi.frontend.app import App
from uniapi.frontend.gateway import Gateway
from uniapi.server.bind import Bind
from uniapi.server.serve import Server
from uniapi.state import State
from uniapi.upstream.client import Client

KEY = "sk-client-0000"


class MemoryNetwork:
    """Connects to providers by host name; a host nobody has is refused."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.providers: dict[str, Provider] = {}
        self.servers: dict[str, Callable[[trio.abc.Stream], Awaitable[None]]] = {}
        self.never: set[str] = set()  # hosts whose packets are lost
        self.narrow = False  # connections hold nothing that is not read
        self._nursery = nursery

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if host in self.never:
            await trio.sleep_forever()
        provider = self.providers.get(host)
        server = self.servers.get(host)
        if server is None and (provider is None or provider.refuses):
            raise httpx.ConnectError("connection refused")
        ours, theirs = lockstep_stream_pair() if self.narrow else memory_stream_pair()
        if server is not None:
            self._nursery.start_soon(server, theirs)
        elif provider is not None:
            self._nursery.start_soon(serve_stream, theirs, provider)
        return ours


@dataclass
class World:
    """One gateway between memory clients and memory providers."""

    nursery: trio.Nursery
    network: MemoryNetwork = field(init=False)
    gateway: Gateway = field(init=False)
    server: Server = field(init=False)

    def __post_init__(self) -> None:
        self.network = MemoryNetwork(self.nursery)

    def provider(self, host: str, behaviour: Behaviour | None = None, **how: object) -> Provider:
        """A provider at `http://host/v1/chat/completions`, healthy unless told otherwise."""
        provider = Provider(behaviour if behaviour is not None else Behaviour(**how))  # type: ignore[arg-type] # the fields of Behaviour, by name
        self.network.providers[host] = provider
        return provider

    def start(self, text: str, env: Mapping[str, str] | None = None) -> World:
        """Start the gateway on this api.yaml."""
        return self.start_with(config_of(text, env))

    def start_with(self, config: Config) -> World:
        client = Client(self.network)
        self.gateway = Gateway(config, State(), client, Random(7))  # noqa: S311 - a fixed seed, for jitter
        app = App(self.gateway)
        self.server = Server(app, Bind("memory", 0), max_connections=1000, last_call=app.stop)
        return self

    def chain(self, *hosts: str, key: str = "", top: str = "") -> World:
        """Start a gateway whose one key asks these hosts for the model `m`, in this order."""
        providers = "".join(
            f"  - {{provider: {host}, base_url: 'http://{host}/v1/chat/completions', "
            f"api: sk-up-{host}, model: [m]}}\n"
            for host in hosts
        )
        rules = "".join(f"      - {host}/m\n" for host in hosts)
        return self.start(
            f"providers:\n{providers}api_keys:\n  - api: {KEY}\n    model:\n{rules}"
            + textwrap.indent(textwrap.dedent(key), "    ")
            + textwrap.dedent(top)
        )

    def connect(self, *, narrow: bool = False) -> Wire:
        """A client's connection to the gateway; a narrow one holds nothing that is not read."""
        ours, theirs = lockstep_stream_pair() if narrow else prompt_pair()
        self.nursery.start_soon(self.server.serve_transport, theirs)
        return Wire(ours)

    async def ask(self, *, stream: bool = True, key: str = KEY, **fields: Json) -> Heard:
        """One chat request on a connection of its own."""
        wire = self.connect()
        await self.send(wire, stream=stream, key=key, **fields)
        heard = await wire.hear()
        await wire.stream.aclose()
        return heard

    async def send(
        self, wire: Wire, *, stream: bool = True, key: str = KEY, **fields: Json
    ) -> None:
        body: dict[str, Json] = {
            "model": "m",
            "messages": [{"role": "user", "content": "Hello"}],
            "stream": stream,
        }
        await wire.send({**body, **fields}, authorization=f"Bearer {key}")

    def fake(self, host: str, replies: Mapping[str, Reply | Callable[[Asked], Reply]]) -> Fake:
        """A provider at `host` that answers these paths."""
        provider = Fake(replies)
        self.network.servers[host] = provider
        return provider

    async def post(
        self,
        path: str,
        body: Json | bytes,
        kind: str = "application/json",
        *,
        key: str = KEY,
    ) -> Heard:
        """One request to any path, on a connection of its own."""
        wire = self.connect()
        await self.put(wire, path, body, kind, key=key)
        heard = await wire.hear()
        await wire.stream.aclose()
        return heard

    async def put(
        self, wire: Wire, path: str, body: Json | bytes, kind: str, *, key: str = KEY
    ) -> None:
        data = body if isinstance(body, bytes) else dumps(body)
        lines = f"POST {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {key}\r\n"
        lines += f"content-type: {kind}\r\ncontent-length: {len(data)}\r\n\r\n"
        await wire.stream.send_all(lines.encode() + data)

    async def get(self, path: str, key: str | None = KEY) -> Heard:
        wire = self.connect()
        auth = f"authorization: Bearer {key}\r\n" if key else ""
        await wire.stream.send_all(f"GET {path} HTTP/1.1\r\nhost: g\r\n{auth}\r\n".encode())
        heard = await wire.hear("GET")
        await wire.stream.aclose()
        return heard


def config_of(text: str, env: Mapping[str, str] | None = None) -> Config:
    """The config, or the reader's complaints as the test's failure."""
    report = read(text, name="api.yaml", env=env or {})
    assert report.config is not None, render(report.problems)
    return report.config


def host_of(url: str) -> str:
    """The host of a URL."""
    return urlsplit(url).hostname or ""
