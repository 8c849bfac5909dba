"""One process: the gateway, its background tasks and its server, from start to exit status."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
import trio

from uniapi import __version__
from uniapi.config.read import read, render
from uniapi.config.types import Config
from uniapi.config.watch import Watch
from uniapi.frontend.app import App
from uniapi.frontend.gateway import Gateway
from uniapi.notify import Notifier
from uniapi.reload import Reloader
from uniapi.server.bind import Bind, TlsError
from uniapi.server.connection import Address
from uniapi.server.serve import Server, until_signalled
from uniapi.server.upkeep import keep_house
from uniapi.state import State
from uniapi.stats.reader import Reader
from uniapi.upstream.client import Client

if TYPE_CHECKING:
    from uniapi.demo.run import Demo
    from uniapi.stats.writer import Writer

_BUDGETS: Final = 5.0  # seconds to wait for what keys have spent; a disk may hang

# What to do when listening fails.
_CURE: Final = "this machine does not have that address: choose another with --host"
_CURES: Final = {
    errno.EADDRINUSE: "stop what uses it, or choose another with --port",
    errno.EACCES: "ports below 1024 are for root: choose another with --port",
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line said.

    Attributes:
        host: None is 0.0.0.0, in demo mode 127.0.0.1.
        port: 0 lets the system choose.
        certfile, keyfile: HTTPS when given.
        grace: seconds for streams to finish after SIGTERM.
        database: the statistics file; None for none.
    """

    host: str | None
    port: int
    certfile: str | None = None
    keyfile: str | None = None
    grace: float = 30.0
    database: Path | None = None


async def gateway(config: Config | None, settings: Settings, watch: Watch) -> int:
    """Serve until told to stop.

    Args:
        config: None starts the demo.
        settings: where to listen.
        watch: where another configuration may come from.

    Returns:
        The process's exit status.
    """
    async with trio.open_nursery() as beside:
        shown: Demo | None = None
        if config is None:
            from uniapi.demo import run as demo_run  # noqa: PLC0415 - 1 MB of scripts

            shown = await demo_run.start(beside)
            config = _demo_config(shown)
        async with opened(config, settings.database) as room:
            host = settings.host or ("127.0.0.1" if shown else "0.0.0.0")
            bind = Bind(host, settings.port, settings.certfile, settings.keyfile)
            app = App(room)
            server = Server(app, bind, grace=settings.grace, last_call=app.stop)
            room.metrics.gauge(
                "uniapi_client_connections",
                "Connections from clients, idle ones included.",
                lambda: server.open_connections,
            )
            systemd = Notifier(os.environ, pid=os.getpid())
            beside.start_soon(systemd.run)
            reloader = Reloader(room, watch, os.environ)
            status = await _serve(room, server, bind, shown, systemd, reloader)
        beside.cancel_scope.cancel()
    return status


@asynccontextmanager
async def opened(config: Config, database: Path | None = None) -> AsyncIterator[Gateway]:
    """A gateway and what it does in the background, without a server; both end with the block.

    Args:
        config: what it serves.
        database: the statistics file; None for none.
    """
    async with trio.open_nursery() as background:
        room = Gateway(config, State(), Client())
        background.start_soon(room.discovery.run)
        background.start_soon(keep_house, room.client.sweep)
        writer = await _remember(room, database, background) if database else None
        background.start_soon(room.budgets.run, room.reader)
        with trio.move_on_after(_BUDGETS):
            await room.budgets.ready.wait()
        yield room
        await room.client.aclose()
        await room.fetcher.aclose()
        if writer is not None:
            await writer.aclose()
        background.cancel_scope.cancel()


async def _remember(room: Gateway, path: Path, background: trio.Nursery) -> Writer | None:
    """Keep statistics in a file, and go on from what it knows; budgets begin after this."""
    try:
        from uniapi.stats.writer import Writer  # noqa: PLC0415 - some Pythons have no SQLite
    except ImportError as error:
        fix = "install it (on FreeBSD: pkg install py311-sqlite3), or set DISABLE_DATABASE=true"
        log.warning("statistics.off", path=str(path), error=str(error), fix=fix)
        return None
    writer = Writer(path, room.state, lambda: room.config)
    await writer.start()
    background.start_soon(writer.run)
    room.ledger.listeners.append(writer.note)
    room.reader = Reader(path, damaged=writer.look)
    measure = room.metrics
    measure.gauge(
        "uniapi_statistics_waiting",
        "Requests that the statistics file does not have yet.",
        lambda: writer.waiting,
    )
    measure.counter(
        "uniapi_statistics_dropped_total",
        "Requests that the statistics file will never have.",
        lambda: writer.dropped + writer.lost,
    )
    return writer


def _demo_config(shown: Demo) -> Config:
    report = read(shown.text, name="api.demo.yaml", env=shown.env)
    if report.config is None:
        raise RuntimeError(f"the demo's own config is broken:\n{render(report.problems)}")
    return report.config


async def _serve(
    room: Gateway,
    server: Server,
    bind: Bind,
    shown: Demo | None,
    systemd: Notifier,
    reloader: Reloader,
) -> int:
    """Run the server and listen for signals; the exit status."""
    status = 0
    _listen(reloader, room, bind, shown, systemd)

    def drain() -> None:
        room.draining = True
        systemd.stopping(f"draining, {server.open_connections} connections open")

    def started(addresses: Sequence[Address]) -> None:
        scheme = "https" if bind.certfile else "http"
        port = next((address[1] for address in addresses if address), bind.port)
        url = f"{scheme}://{_place(bind.host, port)}"
        log.info(
            "server.started",
            url=url,
            version=__version__,
            providers=len(room.config.providers),
            keys=len(room.config.keys),
        )
        systemd.ready(f"serving {url}, {len(room.config.providers)} providers")
        nursery.start_soon(reloader.run)
        if shown is not None:
            sys.stdout.write(_welcome(scheme, bind.host, port, shown))
            sys.stdout.flush()

    async def signals() -> None:
        nonlocal status
        status = await until_signalled(server, drain, reloader.ask)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(signals)
        try:
            await server.run(started)
        except TlsError as error:
            sys.stderr.write(
                f"uniapi: cannot serve HTTPS with {bind.certfile} and {bind.keyfile}: {error}\n"
                "    fix: --certfile is the certificate with its chain, --keyfile its private key\n"
            )
            status = 1
        except OSError as error:
            sys.stderr.write(
                f"uniapi: cannot listen on {_place(bind.host, bind.port)}: "
                f"{error.strerror or error}\n    fix: {_CURES.get(error.errno or 0, _CURE)}\n"
            )
            status = 1
        nursery.cancel_scope.cancel()
    return status


def _listen(
    reloader: Reloader, room: Gateway, bind: Bind, shown: Demo | None, systemd: Notifier
) -> None:
    """Tell systemd of reloads, and once that the demo is over."""

    def begun() -> None:
        if not room.draining:
            systemd.reloading()

    def ended() -> None:
        if not room.draining:
            systemd.ready(f"serving, {len(room.config.providers)} providers")

    def demo_over(_: Config) -> None:
        reloader.on_reload.remove(demo_over)
        log.info("demo.over", host=bind.host, note="to listen elsewhere, start it again")

    counters = room.state.counters
    reloader.on_reload.append(lambda _: counters.update(config_reloads=1))
    reloader.on_reject.append(lambda: counters.update(config_rejected=1))
    reloader.on_reload += [room.budgets.follow, room.metrics.follow]
    reloader.on_begin.append(begun)
    reloader.on_end.append(ended)
    if shown is not None:
        reloader.on_reload.append(demo_over)


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _welcome(scheme: str, host: str, port: int, shown: Demo) -> str:
    name = "127.0.0.1" if host in {"0.0.0.0", "::"} else host
    curl = (
        f"curl -sS{'k' if scheme == 'https' else ''} "
        f"{scheme}://{_place(name, port)}/v1/chat/completions "
        f"-H 'Authorization: Bearer {shown.key}' -H 'Content-Type: application/json' -d "
    )
    ask = f'"model":"{shown.model}","messages":[{{"role":"user","content":"Hello"}}]'
    return (
        f"uniapi {__version__}, demo mode: no api.yaml in this folder, no CONFIG_URL.\n"
        "Scripted providers answer; the first one always fails, so you can watch a failover.\n\n"
        f"  {curl}'{{{ask}}}'\n\n"
        "and as a stream:\n\n"
        f"  {curl.replace('curl -sS', 'curl -sSN')}'{{{ask},\"stream\":true}}'\n\n"
    )
