"""Where the text of the configuration comes from: a file, or the address in `CONFIG_URL`.

Everything here blocks: it runs before the event loop does, or in a worker thread. The standard
library's client is used, because this is one small GET now and then, with limits of its own: one
total deadline (a timeout for each read is no total: a byte a second passes it for ever), one size,
and redirects that stay where the user pointed. What is printed of an address is its host, its port
and its last segment; the rest may be a password.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import unquote, urlsplit

from uniapi.config.fetch import FetchError, Validators, fetch_newer
from uniapi.config.problems import Problem, Severity
from uniapi.config.yaml import MAX_SIZE

DEFAULT_NAME: Final = "api.yaml"
FETCH_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file; `name` is what the user called it."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class UrlSource:
    """An http or https address, which may hold a password."""

    url: str

    @property
    def name(self) -> str:
        """The address as it may be shown: scheme, host, port and last segment."""
        parts = urlsplit(self.url)
        place = parts.netloc.rpartition("@")[2]
        folder, _, last = parts.path.rpartition("/")
        return f"{parts.scheme}://{place}{'/…' if folder else ''}/{last}"

    def __repr__(self) -> str:
        """Without userinfo, query and folders."""
        return f"UrlSource({self.name})"


Source: TypeAlias = FileSource | UrlSource


@dataclass(frozen=True, slots=True)
class Loaded:
    """The text of a configuration.

    Attributes:
        text: decoded, at most 1 MB, not yet checked in any way.
        name: for messages; never holds a secret.
        mode: the permission bits of a regular file, else None.
        warnings: what the user should know about the way it came.
        copy: it is the last good copy, because there is nothing newer to be had.
    """

    text: str
    name: str
    mode: int | None = None
    warnings: tuple[Problem, ...] = ()
    copy: bool = False


class SourceError(Exception):
    """There is no text: why, and what to do.

    Attributes:
        problem: the same as a problem, for printing beside others.
    """

    def __init__(self, name: str, what: str, fix: str, line: int = 1) -> None:
        super().__init__(f"{name}: {what} ({fix})")
        self.problem = Problem(Severity.ERROR, name, line, what, fix)


class UnavailableError(SourceError):
    """There is no text now; it may come back as it was."""


def find(argument: str | None, env: Mapping[str, str], cwd: Path) -> Source | None:
    """Where to read from: the argument, else `./api.yaml`, else `CONFIG_URL`, else None (demo).

    An `api.yaml` that is empty, or a folder (as docker makes of a mount whose file is missing),
    gives way to `CONFIG_URL`; alone it is still the source, and `load` says what is wrong with it.

    Raises:
        SourceError: for an address that is none.
    """
    if argument:
        return _source(argument, cwd, "argument")
    local = cwd / DEFAULT_NAME
    address = env.get("CONFIG_URL", "").strip()
    try:
        present = local.exists()
        usable = local.is_file() and local.stat().st_size > 0
    except OSError:
        present = usable = True
    if usable or (present and not address):
        return FileSource(local, DEFAULT_NAME)
    return _source(address, cwd, "CONFIG_URL") if address else None


def _source(address: str, cwd: Path, where: str) -> Source:
    scheme, mark, _ = address.partition("://")
    if not mark:
        return FileSource(cwd / address, address)
    try:
        parts = urlsplit(address)
        good = bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise SourceError(where, "not an address", "write https://host/api.yaml") from None
    match scheme.lower():
        case "file":
            path = unquote(parts.path)
            return FileSource(cwd / path, path)
        case "http" | "https" if good:
            return UrlSource(address)
        case _:
            raise SourceError(
                where, "not an address this can read", "write https://…, file:///… or a path"
            )


def load(source: Source, env: Mapping[str, str], *, seconds: float = FETCH_SECONDS) -> Loaded:
    """The text. Blocks, for an address at most `seconds`.

    When the address cannot be read, the last good copy (see `remember`) serves, with a warning.

    Args:
        source: where from.
        env: for the place of the copy.
        seconds: the total time an address may take.

    Raises:
        SourceError: when there is no text.
    """
    match source:
        case FileSource():
            return load_file(source)
        case UrlSource():
            return _load_url(source, env, seconds)


def load_file(source: FileSource) -> Loaded:
    """The text of a file.

    Raises:
        UnavailableError: there is no file, or it cannot be read.
        SourceError: it is no text.
    """
    name = source.name
    try:
        with source.path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(MAX_SIZE + 1)
    except IsADirectoryError:
        raise UnavailableError(
            name, "this is a folder", "give a file; docker makes a folder of a missing mount"
        ) from None
    except FileNotFoundError:
        raise UnavailableError(
            name, "there is no such file", "check the path, or create it"
        ) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "bad name"
        raise UnavailableError(name, f"it cannot be read: {why}", "check its permissions") from None
    mode = stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else None
    return Loaded(_decode(data, name), name, mode)


def load_newer(
    source: UrlSource, known: Validators, *, seconds: float = FETCH_SECONDS
) -> tuple[Loaded | None, Validators]:
    """The text behind an address, None when it is the one that is `known`; and its validators.

    Raises:
        UnavailableError: the address cannot be read.
        SourceError: what is there is no text.
    """
    try:
        answer = fetch_newer(source.url, known, seconds=seconds, limit=MAX_SIZE)
    except FetchError as error:
        raise UnavailableError(
            source.name,
            f"the address cannot be read: {error}",
            "open the address with curl",
        ) from None
    if answer.body is None:
        return None, answer.validators
    text = _decode(answer.body, source.name)
    return Loaded(text, source.name, None, _plain(source)), answer.validators


def _load_url(source: UrlSource, env: Mapping[str, str], seconds: float) -> Loaded:
    try:
        loaded, _ = load_newer(source, Validators(), seconds=seconds)
    except UnavailableError as error:
        what, fix = error.problem.what, error.problem.fix
        kept = last_good(source, env)
        if kept is None:
            fix = f"{fix}; there is no earlier copy to use"
            raise UnavailableError(source.name, what, fix) from None
        problem = _warning(source.name, f"{what}; the last good copy is used", fix)
        return replace(kept, warnings=(*_plain(source), problem))
    assert loaded is not None  # noqa: S101 - nothing was known
    return loaded


def _plain(source: UrlSource) -> tuple[Problem, ...]:
    parts = urlsplit(source.url)
    if parts.scheme.lower() != "http" or _loopback(parts.hostname or ""):
        return ()
    return (
        _warning(
            source.name,
            "the address is plain http: everyone on the way can read your keys",
            "use an https address",
        ),
    )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _warning(name: str, what: str, fix: str) -> Problem:
    return Problem(Severity.WARNING, name, 1, what, fix)


def _decode(data: bytes, name: str) -> str:
    if len(data) > MAX_SIZE:
        raise SourceError(name, "it is larger than 1 MB", "remove what is not configuration")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        what = "it is UTF-16, not UTF-8" if wide else "it is not UTF-8"
        raise SourceError(name, what, "save the file as UTF-8", line) from None


def _copy_of(source: UrlSource, env: Mapping[str, str]) -> Path | None:
    """Where the last good copy of an address lives; None without a home."""
    digest = hashlib.sha256(source.url.encode("utf-8", "surrogateescape")).hexdigest()
    cache, home = env.get("XDG_CACHE_HOME"), env.get("HOME")
    if cache:
        return Path(cache) / "uniapi" / f"{digest}.yaml"
    return Path(home) / ".cache" / "uniapi" / f"{digest}.yaml" if home else None


def last_good(source: Source, env: Mapping[str, str]) -> Loaded | None:
    """The copy kept by `remember`, when there is one; it names itself as a copy."""
    path = _copy_of(source, env) if isinstance(source, UrlSource) else None
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = _decode(file.read(MAX_SIZE + 1), source.name)
    except (OSError, SourceError):
        return None
    return Loaded(text, f"{source.name} (last good copy)", copy=True)


def remember(source: Source, text: str, env: Mapping[str, str]) -> Problem | None:
    """Keep the text of an address as the last good copy, readable by this user alone.

    Call it when the text has proved valid. Files need no copy. A disk that cannot be written to is
    a warning, which is returned.
    """
    path = _copy_of(source, env) if isinstance(source, UrlSource) else None
    if path is None:
        return None
    draft = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        draft.replace(path)
    except OSError as error:
        why = error.strerror or "the disk refused"
        return _warning(
            source.name,
            f"no copy of the configuration could be kept: {why}",
            "let XDG_CACHE_HOME name a folder that can be written to",
        )
    return None
