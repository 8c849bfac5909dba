"""How people write a time."""

from __future__ import annotations

import re
from typing import Final

_SHORT: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0}
_LONG: Final = {"h": 3600.0, "hr": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0}
_SECONDS: Final = _SHORT | _LONG
_DURATION: Final = re.compile(r"(\d{1,12}(?:\.\d{0,9})?|\.\d{1,9})\s*([a-z]*)", re.ASCII)


def parse_duration(value: str) -> float | None:
    """Seconds from `90`, `2.5`, `300ms`, `5s`, `2m`, `1h` or `1d`; None when it is none of them."""
    match = _DURATION.fullmatch(value.strip().lower())
    if match is None or match[2] not in _SECONDS:
        return None
    return float(match[1]) * _SECONDS[match[2]]
