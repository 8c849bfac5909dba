"""A client key's rules against a requested model: which channels, in which order.

The answer is a tree, because a rule may name another client key: its channels stand together as
one unit of the outer key, and inside it that key's own algorithm decides. Model names are exact
and case-sensitive.

A channel counts once per key, where the first rule put it, with the first weight any rule gave
it: two rules that overlap are a habit (`gpt-4o` above `openai/*`), not a wish for double traffic.
A weight belongs to every channel its rule names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias, assert_never

from uniapi.config.targets import AnyProvider, Everything, NestedKey, OneProvider, Rule, Target
from uniapi.config.types import Channel, ClientKey, Config, ModelName, Provider
from uniapi.state import DiscoveryStatus, State


@dataclass(frozen=True, slots=True)
class Leaf:
    """A channel as a unit of scheduling."""

    channel: Channel
    weight: int | None = None

    @property
    def id(self) -> tuple[str, ...]:
        """Provider and upstream model: the same channel has the same id for ever."""
        return (self.channel.provider.name, self.channel.upstream)


@dataclass(frozen=True, slots=True)
class Group:
    """Another client key as one unit of scheduling; `nodes` are its own, never empty."""

    key: ClientKey
    nodes: tuple[Node, ...]
    weight: int | None = None

    @property
    def id(self) -> tuple[str, ...]:
        """The digest of the nested key."""
        return (self.key.id,)


Node: TypeAlias = Leaf | Group


@dataclass(frozen=True, slots=True)
class Way:
    """What a key's rules make of a model; found once, and kept until config or listings change.

    Attributes:
        nodes: see `expand`.
        pending: see `pending`.
    """

    nodes: tuple[Node, ...]
    pending: tuple[str, ...]


_MOST = 10_000  # ways that are kept: keys times models that exist, as the configuration has them


def way(config: Config, state: State, key: ClientKey, model: str) -> Way:
    """Where this model leads for this key. What leads nowhere is not kept: strangers invent it."""
    kept = state.worked_out(config)
    match kept.get((key.id, model)):
        case Way() as found:
            return found
        case _:
            pass
    unheard = tuple(dict.fromkeys(_pending(config, state, key, model, frozenset())))
    made = Way(_expand(config, state, key, model, frozenset()), unheard)
    if made.nodes:
        if len(kept) >= _MOST:
            kept.clear()
        kept[key.id, model] = made
    return made


def expand(config: Config, state: State, key: ClientKey, model: str) -> tuple[Node, ...]:
    """The units this key has for this model: rule order, then provider order. Empty: no such model.

    An explicit `provider/model` is routed even while the provider's own listing is missing, under
    the name as it stands: the rule is a promise that the model exists.
    """
    return way(config, state, key, model).nodes


def leaves(nodes: tuple[Node, ...]) -> Iterator[Channel]:
    """The channels of a tree, from left to right; a channel may come twice by way of two keys."""
    for node in nodes:
        match node:
            case Leaf(channel):
                yield channel
            case Group(_, inner):
                yield from leaves(inner)
            case _:
                assert_never(node)


def visible_models(config: Config, state: State, key: ClientKey) -> tuple[str, ...]:
    """The names this key can ask for, each once, in rule order: what `GET /v1/models` lists."""
    return tuple(dict.fromkeys(_visible(config, state, key, frozenset())))


def pending(config: Config, state: State, key: ClientKey, model: str) -> tuple[str, ...]:
    """Providers not yet heard of that may turn out to serve this model for this key.

    Worth waiting for a little when `expand` found nothing.
    """
    return way(config, state, key, model).pending


def _expand(
    config: Config, state: State, key: ClientKey, model: str, above: frozenset[str]
) -> tuple[Node, ...]:
    found: dict[tuple[str, ...], Node] = {}
    above |= {key.id}
    for rule in key.rules:
        for node in _nodes(config, state, rule, model, above):
            known = found.setdefault(node.id, node)
            if known.weight is None:
                found[node.id] = replace(known, weight=node.weight)
    return tuple(found.values())


def _nodes(
    config: Config, state: State, rule: Rule, model: str, above: frozenset[str]
) -> Iterator[Node]:
    providers, only = _scope(config, rule.target)
    if only not in {None, model}:
        return
    for provider in providers:
        for served in _offered(state, provider, rule.target):
            if served.name == model:
                yield Leaf(Channel(provider, served.upstream, model), rule.weight)
    inner = _nested(config, rule.target, above)
    if inner is not None:
        nodes = _expand(config, state, inner, model, above)
        if nodes:
            yield Group(inner, nodes, rule.weight)


def _visible(config: Config, state: State, key: ClientKey, above: frozenset[str]) -> Iterator[str]:
    above |= {key.id}
    for rule in key.rules:
        providers, only = _scope(config, rule.target)
        names = [m.name for one in providers for m in _offered(state, one, rule.target)]
        inner = _nested(config, rule.target, above)
        if inner is not None:
            names.extend(_visible(config, state, inner, above))
        yield from (name for name in names if only in {None, name})


def _pending(
    config: Config, state: State, key: ClientKey, model: str, above: frozenset[str]
) -> Iterator[str]:
    above |= {key.id}
    for rule in key.rules:
        providers, only = _scope(config, rule.target)
        if only not in {None, model}:
            continue
        for provider in providers:
            status = state.discovery(provider.name).status
            if provider.models is None and status is DiscoveryStatus.PENDING:
                yield provider.name
        inner = _nested(config, rule.target, above)
        if inner is not None:
            yield from _pending(config, state, inner, model, above)


def _scope(config: Config, target: Target) -> tuple[tuple[Provider, ...], str | None]:
    """The providers a target names directly, and the one model it is about, or None for all."""
    match target:
        case Everything():
            return config.providers, None
        case AnyProvider(model):
            return config.providers, model
        case OneProvider(name, model):
            one = config.providers_by_name.get(name)
            return (() if one is None else (one,)), model
        case NestedKey(_, model):
            return (), model
        case _:
            assert_never(target)


def _nested(config: Config, target: Target, above: frozenset[str]) -> ClientKey | None:
    """The client key a target stands for; None when it is none, unknown, or above already."""
    match target:
        case NestedKey(digest) if digest not in above:
            return config.keys_by_id.get(digest)
        case _:
            return None


def _offered(state: State, provider: Provider, target: Target) -> tuple[ModelName, ...]:
    """A provider's models as this target sees them: an explicit one is there until disproved."""
    models = state.models(provider)
    match target:
        case OneProvider(_, str(only)) if (
            provider.models is None
            and state.discovery(provider.name).status is not DiscoveryStatus.READY
        ):
            return (*models, ModelName(only, only))
        case _:
            return models
