"""Opening the statistics file whatever state it is in, without ever destroying what somebody has.

What is damaged is moved aside with its -wal and -shm, and so is the database that the seeds'
program kept at the same place. Anything else that is not ours, or is of a later version, stays
where it is, and there are no statistics until somebody decides.
"""

from __future__ import annotations

import errno
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from uniapi.stats.damage import is_broken
from uniapi.stats.schema import Foreign, Newer
from uniapi.stats.store import Store

_SEEDS: Final = {"request_stats", "channel_stats"}  # tables of the seeds' program
_ELSEWHERE: Final = "set DB_PATH to a file elsewhere, or DISABLE_DATABASE=true"
_SPACE: Final = "free some space on its disk, or set DISABLE_DATABASE=true"
_RIGHTS: Final = f"let this user write to the file and its folder; or {_ELSEWHERE}"
_FREE_IT: Final = f"end the process that keeps it locked; or {_ELSEWHERE}"
_BY_SQLITE: Final = {
    sqlite3.SQLITE_FULL: _SPACE,
    sqlite3.SQLITE_READONLY: _RIGHTS,
    sqlite3.SQLITE_CANTOPEN: _RIGHTS,
    sqlite3.SQLITE_PERM: _RIGHTS,
    sqlite3.SQLITE_BUSY: _FREE_IT,
    sqlite3.SQLITE_LOCKED: _FREE_IT,
}
_BY_SYSTEM: Final = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
}


@dataclass(frozen=True, slots=True)
class Aside:
    """A file that was in the way, and is kept.

    Attributes:
        why: for a person.
        now: where it is now.
    """

    why: str
    now: Path


@dataclass(slots=True)
class Unusable(Exception):  # noqa: N818 - what it is, not what was done
    """There can be no statistics for now.

    Attributes:
        why: for a person.
        fix: what he can do.
        aside: what was moved out of the way before it failed.
    """

    why: str
    fix: str
    aside: Aside | None = None


def open_store(path: Path, now: float, *, renew: bool = True) -> tuple[Store, Aside | None]:
    """The statistics file, ready to be written to.

    Args:
        path: where it is, or will be.
        now: unix seconds; they name what is moved aside.
        renew: a damaged file may be moved aside.

    Raises:
        Unusable: it cannot be had.
    """
    try:
        return Store(path), None
    except Newer:
        raise Unusable(
            "the file was written by a later version of uniapi",
            f"update uniapi; or {_ELSEWHERE}",
        ) from None
    except Foreign as foreign:
        if not foreign.names & _SEEDS:
            raise Unusable("the file is another program's database", _ELSEWHERE) from None
        aside = move_aside(path, "old", now, "the seeds' program has kept its statistics there")
    except (sqlite3.Error, OSError) as error:
        if not (renew and is_broken(error)):
            raise unusable(error) from error
        aside = move_aside(path, "broken", now, str(error))
    try:
        return Store(path), aside
    except (sqlite3.Error, OSError, Newer, Foreign) as error:
        failed = unusable(error)
        failed.aside = aside
        raise failed from error


def unusable(error: Exception) -> Unusable:
    """What to tell a person of an error that is not the file's."""
    match error:
        case sqlite3.Error(sqlite_errorcode=int(code)):
            fix = _BY_SQLITE.get(code & 0xFF, _ELSEWHERE)
        case OSError(errno=int(number)):
            fix = _BY_SYSTEM.get(number, _ELSEWHERE)
        case _:
            fix = _ELSEWHERE
    return Unusable(str(error), fix)


def move_aside(path: Path, what: str, now: float, why: str) -> Aside:
    """Give a file that is in the way another name beside itself, and its -wal and -shm likewise.

    Raises:
        Unusable: it stays where it is.
    """
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S")
    to = path.with_name(f"{path.name}.{what}-{stamp}")
    number = 1
    while to.exists():
        number += 1
        to = path.with_name(f"{path.name}.{what}-{stamp}-{number}")
    try:
        for end in ("-wal", "-shm", ""):  # the file last: until then it is tried again
            beside = path.with_name(path.name + end)
            if beside.exists():
                beside.rename(to.with_name(to.name + end))
    except OSError as error:
        raise unusable(error) from error
    return Aside(why, to)
