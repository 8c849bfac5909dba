"""What is wrong with a configuration: a place, a sentence, and what to write instead.

Two fences keep secrets out of what is printed. Text from the file is shown through `shown`, which
masks whatever looks like a key. And the `Sink` is told every value that is known to be a secret,
and strikes those from every message before it leaves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

_SHOWN = 60  # characters of foreign text in a message: enough for any model name
_SCRUB = 6  # characters; striking anything shorter would maim the message's own words
_KEYISH = re.compile(r"(?i)\b(?:sk|pk|rk|gsk|xai|ghp|hf|pplx|bearer|eyj|akia|aiza)[-_A-Za-z0-9]")


class Severity(StrEnum):
    """Whether the configuration can be used in spite of it."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right.

    Attributes:
        severity: an error leaves no configuration.
        file: the name the text was read under.
        line: from 1.
        what: what is wrong, without a full stop and without secrets.
        fix: what to write instead.
    """

    severity: Severity
    file: str
    line: int
    what: str
    fix: str


def render(problems: Iterable[Problem]) -> str:
    """`file:line: error: what`, then an indented `fix:` line, for each problem in line order."""
    ordered = sorted(problems, key=lambda p: (p.line, p.severity is Severity.WARNING))
    return "".join(
        f"{p.file}:{p.line}: {p.severity}: {p.what}\n    fix: {p.fix}\n" for p in ordered
    )


def mask(secret: str) -> str:
    """A key as a person recognises it: `sk-abc...wxyz`, and less of a short one."""
    if len(secret) >= 24:
        return f"{secret[:6]}…{secret[-4:]}"
    return "sk-…" if secret.startswith("sk-") else "…"


def _keyish(text: str) -> bool:
    """Whether a stranger should see this: known prefixes, userinfo, or one long random word."""
    if _KEYISH.match(text) or "://" in text or "PRIVATE KEY" in text:
        return True
    for word in re.split(r"[^A-Za-z0-9]+", text):
        digits = any(c.isdigit() for c in word)
        letters = any(c.isalpha() for c in word)
        mixed = word.lower() != word and word.upper() != word
        if len(word) >= 32 or (digits and letters and len(word) >= 8 and (mixed or len(word) > 12)):
            return True
    return False


def shown(text: str) -> str:
    """Text of the file in quotes, capped, printable, and masked when it looks like a key."""
    text = text.strip()
    if _keyish(text):
        return f'"{mask(text) if text.isprintable() else "…"}"'
    flat = "".join(c if c.isprintable() else "?" for c in text[:_SHOWN])
    return f'"{flat}{"…" if len(text) > _SHOWN else ""}"'


def spoken(text: str) -> str:
    """As `shown`, without the quotes: for use inside a sentence or a path."""
    return shown(text)[1:-1]


class Sink:
    """Collects problems while a file is read, and knows what may never be printed."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[Problem] = []
        self._secrets: set[str] = set()

    def error(self, line: int, what: str, fix: str) -> None:
        """Note something that leaves no configuration."""
        self._found.append(Problem(Severity.ERROR, self.file, line, what, fix))

    def warning(self, line: int, what: str, fix: str) -> None:
        """Note something to look at."""
        self._found.append(Problem(Severity.WARNING, self.file, line, what, fix))

    def hide(self, secret: str) -> None:
        """Strike this text from every message."""
        secret = secret.strip()
        if len(secret) >= _SCRUB:
            self._secrets.add(secret)

    @property
    def failed(self) -> bool:
        """Whether an error was noted."""
        return any(p.severity is Severity.ERROR for p in self._found)

    def problems(self) -> tuple[Problem, ...]:
        """Everything noted, scrubbed, in line order, once: an alias repeats what it stands for."""
        return tuple(dict.fromkeys(sorted(self._scrubbed(), key=lambda p: p.line)))

    def _scrubbed(self) -> Iterator[Problem]:
        secrets = sorted(self._secrets, key=len, reverse=True)
        for p in self._found:
            what, fix = p.what, p.fix
            for secret in secrets:
                what = what.replace(secret, mask(secret))
                fix = fix.replace(secret, mask(secret))
            yield Problem(p.severity, p.file, p.line, what, fix)
