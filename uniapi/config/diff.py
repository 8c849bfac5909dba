"""What a reload changed, in the words of `api.yaml`: names and digests, never a value.

The reader gives equal configurations for texts that differ only in comments and layout, so an
empty difference means that nothing changed, and nothing else does: order is a change too, since
it decides who is asked first.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Final, Generic, TypeAlias, TypeVar

from uniapi.config.types import (
    ClientKey,
    Config,
    KeyPreferences,
    Preferences,
    Provider,
    ProviderPreferences,
    Refusals,
    Secret,
)

_SHOWN: Final = 20  # names in one list of a log line

# What the user writes, where it is not the attribute's name.
_PROVIDER: Final = {"keys": "api", "models": "model"}
_REFUSALS: Final = {"rules": "exclude_request_rules"}
_CLIENT: Final = {"rules": "model", "admin": "role"}
_CLIENT_PREFERENCES: Final = {
    "algorithm": "SCHEDULING_ALGORITHM",
    "auto_retry": "AUTO_RETRY",
    "moderation": "ENABLE_MODERATION",
}
_Part: TypeAlias = (
    Provider | ProviderPreferences | Refusals | ClientKey | KeyPreferences | Preferences
)
_Names: TypeAlias = Mapping[str, tuple[str, ...]]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Difference:
    """From one configuration to the next; false when nothing changed.

    Attributes:
        providers_added, providers_removed: names.
        providers_changed: name to the settings that are others now.
        providers_reordered: those in both stand in another order.
        models_added, models_removed: provider name to the names clients use; only where both
            configurations list the models.
        keys_added, keys_removed: client keys as digests, with the role if there is one.
        keys_changed: the same to the settings that are others now.
        keys_reordered: as `providers_reordered`.
        preferences_changed: names of global preferences, and `TIMEOUT`.
    """

    providers_added: tuple[str, ...] = ()
    providers_removed: tuple[str, ...] = ()
    providers_changed: _Names = field(default_factory=dict)
    providers_reordered: bool = False
    models_added: _Names = field(default_factory=dict)
    models_removed: _Names = field(default_factory=dict)
    keys_added: tuple[str, ...] = ()
    keys_removed: tuple[str, ...] = ()
    keys_changed: _Names = field(default_factory=dict)
    keys_reordered: bool = False
    preferences_changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.told())

    def told(self) -> dict[str, bool | list[str] | dict[str, list[str]]]:
        """What is not empty, for a log line; long lists are cut."""
        found: dict[str, bool | list[str] | dict[str, list[str]]] = {}
        for one in fields(self):
            match getattr(self, one.name):
                case True:
                    found[one.name] = True
                case tuple(names) if names:
                    found[one.name] = _cut(names)
                case dict(groups) if groups:
                    found[one.name] = {name: _cut(names) for name, names in groups.items()}
                case _:
                    pass
        return found


def diff(old: Config, new: Config) -> Difference:
    """What is different in `new`."""
    providers = _Both(old.providers_by_name, new.providers_by_name)
    keys = _Both(old.keys_by_id, new.keys_by_id)
    listed = {
        name: (_names(before), _names(after))
        for name, (before, after) in providers.common.items()
        if before.models is not None and after.models is not None
    }
    return Difference(
        providers_added=providers.added,
        providers_removed=providers.removed,
        providers_changed=_kept(
            {name: _provider(before, after) for name, (before, after) in providers.common.items()}
        ),
        providers_reordered=providers.reordered,
        models_added=_kept({name: _without(now, was) for name, (was, now) in listed.items()}),
        models_removed=_kept({name: _without(was, now) for name, (was, now) in listed.items()}),
        keys_added=tuple(_label(new.keys_by_id[id_]) for id_ in keys.added),
        keys_removed=tuple(_label(old.keys_by_id[id_]) for id_ in keys.removed),
        keys_changed=_kept(
            {_label(after): _client(before, after) for before, after in keys.common.values()}
        ),
        keys_reordered=keys.reordered,
        preferences_changed=(
            *_changed(old.preferences, new.preferences, {}),
            *(("TIMEOUT",) if old.default_timeout != new.default_timeout else ()),
        ),
    )


def moved(old: Config, new: Config) -> frozenset[str]:
    """Providers of both whose address, account, keys, dialect, headers or proxy are others now.

    What was learnt by asking them, such as their models or that they fail, is no longer known.
    """
    return frozenset(
        name
        for name, provider in new.providers_by_name.items()
        if (before := old.providers_by_name.get(name)) is not None
        and _way(old, before) != _way(new, provider)
    )


def _way(config: Config, provider: Provider) -> tuple[Provider, Secret | None]:
    """All that decides where a question to a provider arrives, and as whose."""
    headers = ProviderPreferences(headers=provider.preferences.headers)
    bare = replace(provider, models=None, tools=True, image=True, notes=None)
    return replace(bare, refusals=Refusals(), preferences=headers), config.proxy_for(provider)


@dataclass(frozen=True, slots=True)
class _Both(Generic[_T]):
    """Two maps by name, side by side."""

    old: Mapping[str, _T]
    new: Mapping[str, _T]

    @property
    def added(self) -> tuple[str, ...]:
        return _without(self.new, self.old)

    @property
    def removed(self) -> tuple[str, ...]:
        return _without(self.old, self.new)

    @property
    def common(self) -> Mapping[str, tuple[_T, _T]]:
        return {name: (self.old[name], one) for name, one in self.new.items() if name in self.old}

    @property
    def reordered(self) -> bool:
        return [name for name in self.old if name in self.new] != list(self.common)


def _provider(old: Provider, new: Provider) -> tuple[str, ...]:
    own = _changed(old, new, _PROVIDER, apart=("refusals", "preferences"))
    refusals = _changed(old.refusals, new.refusals, _REFUSALS)
    preferences = _changed(old.preferences, new.preferences, {})
    return (*own, *refusals, *(f"preferences.{name}" for name in preferences))


def _client(old: ClientKey, new: ClientKey) -> tuple[str, ...]:
    own = _changed(old, new, _CLIENT, apart=("preferences",))
    preferences = _changed(old.preferences, new.preferences, _CLIENT_PREFERENCES)
    return (*dict.fromkeys(own), *(f"preferences.{name}" for name in preferences))


def _changed(
    old: _Part, new: _Part, words: Mapping[str, str], apart: Sequence[str] = ()
) -> tuple[str, ...]:
    """The settings that differ, in the user's words; those `apart` are not looked at."""
    return tuple(
        words.get(one.name, one.name)
        for one in fields(new)
        if one.name not in apart and not _alike(getattr(old, one.name), getattr(new, one.name))
    )


def _alike(old: object, new: object) -> bool:
    """Equal, and of one type: to a provider `1`, `1.0` and `true` are not the same JSON."""
    match old, new:
        case dict(), dict():
            return old.keys() == new.keys() and all(_alike(old[name], new[name]) for name in new)
        case list(), list():
            return len(old) == len(new) and all(map(_alike, old, new))
        case _:
            return type(old) is type(new) and old == new


def _names(provider: Provider) -> tuple[str, ...]:
    return tuple(model.name for model in provider.models or ())


def _label(key: ClientKey) -> str:
    return key.id if key.role is None else f"{key.id} ({key.role})"


def _without(names: Iterable[str], others: Container[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in others)


def _kept(groups: _Names) -> _Names:
    return {name: names for name, names in groups.items() if names}


def _cut(names: Sequence[str]) -> list[str]:
    more = len(names) - _SHOWN
    return [*names[:_SHOWN], f"and {more} more"] if more > 0 else list(names)
