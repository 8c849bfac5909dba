"""What the statistics file holds, and the way from an older version to this one.

Keys are digests, and there are no prompts. `days` is the sum of `requests` by day: it outlives
them, so that long reports and budgets need not keep every request. What came through a nested key
has a row of its own there, for that key's budget: it counts as no request, since it is counted
where it came from. `taken` is what rate limits
with windows of a day and longer have counted, in steps of the window, so that a restart does not
forget it: `requests` cannot tell that, since it is pruned, and since a limit also counts what no
record has, such as the attempts of a moderation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import sqlite3  # at work it comes with the connection: some Pythons are built without it

APPLICATION: Final = 0x756E6961  # "unia": what tells our file from another program's

DAY: Final = 86_400  # seconds
THROUGH: Final = ">"  # before the digest of the nested key in such a row, which has no model

_FIRST: Final = (
    """CREATE TABLE requests (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,           -- unix seconds of its end
    request TEXT NOT NULL,      -- x-request-id
    endpoint TEXT NOT NULL,     -- POST /v1/chat/completions; other
    client TEXT NOT NULL,       -- the peer's address
    key TEXT NOT NULL,          -- digest of the client key; empty: none that is known
    model TEXT NOT NULL,        -- as asked for; empty: about no model, or one nobody serves
    stream INTEGER NOT NULL,
    status INTEGER NOT NULL,    -- 0: there was no answer
    outcome TEXT NOT NULL,      -- ok, client_left, error, cancelled, crashed, or a kind of failure
    limited TEXT NOT NULL,      -- the rate limit that refused it; empty: none did
    provider TEXT NOT NULL,     -- whose answer it was; empty: nobody's
    upstream TEXT NOT NULL,     -- that provider's name for the model
    seconds REAL NOT NULL,
    first REAL,                 -- seconds to the first token; NULL: there was none
    prompt INTEGER NOT NULL,    -- tokens
    completion INTEGER NOT NULL,
    total INTEGER NOT NULL,
    cost REAL NOT NULL,         -- US dollars
    via TEXT NOT NULL           -- digests of nested client keys, outermost first, with commas;
                                -- with =0.25 behind it: that part of the cost alone
)""",
    "CREATE INDEX requests_at ON requests (at)",
    """CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,           -- unix seconds of its request's end
    provider TEXT NOT NULL,
    upstream TEXT NOT NULL,
    model TEXT NOT NULL,        -- as its request asked for it
    key TEXT NOT NULL,          -- digest of the provider's key; empty: none
    stream INTEGER NOT NULL,
    outcome TEXT NOT NULL,      -- ok, cancelled, or a kind of failure
    why TEXT NOT NULL,          -- empty: its turn; hedge, rescue
    seconds REAL NOT NULL,
    first REAL,                 -- seconds to the first token; NULL: there was none
    tokens INTEGER NOT NULL
)""",
    "CREATE INDEX attempts_at ON attempts (at)",
    """CREATE TABLE days (
    day INTEGER NOT NULL,       -- since 1970-01-01 UTC; 0: all before the days that are kept
    key TEXT NOT NULL,          -- as there; with ">" before it: a nested key, and the cost alone
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    prompt INTEGER NOT NULL,
    completion INTEGER NOT NULL,
    total INTEGER NOT NULL,
    cost REAL NOT NULL,
    PRIMARY KEY (day, key, model)
) WITHOUT ROWID""",
    """CREATE TABLE labels (
    digest TEXT PRIMARY KEY,
    label TEXT NOT NULL         -- a client key's role; a provider's name and which of its keys
) WITHOUT ROWID""",
    """CREATE TABLE taken (
    scope TEXT NOT NULL,        -- server, client, provider
    owner TEXT NOT NULL,        -- digest of the client key, or the provider's name
    key TEXT NOT NULL,          -- digest of the provider's key
    model TEXT NOT NULL,        -- empty: all models together
    unit TEXT NOT NULL,         -- requests, tokens
    window REAL NOT NULL,       -- seconds
    step INTEGER NOT NULL,      -- which 256th of the window, since 1970
    last REAL NOT NULL,         -- unix seconds of the latest in this step
    amount INTEGER NOT NULL,
    PRIMARY KEY (scope, owner, key, model, unit, window, step)
) WITHOUT ROWID""",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_FIRST,)
"""The statements that lead from version 0 to 1, from 1 to 2, and so on; 0 is an empty file."""


class Newer(Exception):  # noqa: N818 - a fact, not an error of anybody
    """The file was written by a later version of uniapi."""


@dataclass(slots=True)
class Foreign(Exception):  # noqa: N818 - as above
    """The file is another program's database; it has these tables and other objects."""

    names: frozenset[str]


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a database to the version of today; what is newer or not ours is left as it is.

    Raises:
        Newer: it is of a later version.
        Foreign: it holds something, and not ours.
        sqlite3.Error: it cannot be read or written.
    """
    version = _number(connection, "PRAGMA user_version")
    known = _number(connection, "PRAGMA application_id") == APPLICATION
    if not known:
        names = frozenset(name for (name,) in connection.execute("SELECT name FROM sqlite_master"))
        if names:
            raise Foreign(names)
    if version > len(MIGRATIONS):
        raise Newer
    if version == len(MIGRATIONS):
        return
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts as long as there is no table
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Two processes may have come here together: the second finds the work done.
        version = _number(connection, "PRAGMA user_version")
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
