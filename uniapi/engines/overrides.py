"""`post_body_parameter_overrides`: what the user wants changed in every body a provider gets."""

from __future__ import annotations

from collections.abc import Mapping

from uniapi.codec import Json, JsonObject
from uniapi.config.types import Channel

_REMOVE = "__remove__"


def override(body: JsonObject, channel: Channel) -> JsonObject:
    """The body with the provider's overrides applied; the argument is not changed.

    Provider-wide values first, then those under the model's exposed name. Maps merge deeply,
    everything else replaces; `__remove__` (a name or a list of names) takes top-level fields out
    after each step.
    """
    overrides = channel.provider.preferences.post_body_parameter_overrides
    if not overrides:
        return body
    models = {name.name for name in channel.provider.models or ()} | {channel.name}
    wide = {name: value for name, value in overrides.items() if name not in models}
    body = _apply(body, wide)
    own = overrides.get(channel.name)
    return _apply(body, own) if isinstance(own, dict) else body


def override_own(body: JsonObject, channel: Channel) -> JsonObject:
    """The body with only those overrides applied that stand under the model's exposed name.

    For endpoints other than chat: what is written for the whole provider is meant for its chat
    models, and the others answer 400 to it.
    """
    own = channel.provider.preferences.post_body_parameter_overrides.get(channel.name)
    return _apply(body, own) if isinstance(own, dict) else body


def _apply(body: JsonObject, changes: Mapping[str, Json]) -> JsonObject:
    merged = _merge(body, {k: v for k, v in changes.items() if k != _REMOVE})
    match changes.get(_REMOVE):
        case str(name):
            merged.pop(name, None)
        case list(names):
            for each in names:
                if isinstance(each, str):
                    merged.pop(each, None)
        case _:
            pass
    return merged


def _merge(base: Mapping[str, Json], changes: Mapping[str, Json]) -> JsonObject:
    merged = dict(base)
    for name, value in changes.items():
        old = merged.get(name)
        merged[name] = (
            _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return merged
