"""`python -m uniapi` and the `uniapi` command."""

from __future__ import annotations

import os
import sys
from typing import Final

_ALLOCATOR: Final = "PYTHONMALLOC"


def run() -> None:
    """Run the command line and exit with its status."""
    arguments = sys.argv[1:]
    if arguments[:1] not in (["check"], ["explain"], ["--version"], ["--help"], ["-h"]):
        _use_the_c_allocator()
    from uniapi.unneeded import put_off  # noqa: PLC0415 - after the allocator is chosen

    put_off()
    from uniapi.cli import main  # noqa: PLC0415 - after that as well

    sys.exit(main(arguments))


def _use_the_c_allocator() -> None:
    """Start again with the C library's allocator, which gives memory back after a peak.

    Measured: 500 streams at once left 11 to 17 MB with Python's own allocator, 2.5 MB with the C
    library's, at the same CPU within the noise. The process keeps its number; a choice made in
    the environment stands.
    """
    if os.name == "posix" and sys.executable and _ALLOCATOR not in os.environ:
        os.environ[_ALLOCATOR] = "malloc"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this program


if __name__ == "__main__":
    run()
