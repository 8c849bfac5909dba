"""The statistics file: opened, written to and pruned, by one thread at a time; all of it blocks."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from uniapi.stats import schema

_BUSY: Final = 2.0  # seconds to wait for another process that writes


def reader(path: str | Path) -> sqlite3.Connection:
    """A connection that only reads, for any thread, one at a time; close it after use.

    Raises:
        sqlite3.Error: there is no such database, or it cannot be read.
    """
    place = f"file:{quote(str(Path(path).absolute()))}?mode=ro"
    return sqlite3.connect(
        place, uri=True, timeout=_BUSY, isolation_level=None, check_same_thread=False
    )


def connect(path: Path) -> sqlite3.Connection:
    """The connection that writes, to a file of this version.

    Raises:
        schema.Newer, schema.Foreign: it was left as it is.
        OSError, sqlite3.Error: it cannot be made, read or written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Ours alone from its birth; SQLite gives the -wal and -shm beside it the same mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        schema.migrate(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection
