"""Imports of our libraries for what nobody here uses: put off until somebody does.

structlog imports asyncio for loggers that are awaited, strictyaml a parser of dates for a type we
do not have, httpx its command line. Without them the process takes 4 MB less (of 54) and starts
60 ms sooner (of 560).
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Final

_LATER: Final = ("asyncio", "dateutil", "dateutil.parser")
_NEVER: Final = "httpx._main"  # without it httpx is as where its extra `cli` is not installed


class _Later(ModuleType):
    """Stands for a module until something of it is asked for, and hands that on from then on."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module has
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def put_off() -> None:
    """Put them off, those that are not imported yet; for a process that is all ours."""
    # From Python 3.12 on every record of a log asks asyncio for its task.
    logging.logAsyncioTasks = False  # type: ignore[attr-defined] # mypy goes by 3.11
    for name in _LATER:
        sys.modules.setdefault(name, _Later(name))
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment] # None says: not there
    modules.setdefault(_NEVER, None)
