"""Imports point one way: this table is the architecture, and the test holds the code to it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "uniapi"

# A room may import from itself and from the rooms named here; the lowest come first.
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "codec": set(),
    "errors": {"codec"},
    "events": {"codec", "errors"},
    "chat": {"codec"},
    "conversation": {"codec", "errors", "chat"},
    "eventstream": set(),
    "multipart": set(),
    "relay": {"codec", "multipart"},
    "framing": {"codec", "eventstream"},
    "splice": set(),
    "duration": set(),
    "config": {"codec", "duration", "__init__"},
    "engines": {
        "codec", "errors", "events", "chat", "conversation", "framing", "relay", "config.types",
        "__init__",
    },
    "meter": {"config.bounds"},
    "buckets": {"config.bounds", "meter"},
    "waits": set(),
    "tcp": set(),
    "alarm": set(),
    "ids": set(),
    "state": {"config.types", "buckets", "waits"},
    "routing": {"errors", "config.types", "config.bounds", "config.targets", "buckets", "state"},
    "patience": {"errors", "routing", "alarm"},
    "explain": {"config.types", "state", "routing"},
    "race": {"errors", "events", "routing", "patience"},
    "stats": {"config.types", "config.bounds", "buckets", "state", "waits"},
    "upstream": {
        "codec", "errors", "events", "chat", "framing", "relay", "config.types", "engines",
        "state", "race", "tcp", "ids", "__init__",
    },
    "frontend": {
        "codec", "errors", "events", "chat", "multipart", "relay", "splice", "duration",
        "config.types", "config.bounds", "config.masked", "buckets", "state", "routing", "race",
        "upstream", "explain", "stats", "ids", "__init__",
    },
    "server": {"errors", "tcp", "alarm"},
    "log": set(),
    "notify": set(),
    "reload": {"config", "frontend"},
    "demo": {"codec"},
    "run": {
        "config", "state", "upstream", "frontend", "server", "demo", "notify", "reload",
        "stats", "__init__",
    },
    "cli": {"codec", "config", "run", "log", "routing", "explain", "stats", "__init__"},
    "unneeded": set(),
    "__main__": {"cli", "unneeded"},
    "crossing": {"frontend"},
    "bridge": {"errors", "config", "stats", "log", "frontend", "run", "cli", "crossing"},
}  # fmt: skip

# Third-party libraries that have one room each.
KEPT: dict[str, set[str]] = {
    "strictyaml": {"config/yaml.py"},
    "httpx": {"upstream"},
    "hypercorn": {"server"},
    "h11": {"upstream", "server"},
    "sqlite3": {"stats"},
}
# The vocabulary and the pure rooms: no event loop, no clock, no network.
PURE = (
    "codec", "errors", "events", "chat", "conversation", "eventstream", "framing", "multipart",
    "relay", "splice", "duration", "engines", "routing", "state", "meter", "buckets", "waits",
    "explain",
)  # fmt: skip
IMPURE = {"trio", "anyio", "time", "socket", "random"}
PURE_EXCEPTIONS = {("routing", "random.Random"), ("explain", "random.Random")}


DOORS = {  # files others may import without the rest of the room
    "config.types", "config.bounds", "config.targets", "config.masked",
}  # fmt: skip


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(path: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                found += [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), names=names, level=0):
                found += [f"{module}.{alias.name}" for alias in names]
            case ast.ImportFrom(level=level) if level:
                raise AssertionError(f"{path}: relative import")
            case _:
                pass
    return found


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def target(name: str) -> str:
    """What `uniapi.a.b.C` imports: the room, or one of its files that has a door of its own."""
    rest = name.removeprefix("uniapi").lstrip(".").split(".")
    if ".".join(rest[:2]) in DOORS:
        return ".".join(rest[:2])
    room = rest[0]
    known = (ROOT / f"{room}.py").exists() or (ROOT / room).is_dir()
    return room if room and known else "__init__"


def arrows() -> list[tuple[Path, str]]:
    return [
        (path, name)
        for path in modules()
        for name in imports(path)
        if name == "uniapi" or name.startswith("uniapi.")
    ]


def test_every_import_is_in_the_table() -> None:
    wrong = []
    for path, name in arrows():
        room, to = room_of(path), target(name)
        if (
            to.partition(".")[0] == room
            or to in ALLOWED[room]
            or to.partition(".")[0] in (ALLOWED[room])
        ):
            continue
        wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert wrong == []


def test_the_table_has_no_cycle_and_no_arrow_nobody_uses() -> None:
    order = list(ALLOWED)
    for room, allowed in ALLOWED.items():
        for to in allowed - {"__init__"}:
            assert order.index(to.partition(".")[0]) < order.index(room), (room, to)
    used = {(room_of(path), target(name)) for path, name in arrows()}
    used_rooms = {(room, to.partition(".")[0]) for room, to in used}
    unused = [
        (room, to)
        for room, allowed in ALLOWED.items()
        for to in allowed
        if (room, to) not in used and (room, to.partition(".")[0]) not in used_rooms
    ]
    assert unused == []


def test_libraries_stay_in_their_rooms() -> None:
    wrong = []
    for path in modules():
        where = path.relative_to(ROOT).as_posix()
        for name in imports(path):
            rooms = KEPT.get(name.partition(".")[0])
            if rooms is not None and where not in rooms and room_of(path) not in rooms:
                wrong.append(f"{where} imports {name}")
    assert wrong == []


def test_pure_rooms_know_no_clock_and_no_event_loop() -> None:
    wrong = []
    for path in modules():
        room = room_of(path)
        if room not in PURE:
            continue
        wrong += [
            f"{path.relative_to(ROOT)} imports {name}"
            for name in imports(path)
            if name.partition(".")[0] in IMPURE and (room, name) not in PURE_EXCEPTIONS
        ]
    assert wrong == []


def test_every_room_is_in_the_table() -> None:
    assert {room_of(path) for path in modules()} == set(ALLOWED)


def test_the_map_has_every_room_and_names_no_file_that_is_gone() -> None:
    page = (ROOT.parent / "ARCHITECTURE.md").read_text()
    rooms, files = page.partition("## The rooms")[2].partition("## Words")[0].split("\n| file |")
    named = {name.strip("/") for row in _first_cells(rooms) for name in re.findall(r"[\w/]+", row)}
    assert set(ALLOWED) - {"__init__"} == named - {"room"}
    for row in _first_cells(files):
        folder, _, rest = row.replace("`", "").partition("/")
        missing = [one for one in rest.split(", ") if not (ROOT / folder / f"{one}.py").is_file()]
        assert missing == [], row


def _first_cells(table: str) -> list[str]:
    """What stands first in the rows of a table, without its head."""
    return re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
