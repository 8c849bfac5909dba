"""Which keys a file may have, learnt from what the reader asks for, and what a stranger meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Final

from uniapi.config.problems import Sink, shown

_MEANT: Final[Mapping[str, str]] = {
    "key": "api",
    "keys": "api",
    "apikey": "api",
    "token": "api",
    "secret": "api",
    "name": "provider",
    "providername": "provider",
    "url": "base_url",
    "endpoint": "base_url",
    "apibase": "base_url",
    "modelname": "model",
    "type": "engine",
    "format": "engine",
    "timeout": "model_timeout",
    "rpm": "rate_limit",
    "cooldown": "cooldown_period",
    "extraheaders": "headers",
    "algorithm": "SCHEDULING_ALGORITHM",
    "retry": "AUTO_RETRY",
    "moderation": "ENABLE_MODERATION",
    "hedging": "hedge",
}
"""What other programs call it -> what it is called here; offered only where that key exists."""


def closest(word: str, words: Iterable[str]) -> str | None:
    """The one of `words` that `word` most likely means."""
    return next(iter(get_close_matches(word, list(words), n=1, cutoff=0.6)), None)


def _plain(key: str) -> str:
    return "".join(c for c in key.lower() if c.isalnum())


class Keys:
    """The keys met in a file and the keys asked for, scope by scope.

    A scope is a kind of place, such as `providers[].preferences`; the top level is the empty one.
    """

    def __init__(self) -> None:
        self._known: dict[str, dict[str, None]] = {}
        self._tolerated: set[tuple[str, str]] = set()
        self._met: list[tuple[str, str, int]] = []

    def met(self, scope: str, key: str, line: int) -> None:
        """The file has this key here."""
        self._met.append((scope, key, line))

    def know(self, scope: str, *keys: str) -> None:
        """The reader asks for these keys here."""
        self._known.setdefault(scope, {}).update(dict.fromkeys(keys))

    def tolerate(self, scope: str, key: str) -> None:
        """Something else will be said about this key."""
        self._tolerated.add((scope, key))

    @property
    def known(self) -> Mapping[str, tuple[str, ...]]:
        """Scope to the keys that act there."""
        return {scope: tuple(keys) for scope, keys in self._known.items()}

    def complain(self, sink: Sink) -> None:
        """Warn of every key nobody asked for, with the likeliest meaning."""
        for scope, key, line in self._met:
            if key in self._known.get(scope, {}) or (scope, key) in self._tolerated:
                continue
            where = f" in {scope}" if scope else ""
            sink.warning(
                line, f"unknown key {shown(key)}{where}: ignored", self._meaning(scope, key)
            )

    def _meaning(self, scope: str, key: str) -> str:
        here = self._known.get(scope, {})
        alike = next((name for name in here if _plain(name) == _plain(key)), None)
        meant = _MEANT.get(_plain(key))
        guess = alike or (meant if meant in here else closest(key, here))
        if guess is not None:
            return f"did you mean `{guess}`?"
        for name in (key, meant):
            for other, names in self._known.items():
                if name in names:
                    return f"did you mean `{name}` in {other or 'the top level'}?"
        return "remove it; conf/api.example.yaml shows every key"
