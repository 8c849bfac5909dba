"""`python -m uniapi` and the `uniapi` command."""

from __future__ import annotations

import sys

from uniapi.cli import main


def run() -> None:
    """Run the command line and exit with its status."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
