"""Names for requests and answers: unlike all others, and nobody's secret."""

from __future__ import annotations

import itertools
import secrets
from typing import Final

# Drawn once: asking the system for randomness each time is 8 us, twice a request.
_PROCESS: Final = secrets.token_hex(8)
_numbers: Final = itertools.count(1)


def fresh(prefix: str) -> str:
    """`prefix` and 24 hexadecimal digits: this process, and which of its names it is."""
    return f"{prefix}{_PROCESS}{next(_numbers):08x}"
