"""Looking again at where the configuration came from: is there another text now?

A look is a `stat` or a conditional GET; it blocks, and belongs in a worker thread. What a look
has once given is not given again. Native watchers are not used: they see neither a bind mount's
other side nor an address, each system has its own, and two seconds are soon enough.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final, NamedTuple, Protocol, TypeAlias

from uniapi.config.fetch import Validators
from uniapi.config.problems import Problem, Severity
from uniapi.config.source import (
    FileSource,
    Loaded,
    Source,
    UnavailableError,
    UrlSource,
    load_file,
    load_newer,
)
from uniapi.duration import parse_duration

FILE_INTERVAL: Final = 2.0  # seconds between looks at a file
URL_INTERVAL: Final = 30.0  # seconds between looks at an address
SETTLING: Final = 1.0  # seconds a file must stand still: a copy over the network pauses, too
_RESTLESS: Final = 10  # looks; a file that never stands still is read all the same
_LEAST: Final = 1.0  # seconds; more often would be a load of its own


class Nothing(Enum):
    """Why a look gives no text."""

    NEW = auto()
    """It is the text we have."""
    SETTLED = auto()
    """It is being written: look again after `SETTLING` seconds."""


Look: TypeAlias = Loaded | Nothing


class Watch(Protocol):
    """Somewhere a configuration comes from, looked at again and again."""

    @property
    def source(self) -> Source:
        """Where it comes from."""

    @property
    def interval(self) -> float | None:
        """Seconds between looks; None for never, unless asked to."""

    def look(self, *, force: bool = False) -> Look:
        """The text, if it is new since the last look, or if forced; blocks.

        Raises:
            UnavailableError: there is none now; afterwards any text is new.
            SourceError: what is there is no text; the same holds.
        """


class Stamp(NamedTuple):
    """What changes when a file does. The time of change of the inode is not for users to set.

    A link is followed, so a swapped link changes it too.
    """

    modified: int = 0
    changed: int = 0
    size: int = 0
    inode: int = 0
    device: int = 0


MISSING: Final = Stamp()
_UNREAD: Final = Stamp(inode=-1)


def stamp(source: FileSource) -> Stamp:
    """The stamp of a file, `MISSING` when there is none.

    Raises:
        UnavailableError: it is a pipe or a device: reading it a second time would wait for ever.
    """
    try:
        found = source.path.stat()
    except (OSError, ValueError):
        return MISSING
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise UnavailableError(
            source.name, "this is no file: it can be read only once", "start again to read it"
        )
    return Stamp(found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev)


class FileWatch:
    """A file, read when its stamp has changed and then stood still for a look.

    One that is half written, or away while an editor puts another in its place, is not taken for
    a new one.
    """

    def __init__(
        self,
        source: FileSource,
        *,
        have: str | None = None,
        interval: float | None = FILE_INTERVAL,
        stamp: Callable[[FileSource], Stamp] = stamp,
        load: Callable[[FileSource], Loaded] = load_file,
    ) -> None:
        """`have` is the text in use; None when there is none, and no file (the demo)."""
        self.source = source
        self.interval = interval
        self._stamp = stamp
        self._load = load
        self._have = None if have is None else _digest(have)
        self._read = MISSING if have is None else _UNREAD
        self._seen = self._read
        self._moves = 0

    def look(self, *, force: bool = False) -> Look:
        """See `Watch`."""
        now = self._stamp(self.source)
        if not force:
            if now == self._read:
                self._seen, self._moves = now, 0
                return Nothing.NEW
            if now != self._seen and self._moves < _RESTLESS:
                self._seen = now
                self._moves += 1
                return Nothing.SETTLED
        self._moves = 0
        had, self._have = self._have, None
        self._read = self._seen = now
        loaded = self._load(self.source)
        if self._stamp(self.source) != now:
            self._read, self._have = _UNREAD, had
            return Nothing.SETTLED
        self._have = _digest(loaded.text)
        return loaded if force or self._have != had else Nothing.NEW


class UrlWatch:
    """An address, asked for its body only if that has changed."""

    def __init__(
        self,
        source: UrlSource,
        *,
        have: str | None = None,
        interval: float | None = URL_INTERVAL,
        load: Callable[[UrlSource, Validators], tuple[Loaded | None, Validators]] = load_newer,
    ) -> None:
        """`have` is the last text that came from there, whether it is in use or not."""
        self.source = source
        self.interval = interval
        self._load = load
        self._have = None if have is None else _digest(have)
        self._known = Validators()

    def look(self, *, force: bool = False) -> Look:
        """See `Watch`."""
        known = Validators() if force else self._known
        had, self._have, self._known = self._have, None, Validators()
        loaded, self._known = self._load(self.source, known)
        if loaded is None:
            self._have = had
            return Nothing.NEW
        self._have = _digest(loaded.text)
        return loaded if force or self._have != had else Nothing.NEW


def watch(source: Source, env: Mapping[str, str], *, have: str | None) -> Watch:
    """The watch for a source, which looks as often as `CONFIG_INTERVAL` says.

    Args:
        source: where the configuration comes from.
        env: has `CONFIG_INTERVAL`.
        have: the text that came from there; None when nothing did.
    """
    said, _ = interval(env)
    match source:
        case FileSource():
            once = source.path.exists() and not source.path.is_file()  # a pipe
            often = None if once else _often(said, FILE_INTERVAL)
            return FileWatch(source, have=have, interval=often)
        case UrlSource():
            return UrlWatch(source, have=have, interval=_often(said, URL_INTERVAL))


def interval(env: Mapping[str, str]) -> tuple[float | None, Problem | None]:
    """What `CONFIG_INTERVAL` says in seconds, 0 for never, None for nothing; and what is wrong."""
    written = env.get("CONFIG_INTERVAL", "").strip()
    if not written:
        return None, None
    seconds = parse_duration(written)
    if seconds is not None and (seconds == 0 or seconds >= _LEAST):
        return seconds, None
    what = "the environment variable CONFIG_INTERVAL is no time of a second or more"
    fix = "write CONFIG_INTERVAL=30s; 0 looks only when a signal asks for it"
    problem = Problem(Severity.WARNING, "CONFIG_INTERVAL", 1, f"{what}: it is ignored", fix)
    return None, problem


def _often(said: float | None, default: float) -> float | None:
    if said is None:
        return default
    return said or None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
