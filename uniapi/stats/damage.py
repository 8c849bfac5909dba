"""What tells a damaged statistics file from one that is out of reach."""

from __future__ import annotations

import sqlite3
from typing import Final

from uniapi.stats.schema import APPLICATION

_BROKEN: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def is_broken(error: Exception) -> bool:
    """Whether this says that the file is damaged; locked or forbidden it is not."""
    match error:
        case sqlite3.DatabaseError(sqlite_errorcode=int(code)):
            return code & 0xFF in _BROKEN
        case _:
            return False


def look_at_the_beginning(connection: sqlite3.Connection) -> None:
    """See whether the file begins as ours do; takes 0.1 ms.

    Raises:
        sqlite3.DatabaseError: it does not, and `is_broken` says so of it.
        sqlite3.Error: it cannot be read.
    """
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    [application] = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION:
        raise _damage("it was emptied or overwritten")


def look_through(connection: sqlite3.Connection) -> None:
    """Look through the whole file; takes a second for some 200 MB.

    Raises:
        sqlite3.DatabaseError: it is damaged, and `is_broken` says so of it.
        sqlite3.Error: it cannot be read.
    """
    [found] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise _damage(found)


def _damage(found: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(found)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
