"""What Vercel's Python runtime loads: `app`, an ASGI application."""

# ruff: noqa: INP001 - the platform loads the file, it is no package

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the folder uniapi is

from uniapi.bridge import Bridge

app = Bridge()
