"""The gateway for a host that brings its own asyncio server, as function platforms do: ASGI 3.

    from uniapi.bridge import Bridge
    app = Bridge()

The gateway stays on trio, in a thread of its own that starts with the host's lifespan or with the
first request; `crossing` carries a request over.
"""
# ruff: noqa: TID251 - the host's event loop is asyncio's

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import structlog
import trio

from uniapi import log as logs
from uniapi.cli import read_config
from uniapi.config.read import render
from uniapi.config.types import Config
from uniapi.crossing import Call
from uniapi.errors import ApiError
from uniapi.frontend.app import App
from uniapi.frontend.asgi import Message, Receive, Send
from uniapi.run import opened
from uniapi.stats.settings import database

Scope: TypeAlias = Message

_JOIN: Final = 2.0  # seconds the end of the process waits for the gateway's end

log = structlog.get_logger()


class UnconfiguredError(Exception):
    """There is no configuration that can be used; the text says what to do."""


class StoppedError(Exception):
    """The gateway ended while the request was under way."""


class Bridge:
    """An ASGI application; `lifespan` and `http` are served, all else is refused."""

    def __init__(self, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        """Nothing is read or started yet.

        Args:
            env: the process's own unless given; CONFIG_URL is read from it.
            cwd: where `api.yaml` may be; the process's own unless given.
        """
        self._env = os.environ if env is None else env
        self._cwd = cwd
        self._lock = threading.Lock()
        self._room: _Room | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of the host's.

        Raises:
            StoppedError: the gateway ended under it.
        """
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        try:
            room = await self._opened()
        except UnconfiguredError as error:
            await _refuse(scope, send, str(error))
            return
        await room.serve(scope, receive, send)

    async def aclose(self) -> None:
        """End the gateway; requests under way are cancelled. The next request starts it again."""
        with self._lock:
            room, self._room = self._room, None
        if room is None:
            return
        with suppress(Exception):  # told to those who asked for it
            await asyncio.wrap_future(room.ready)
            room.stop()
        await asyncio.wrap_future(room.ended)
        room.thread.join()

    async def _opened(self) -> _Room:
        """The gateway, started when there is none; after a failure it is tried again."""
        with self._lock:
            if self._room is None or self._room.over:
                self._room = _Room(self._env, self._cwd or Path.cwd())
            room = self._room
        await asyncio.wrap_future(room.ready)
        return room

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            match (await receive())["type"]:
                case "lifespan.startup":
                    try:
                        await self._opened()
                    except UnconfiguredError as error:
                        await send({"type": "lifespan.startup.failed", "message": str(error)})
                        return
                    await send({"type": "lifespan.startup.complete"})
                case "lifespan.shutdown":
                    await self.aclose()
                    await send({"type": "lifespan.shutdown.complete"})
                    return
                case _:
                    pass


async def _refuse(scope: Scope, send: Send, why: str) -> None:
    if scope["type"] != "http":
        await send({"type": "websocket.close", "code": 1011})
        return
    body = ApiError(503, why, code="not_configured").body()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _configured(env: Mapping[str, str], cwd: Path) -> Config:
    """Read the configuration; blocks.

    Raises:
        UnconfiguredError: there is none that can be used.
    """
    outcome = read_config(None, env, cwd)
    sys.stderr.write(render(outcome.problems))
    if not outcome.found:
        raise UnconfiguredError(
            "this gateway has no configuration: set CONFIG_URL, or put an api.yaml beside it"
        )
    if outcome.report is None or outcome.report.config is None:
        raise UnconfiguredError(
            "this gateway's configuration cannot be used: its log says what is wrong"
        )
    return outcome.report.config


class _Room:
    """A gateway on a trio loop, in a thread of its own, from the moment it is made.

    Attributes:
        ready: done when requests can be served, or with the reason why they never will.
        ended: done when the thread has nothing more to do.
        thread: where it runs.
    """

    def __init__(self, env: Mapping[str, str], cwd: Path) -> None:
        self.ready: Future[None] = Future()
        self.ended: Future[None] = Future()
        for promise in (self.ready, self.ended):
            promise.set_running_or_notify_cancel()  # whoever waits may leave; the others wait on
        self._env = env
        self._cwd = cwd
        self.thread = threading.Thread(target=self._run, name="uniapi", daemon=True)
        self.thread.start()

    @property
    def over(self) -> bool:
        """It has ended, or never began."""
        return self.ended.done() or (self.ready.done() and self.ready.exception() is not None)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry one request over; call it on the host's loop.

        Raises:
            StoppedError: the gateway ended under it.
        """
        call = Call(self._token, receive, send)
        try:
            self._token.run_sync_soon(self._begin, call, scope)
        except trio.RunFinishedError:
            raise StoppedError from None
        await call.carried()

    def stop(self) -> None:
        """End it once it is ready, from any thread; `ended` says when it has."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._stop.set)

    def _join(self) -> None:
        """The process ends."""
        if self.ready.done() and self.ready.exception() is None:
            self.stop()
            self.thread.join(_JOIN)

    # What follows runs in the thread.

    def _run(self) -> None:
        atexit.register(self._join)
        try:
            logs.configure()
            trio.run(self._main, _configured(self._env, self._cwd))
        except BaseException as error:
            if self.ready.done():
                log.exception("bridge.crashed")
            else:
                self.ready.set_exception(error)
        finally:
            atexit.unregister(self._join)
            self.ended.set_result(None)

    async def _main(self, config: Config) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        # Where nothing can be written nothing is: statistics are kept only where DB_PATH says.
        kept = database(self._env, demo=True)
        async with opened(config, kept) as gateway, trio.open_nursery() as self._calls:
            self._app = App(gateway)
            log.info("bridge.started", providers=len(config.providers), keys=len(config.keys))
            self.ready.set_result(None)
            await self._stop.wait()
            gateway.draining = True
            self._calls.cancel_scope.cancel()

    def _begin(self, call: Call, scope: Scope) -> None:
        try:
            self._calls.start_soon(self._answer, call, scope)
        except RuntimeError:  # its last moment: nothing more is begun
            call.end(StoppedError())

    async def _answer(self, call: Call, scope: Scope) -> None:
        error: Exception | None = StoppedError()
        try:
            with call.scope:
                await self._app(scope, call.receive, call.send)
            error = None
        except Exception as raised:  # noqa: BLE001 - the host hears of it, as from any application
            error = raised
        finally:
            call.end(error)
