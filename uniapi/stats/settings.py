"""Where the statistics file is, by the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

DEFAULT: Final = "./data/stats.db"  # the seeds' place
_YES: Final = {"true", "1", "yes", "on"}
_NO: Final = {"false", "0", "no", "off", ""}


def database(env: Mapping[str, str], *, demo: bool = False) -> Path | None:
    """`DB_PATH`, else the seeds' place; None with `DISABLE_DATABASE=true`.

    A demo leaves nothing behind in the folder it was tried in, unless `DB_PATH` asks for it.
    """
    if _disabled(env) in _YES:
        return None
    named = env.get("DB_PATH", "").strip()
    if not named and demo:
        return None
    return Path(named or DEFAULT).expanduser()


def undecided(env: Mapping[str, str]) -> tuple[str, str] | None:
    """What is wrong with `DISABLE_DATABASE` and what to write instead, when it is no yes and no no.

    Then statistics are kept, as if it were not set.
    """
    if _disabled(env) in _YES | _NO:
        return None
    what = "the environment variable DISABLE_DATABASE is neither true nor false: it is ignored"
    return what, "write DISABLE_DATABASE=true to keep no statistics, or unset it"


def _disabled(env: Mapping[str, str]) -> str:
    return env.get("DISABLE_DATABASE", "").strip().lower()
