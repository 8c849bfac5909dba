"""Which engine speaks to which provider.

Nothing here names an engine: whatever modules of this package define is found, so that adding a
provider is adding one file.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from inspect import isabstract
from types import ModuleType
from typing import Final

from uniapi import engines
from uniapi.config.types import Provider
from uniapi.engines.base import Engine
from uniapi.engines.google_auth import is_claude

# A model of each kind that the choice of an engine may hinge on: a Vertex provider serves both.
_KINDS: Final = ("", "claude")


def collected() -> tuple[Engine, ...]:
    """One of every engine in this package, by module and then as they are written.

    Raises:
        ValueError: two engines go by one name.
    """
    path, here = engines.__path__, engines.__name__
    names = sorted({f"{here}.{module.name}" for module in pkgutil.iter_modules(path)})
    found = [
        engine() for name in names if name != __name__ for engine in _defined(import_module(name))
    ]
    by_name(found)
    return tuple(found)


def by_name(found: Iterable[Engine]) -> Mapping[str, Engine]:
    """Engines by all their names.

    Raises:
        ValueError: two of them go by one name.
    """
    named: dict[str, Engine] = {}
    for engine in found:
        for name in engine.names:
            if name in named:
                one, other = type(named[name]), type(engine)
                raise ValueError(f"two engines are called {name!r}: {_shown(one)}, {_shown(other)}")
            named[name] = engine
    return named


def _defined(module: ModuleType) -> Iterator[type[Engine]]:
    """The concrete engines written in a module: what it only imports belongs elsewhere."""
    for value in vars(module).values():
        if (
            isinstance(value, type)
            and issubclass(value, Engine)
            and value.__module__ == module.__name__
            and not isabstract(value)
        ):
            yield value


def _shown(engine: type[Engine]) -> str:
    return f"{engine.__module__}.{engine.__qualname__}"


ENGINES: Final = collected()
_BY_NAME: Final = by_name(ENGINES)


# By the provider as an object, which is kept so that its id is nobody else's meanwhile.
_chosen: dict[tuple[int, str], tuple[Provider, Engine | None]] = {}
_MOST: Final = 10_000


def engine_for(provider: Provider, upstream: str) -> Engine | None:
    """The engine the provider names, else the one with the strongest claim; None for none.

    A claim rests on `base_url` and the credentials, never on the model's name, except where one
    provider serves several dialects. Asked for every attempt, so the answer is kept.
    """
    kept = _chosen.get((id(provider), upstream))
    if kept is not None:
        return kept[1]
    if len(_chosen) >= _MOST:
        _chosen.clear()
    engine = _choose(provider, upstream)
    _chosen[id(provider), upstream] = (provider, engine)
    return engine


def _choose(provider: Provider, upstream: str) -> Engine | None:
    if provider.engine == "vertex":
        return _BY_NAME["vertex-claude" if is_claude(upstream) else "vertex-gemini"]
    if provider.engine is not None:
        return _BY_NAME.get(provider.engine)
    best = max(ENGINES, key=lambda engine: engine.claims(provider, upstream))
    return best if best.claims(provider, upstream) > 0 else None


def engines_for(provider: Provider) -> tuple[Engine, ...]:
    """Every engine that speaks to the provider, whatever the model: more than one on Vertex."""
    found = (engine_for(provider, kind) for kind in _KINDS)
    return tuple(dict.fromkeys(engine for engine in found if engine is not None))
