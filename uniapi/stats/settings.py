"""Where the statistics file is, by the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

DEFAULT: Final = "./data/stats.db"  # the seeds' place
_YES: Final = {"true", "1", "yes", "on"}


def database(env: Mapping[str, str], *, demo: bool = False) -> Path | None:
    """`DB_PATH`, else the seeds' place; None with `DISABLE_DATABASE=true`.

    A demo leaves nothing behind in the folder it was tried in, unless `DB_PATH` asks for it.
    """
    if env.get("DISABLE_DATABASE", "").strip().lower() in _YES:
        return None
    named = env.get("DB_PATH", "").strip()
    if not named and demo:
        return None
    return Path(named or DEFAULT).expanduser()
