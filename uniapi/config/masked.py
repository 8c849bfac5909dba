"""A configuration as JSON for its operator's eyes, without anything that opens a door.

The walk goes by types and by what fields say of themselves, never by a list of fields, so that a
field added tomorrow is masked or shown without a line here. Masked are: every `Secret`; every text
in a field that keeps itself out of its `repr`, as headers do; of an address the user, the password
and the query's values; in free JSON every text under a name such as `api_key`; every type that is
not known here. Last, known secrets are struck from every text that is left, wherever somebody
repeated them, and so is what looks like somebody's key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import Enum
from hashlib import sha256
from math import isfinite
from typing import Any, Final

from uniapi import codec
from uniapi.codec import Json, JsonObject
from uniapi.config.bounds import ByModel
from uniapi.config.targets import Rule
from uniapi.config.types import Config, ModelName, Secret

MASK: Final = "***"
_WORD: Final = 8  # characters; a shorter secret is a word that may stand elsewhere by chance

_SENSITIVE: Final = re.compile(
    r"auth|key|token(?!s)|cookie|secret|passw|passphrase|credential|signature", re.IGNORECASE
)
_KEYISH: Final = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|ghp|hf|pplx|eyJ|AKIA|AIza|ya29)[-_.A-Za-z0-9]{12,}"
    r"|\b(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{32,}\b"
)
_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][-+.A-Za-z0-9]*://)(?P<user>[^/?#\s]*@)?(?P<place>[^?#\s]*)"
    r"(?P<query>\?[^#\s]*)?(?P<fragment>#\S*)?"
)

# What the file calls them, where that is not the field's own name.
_NAMES: Final[Mapping[tuple[str, str], str]] = {
    ("Config", "keys"): "api_keys",
    ("Provider", "name"): "provider",
    ("Provider", "keys"): "api",
    ("Provider", "models"): "model",
    ("ClientKey", "secret"): "api",
    ("ClientKey", "rules"): "model",
    ("KeyPreferences", "algorithm"): "SCHEDULING_ALGORITHM",
    ("KeyPreferences", "auto_retry"): "AUTO_RETRY",
    ("KeyPreferences", "moderation"): "ENABLE_MODERATION",
}


def masked(config: Config) -> JsonObject:
    """The configuration as it is in force, defaults included; what is not set is left out.

    Keys and passwords are `sha256:` and the digest that the log knows them by.
    """
    secrets = {*config.secrets, *_secrets(config)}
    long = sorted((one for one in secrets if len(one) >= _WORD), key=len, reverse=True)
    return _Mask(tuple(long)).fields(config)


def digest(shown: JsonObject) -> str:
    """What tells one configuration from another: 12 hex digits, of the masked one."""
    return sha256(codec.dumps(shown)).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class _Mask:
    """Shows values; `secrets` are struck from texts, the longest first.

    Where a method is told `hidden`, values keep their shape and lose their texts.
    """

    secrets: tuple[str, ...]

    def fields(self, value: Any, *, hidden: bool = False) -> JsonObject:  # noqa: ANN401 - any dataclass
        """The fields of a dataclass that are set, under the file's names."""
        found: JsonObject = {}
        for one in fields(value):
            held: object = getattr(value, one.name)
            if held is not None:
                name = _NAMES.get((type(value).__name__, one.name), one.name)
                found[name] = self.shown(held, hidden=hidden or not one.repr)
        return found

    def shown(self, value: object, *, hidden: bool = False) -> Json:
        """Any value of a configuration."""
        match value:
            case ModelName(upstream, name) if not hidden:
                ours = self.text(name)
                return ours if upstream == name else {self.text(upstream): ours}
            case Rule(weight=weight, text=text) if not hidden:
                return self.text(text) if weight is None else {self.text(text): weight}
            case ByModel(entries, default):
                named = {self.text(n): self.shown(v, hidden=hidden) for n, v in entries}
                rest = {} if default is None else {"default": self.shown(default, hidden=hidden)}
                return {**named, **rest}
            case Mapping():
                return dict(self._named(value.items(), hidden=hidden))
            case tuple() if hidden and value and all(map(_is_pair, value)):
                return dict(self._named(value, hidden=True))
            case frozenset():
                return sorted((self.shown(one, hidden=hidden) for one in value), key=str)
            case list() | tuple():
                return [self.shown(one, hidden=hidden) for one in value]
            case _ if is_dataclass(value):
                return self.fields(value, hidden=hidden)
            case _:
                return self._leaf(value, hidden=hidden)

    def _named(self, pairs: Any, *, hidden: bool) -> Iterator[tuple[str, Json]]:  # noqa: ANN401 - free JSON
        """Values under names somebody chose: a text under such as `api_key` is hidden."""
        for name, held in pairs:
            kept = hidden or _SENSITIVE.search(str(name)) is not None
            yield self.text(str(name)), self.shown(held, hidden=kept)

    def _leaf(self, value: object, *, hidden: bool) -> Json:
        match value:
            case None | bool() | int():
                return value
            case float():
                return value if isfinite(value) else str(value)
            case Secret(digest=known):
                return f"sha256:{known}"
            case Enum(value=str(name)):
                return name
            case str():
                return _hashed(value) if hidden else self.text(value)
            case datetime():
                return value.isoformat()
            case _:
                return MASK

    def text(self, text: str) -> str:
        """A text without passwords of addresses, known secrets and what looks like a key."""
        text = text.encode("utf-8", "replace").decode()
        if "://" in text:
            text = _URL.sub(_bare, text)
        if len(text) < _WORD:
            return text
        for secret in self.secrets:
            if secret in text:
                text = text.replace(secret, _hashed(secret))
        return _KEYISH.sub(lambda found: _hashed(found.group()), text)


def _is_pair(value: object) -> bool:
    match value:
        case (str(), _):
            return True
        case _:
            return False


def _hashed(text: str) -> str:
    return f"sha256:{Secret(text).digest}"


def _bare(url: re.Match[str]) -> str:
    """An address without its user, its query's values and its fragment."""
    user = f"{MASK}@" if url["user"] else ""
    query = url["query"] or ""
    values = "&".join(map(_value_hidden, query[1:].split("&"))) if query else ""
    fragment = f"#{MASK}" if url["fragment"] else ""
    return f"{url['scheme']}{user}{url['place']}{query[:1]}{values}{fragment}"


def _value_hidden(pair: str) -> str:
    name, mark, _ = pair.partition("=")
    if "version" in name:  # Azure's `api-version`
        return pair
    return f"{name}={MASK}" if mark else MASK


def _secrets(value: object) -> Iterator[str]:
    """Every secret in a value, and user and password of those that are addresses."""
    match value:
        case Secret():
            text = value.reveal()
            yield text
            user = text.partition("://")[2].rpartition("@")[0]
            yield from (user, *user.split(":", 1))
        case Mapping():
            yield from _secrets(tuple(value.values()))
        case tuple() | list() | frozenset():
            for held in value:
                yield from _secrets(held)
        case _ if is_dataclass(value):
            for one in fields(value):
                yield from _secrets(getattr(value, one.name))
        case _:
            pass
