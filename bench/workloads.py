"""Named answers: upstream, load and comparison mean the same by one name."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from uniapi.demo import Behaviour, behaviour_for
from uniapi.demo.completions import Ask, spoken

# With a gap too short to wait for, every chunk is a write of its own, as servers write them, and
# the reader sees what the kernel makes of it. With no gap at all they are one write.
BURST_GAP: Final = 1e-9
CHUNKS: Final = 52  # of a stream of fifty tokens: the role, the tokens, the finish reason

_ALIASES: Final = MappingProxyType(
    {
        "json": "ok;tokens=12",
        "burst": f"ok;tokens=50;gap={BURST_GAP}",
        "paced": "ok;tokens=50;gap=0.02",
        "crowd": "ok;tokens=80;gap=0.1",
    }
)
NAMES: Final = tuple(_ALIASES)


def workload(name: str) -> Behaviour:
    """The answer of this name: a short one of this file, or any of `uniapi.demo.names`.

    The setting `size=100` makes every token so many characters long.

    Raises:
        LookupError: when there is none.
    """
    first, *settings = _ALIASES.get(name, name).split(";")
    sizes = [setting[5:] for setting in settings if setting.startswith("size=")]
    others = [setting for setting in settings if not setting.startswith("size=")]
    how = behaviour_for(";".join([first, *others]))
    if not sizes:
        return how
    try:
        return replace(how, text=" ".join(["x" * (int(sizes[-1]) - 1)] * 60))
    except ValueError:
        raise LookupError(f"size={sizes[-1]} is not a number") from None


def said(name: str) -> str:
    """The text of this answer.

    Raises:
        LookupError: when there is none.
    """
    return spoken(Ask(), workload(name))
