"""The statistics file as something that may be gone, damaged or out of reach at any moment."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Final, TypeVar

from uniapi.stats.damage import is_broken
from uniapi.stats.opening import Aside, Unusable, move_aside, open_store, unusable
from uniapi.stats.store import Store

_AGAIN: Final = 600.0  # seconds in which a second damaged file is left where it is: it is the disk

T = TypeVar("T")


class File:
    """Opens the file when somebody works with it. For one thread at a time; all of it blocks.

    Attributes:
        asides: what was moved out of the way, for whoever tells of it.
        opened: how often it was opened; a new file knows nothing of the one before.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        """Nothing is touched yet; `clock` is unix seconds."""
        self.asides: list[Aside] = []
        self.opened = 0
        self._path, self._clock = path, clock
        self._store: Store | None = None
        self._aside_at = -inf

    def use(self, work: Callable[[Store], T]) -> T:
        """Work with the file; with a new one when it proves to be damaged.

        Raises:
            Unusable: it cannot be had, or not be worked with.
        """
        try:
            return work(self._ready())
        except (sqlite3.Error, OSError) as error:
            self.close()
            if not _of_the_file(error):
                raise
            if not (self._may_renew and is_broken(error)):
                raise unusable(error) from error
            self._set_aside(move_aside(self._path, "broken", self._clock(), str(error)))
        try:
            return work(self._ready())
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise unusable(error) from error

    def close(self) -> None:
        """Let go of it."""
        store, self._store = self._store, None
        if store is not None:
            with suppress(sqlite3.Error):  # what it says was said before
                store.close()

    def _ready(self) -> Store:
        if self._store is not None and self._store.lost:
            self.close()
        if self._store is not None:
            self._store.glance()
            return self._store
        try:
            self._store, aside = open_store(self._path, self._clock(), renew=self._may_renew)
        except Unusable as error:
            self._set_aside(error.aside)
            raise
        self.opened += 1
        self._set_aside(aside)
        return self._store

    @property
    def _may_renew(self) -> bool:
        # A clock that was set back must not keep a damaged file in its place for as long again.
        return not 0 <= self._clock() - self._aside_at < _AGAIN

    def _set_aside(self, aside: Aside | None) -> None:
        if aside is not None:
            self._aside_at = self._clock()
            self.asides.append(aside)


def _of_the_file(error: Exception) -> bool:
    """Whether the file or its disk is to blame; else it is what was to be written."""
    match error:
        case sqlite3.OperationalError() | OSError():
            return True
        case _:
            return is_broken(error)
