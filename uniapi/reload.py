"""Another configuration while requests are under way: looked for, read, and put in place.

One task does it all, one reload after the other; who asks in the middle of one gets one more. What
blocks is done in a worker thread. The swap is one reference, and nothing awaits between it and the
pruning of the state: no request sees the one without the other. A text that cannot be used is
told of once and changes nothing.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final, Protocol, TypeVar

import structlog
import trio

from uniapi.config import source
from uniapi.config.diff import diff, moved
from uniapi.config.problems import Problem, Severity
from uniapi.config.read import read
from uniapi.config.source import FileSource, Loaded, SourceError, UnavailableError
from uniapi.config.types import Config
from uniapi.config.watch import SETTLING, Look, Nothing, Watch
from uniapi.frontend.gateway import Gateway

_KEPT: Final = "the configuration before it goes on serving"
_SHOWN: Final = 20  # problems in one log line
_TURN: Final = 0.0002  # seconds

T = TypeVar("T")

log = structlog.get_logger()


class InThread(Protocol):
    """Runs what blocks where it harms nobody; gives its result or raises its exception."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...  # noqa: D102 - the class says it


class Reloader:
    """Keeps a gateway's configuration what its source says.

    Listeners are plain functions, called in the event loop; one that raises is logged.

    Attributes:
        on_begin: called when a reload begins: a text is new, or a signal asked.
        on_reload: called with a new configuration in the instant it is put in place.
        on_reject: called when a text could not be used, whenever the log is told.
        on_end: called when a reload that began is over, whatever came of it.
    """

    def __init__(
        self,
        gateway: Gateway,
        watch: Watch,
        env: Mapping[str, str],
        in_thread: InThread | None = None,
    ) -> None:
        """Nothing happens before `run`.

        Args:
            gateway: whose configuration is swapped.
            watch: where another may come from.
            env: the variables of the moment: for `${NAME}`, and the place of the last good copy.
            in_thread: trio's worker threads, unless a test has none.
        """
        self.on_begin: list[Callable[[], None]] = []
        self.on_reload: list[Callable[[Config], None]] = []
        self.on_reject: list[Callable[[], None]] = []
        self.on_end: list[Callable[[], None]] = []
        self._gateway = gateway
        self._watch = watch
        self._env = env
        self._in_thread = _in_thread if in_thread is None else in_thread
        self._wanted = trio.Event()
        self._told: Problem | None = None
        self._away = False

    def ask(self) -> None:
        """Reload now, even if nothing seems to have changed: what a signal does."""
        self._wanted.set()

    async def run(self) -> None:
        """Look for another configuration, for ever."""
        pause = self._watch.interval
        while True:
            with trio.move_on_after(math.inf if pause is None else pause):
                await self._wanted.wait()
            asked = self._wanted.is_set()
            self._wanted = trio.Event()
            pause = self._watch.interval
            try:
                if asked:
                    await self._obey()
                elif await self._glance() is Nothing.SETTLED:
                    pause = SETTLING
            except Exception:  # a bug in here is no reason to end the gateway
                log.exception("config.reload_failed", kept=_KEPT)

    async def _obey(self) -> None:
        """A signal asked: there is an answer in the log, whatever it is."""
        self._told, self._away = None, False
        with self._announced():
            found = await self._look(force=True)
            while found is Nothing.SETTLED:  # it is being written in this moment
                await trio.sleep(SETTLING)
                found = await self._look(force=True)
            await self._take(found, "signal")

    async def _glance(self) -> Look:
        found = await self._look(force=False)
        if isinstance(found, Loaded):
            with self._announced():
                match self._watch.source:
                    case FileSource():
                        await self._take(found, "file")
                    case _:
                        await self._take(found, "address")
        return found

    async def _look(self, *, force: bool) -> Look:
        """What the source has; what is wrong with it is said once."""
        try:
            return await self._in_thread(partial(self._watch.look, force=force))
        except UnavailableError as error:
            if not self._away:
                log.warning("config.unavailable", problem=_line(error.problem), kept=_KEPT)
            self._away = True
        except SourceError as error:
            if error.problem != self._told:
                self._reject([error.problem])
            self._told, self._away = error.problem, False
        return Nothing.NEW

    def _reject(self, errors: Sequence[Problem]) -> None:
        log.error("config.rejected", problems=_lines(errors), kept=_KEPT)
        _call(self.on_reject)

    async def _take(self, found: Look, by: str) -> None:
        """Read a text, and put its configuration in place if it has one."""
        if not isinstance(found, Loaded):
            return
        self._told, self._away = None, False
        config, problems = await self._in_thread(partial(self._read, found))
        if config is None:
            self._reject([p for p in problems if p.severity is Severity.ERROR])
            return
        difference = diff(self._gateway.config, config)
        if difference:
            adopt(self._gateway, config)
            _call([partial(listener, config) for listener in self.on_reload])
            log.info("config.reloaded", by=by, **difference.told())
        else:
            log.info("config.unchanged", by=by)
        if problems:
            log.warning("config.warnings", problems=_lines(problems))

    def _read(self, loaded: Loaded) -> tuple[Config | None, Sequence[Problem]]:
        """The configuration and what is wrong with it; blocks for a quarter millisecond a line."""
        with _courteous():
            report = read(loaded.text, name=loaded.name, env=self._env, mode=loaded.mode)
        problems = [*loaded.warnings, *report.problems]
        if report.config is not None:
            failed = source.remember(self._watch.source, loaded.text, self._env)
            problems += [failed] if failed is not None else []
        return report.config, problems

    @contextmanager
    def _announced(self) -> Iterator[None]:
        _call(self.on_begin)
        try:
            yield
        finally:
            _call(self.on_end)


def adopt(gateway: Gateway, config: Config) -> None:
    """Put another configuration in place; requests under way keep theirs.

    Providers that are reached in another way than before are new acquaintances: they are asked for
    their models, and their rests are over, so that a key that was put right works at once. All
    others keep their listings, rests, cursors and windows.
    """
    old, state, now = gateway.config, gateway.state, trio.current_time()
    others = moved(old, config)
    resting = {name: state.models(old.providers_by_name[name]) for name in others}
    gateway.config = config
    state.prune(config)
    for name, models in resting.items():
        provider = config.providers_by_name[name]
        for model in models:
            state.wake_channel(name, model.upstream, now)
        for key in provider.keys:
            state.wake_key(name, key.digest, now)
        if provider.models is None:
            state.discovery_pending(name)
    gateway.credentials.keep(config.providers)
    gateway.client.keep(filter(None, map(config.proxy_for, config.providers)))
    gateway.discovery.reloaded(others)


async def _in_thread(work: Callable[[], T]) -> T:
    """In a worker thread, which is left behind when the gateway ends."""
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True)


@contextmanager
def _courteous() -> Iterator[None]:
    """Let the event loop have the interpreter back soon after each of its system calls.

    Measured with 300 providers, 0.4 s of parsing: of the round trips through a socket meanwhile
    one in a hundred took over 14 ms at the usual 5 ms, over 1.2 ms so.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _call(listeners: Sequence[Callable[[], None]]) -> None:
    for listener in listeners:
        try:
            listener()
        except Exception:  # what a listener does is its own affair
            log.exception("config.listener_failed")


def _lines(problems: Sequence[Problem]) -> list[str]:
    more = len(problems) - _SHOWN
    said = [_line(problem) for problem in problems[:_SHOWN]]
    return [*said, f"and {more} more: uniapi check tells all of them"] if more > 0 else said


def _line(problem: Problem) -> str:
    """As `uniapi check` words it, in one line."""
    where = f"{problem.file}:{problem.line}: {problem.severity}"
    return f"{where}: {problem.what}; fix: {problem.fix}"
