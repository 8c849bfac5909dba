"""Cross-checks: what reads well alone and makes no sense together. All of it warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import assert_never
from urllib.parse import urlsplit

from uniapi.config.clients import LinedKey
from uniapi.config.keys import closest
from uniapi.config.problems import Sink, mask, shown, spoken
from uniapi.config.rules import LinedRule
from uniapi.config.targets import AnyProvider, Everything, NestedKey, OneProvider, Target
from uniapi.config.types import Algorithm, ClientKey, Config, Provider

MODERATION_MODELS = ("omni-moderation-latest", "text-moderation-latest")
_WEIGHTED = (Algorithm.WEIGHTED_ROUND_ROBIN, Algorithm.LOTTERY)


@dataclass(frozen=True)
class _Catalogue:
    """What the file says about models; a provider without `model:` may have any."""

    config: Config

    @cached_property
    def models(self) -> Mapping[str, frozenset[str] | None]:
        """Provider to its models, or None when they are discovered at run time."""
        return {
            p.name: None if p.models is None else frozenset(m.name for m in p.models)
            for p in self.config.providers
        }

    @cached_property
    def all(self) -> frozenset[str]:
        """Every model some provider lists."""
        return frozenset().union(*(m for m in self.models.values() if m is not None))

    @cached_property
    def open(self) -> bool:
        """Whether some provider's models are not known yet."""
        return None in self.models.values()

    def new_name(self, upstream: str) -> str | None:
        """What a model is called here whose upstream name was renamed away."""
        for p in self.config.providers:
            for model in p.models or ():
                if model.upstream == upstream:
                    return model.name
        return None


def check(
    config: Config, providers: Mapping[str, int], keys: Sequence[LinedKey], sink: Sink
) -> None:
    """Warn of rules that lead nowhere, providers nobody reaches, idle weights, lame moderation.

    Args:
        config: without errors, so without cycles.
        providers: the line of each provider.
        keys: the client keys with their lines.
        sink: is told.
    """
    catalogue = _Catalogue(config)
    for key in keys:
        for rule in key.rules:
            _check_rule(rule, catalogue, sink)
        _check_weights(key, sink)
        _check_moderation(key, catalogue, sink)
    for one in config.providers:
        if "/" in one.name:
            sink.warning(
                providers[one.name],
                f"the provider name {shown(one.name)} has a slash: no rule can name it",
                "use a name without a slash",
            )
        if _is_old_cohere(one):
            sink.warning(
                providers[one.name],
                f"the provider {shown(one.name)} names Cohere's v1 chat: v2 is asked instead",
                "write base_url: https://api.cohere.com/v2/chat",
            )
        if (missing := _missing(one)) is not None:
            what, fix = missing
            where = f"the provider {shown(one.name)} has nothing to sign in with"
            sink.warning(providers[one.name], f"{where}: {what} is missing", fix)
        if not any(_reaches(key.key, one) for key in keys):
            sink.warning(
                providers[one.name],
                f"no key can reach the provider {shown(one.name)}",
                f"add {spoken(one.name)}/* to the model list of a key, or remove the provider",
            )


def _missing(provider: Provider) -> tuple[str, str] | None:
    """What a provider known by its account needs besides, and where it comes from."""
    if provider.keys or provider.base_url is not None:
        return None
    absent: list[str] = []
    fix = ""
    if provider.aws_access_key is not None or provider.engine == "aws":
        pair = (provider.aws_access_key, provider.aws_secret_key)
        absent = _absent(("aws_access_key", "aws_secret_key"), pair)
        fix = "write the two of them, or a Bedrock key under api"
        if len(absent) == len(pair):
            absent = ["`api` or `aws_access_key`"]
            fix = "write a Bedrock key under api, or a pair of AWS keys"
    elif provider.project_id is not None:
        account = (provider.private_key, provider.client_email)
        absent = _absent(("private_key", "client_email"), account)
        fix = "copy it from the service account's JSON, or write an express key under api"
    elif provider.cf_account_id is not None:
        absent, fix = ["`api`"], "write a Cloudflare token under api"
    return (" and ".join(absent), fix) if absent else None


def _absent(names: Sequence[str], values: Sequence[object]) -> list[str]:
    return [f"`{name}`" for name, value in zip(names, values, strict=True) if value is None]


def _is_old_cohere(provider: Provider) -> bool:
    parts = urlsplit(provider.base_url or "")
    host = parts.hostname or ""
    return host.endswith(("cohere.com", "cohere.ai")) and parts.path.rstrip("/") == "/v1/chat"


def _check_rule(rule: LinedRule, catalogue: _Catalogue, sink: Sink) -> None:
    match rule.rule.target:
        case Everything():
            pass
        case AnyProvider(model):
            _check_model(model, rule, catalogue, sink)
        case OneProvider(name, model):
            _check_channel(name, model, rule, catalogue, sink)
        case NestedKey(key, model):
            inner = catalogue.config.keys_by_id[key]
            if model is not None and not _offers(inner, model, catalogue):
                sink.warning(
                    rule.line,
                    f"the rule {rule.shown}: that key may not use this model",
                    "add the model to that key's list, or write `/*` behind the key",
                )
        case _ as never:
            assert_never(never)


def _check_model(model: str, rule: LinedRule, catalogue: _Catalogue, sink: Sink) -> None:
    if any(key.secret.reveal() == model for key in catalogue.config.keys):
        fix = "to use another key's channels write the key with `/*` behind it"
        sink.warning(rule.line, f"the rule {rule.shown} is a key, not a model", fix)
        return
    if model in catalogue.all or catalogue.open:
        return
    if model in catalogue.models:
        fix = f"for all models of that provider write {spoken(model)}/*"
    else:
        fix = _suggest(model, catalogue.all, catalogue)
    sink.warning(rule.line, f"the rule {rule.shown} names a model that no provider has", fix)


def _check_channel(
    name: str, model: str | None, rule: LinedRule, catalogue: _Catalogue, sink: Sink
) -> None:
    if name not in catalogue.models:
        whole = f"{name}/{model or '*'}"
        if whole in catalogue.all:
            fix = f"for the model of that name write <{spoken(whole)}>"
        elif name.startswith("sk-"):
            fix = "to use another key's channels, that key must be an entry of api_keys"
        else:
            near = closest(name, catalogue.models)
            fix = f"did you mean {spoken(near)}?" if near else "add it to providers, or remove it"
        sink.warning(rule.line, f"the rule {rule.shown} names a provider that does not exist", fix)
        return
    has = catalogue.models[name]
    if model is not None and has is not None and model not in has:
        fix = _suggest(model, has, catalogue)
        sink.warning(rule.line, f"the rule {rule.shown}: that provider has no such model", fix)


def _suggest(model: str, names: frozenset[str], catalogue: _Catalogue) -> str:
    renamed = catalogue.new_name(model)
    if renamed is not None and renamed in names:
        return f"it was renamed: write {spoken(renamed)}"
    near = closest(model, sorted(names))
    return f"did you mean {spoken(near)}?" if near else "add it under `model` of a provider"


def _reaches(key: ClientKey, one: Provider) -> bool:
    """Whether a key's own rules lead to the provider; nested keys answer for themselves."""
    names = None if one.models is None else {model.name for model in one.models}
    for rule in key.rules:
        match rule.target:
            case Everything():
                return True
            case AnyProvider(model) if names is None or model in names:
                return True
            case OneProvider(name, model) if name == one.name:
                if model is None or names is None or model in names:
                    return True
            case _:
                pass
    return False


def _offers(key: ClientKey, model: str, catalogue: _Catalogue) -> bool:
    """Whether a key may use a model, as far as the file can tell (when unsure: yes)."""
    seen = {key.id}
    pending = [key]
    while pending:
        for rule in pending.pop().rules:
            match rule.target:
                case NestedKey(inner, name) if name in {None, model} and inner not in seen:
                    seen.add(inner)
                    pending.append(catalogue.config.keys_by_id[inner])
                case target if _allows(target, model, catalogue):
                    return True
                case _:
                    pass
    return False


def _allows(target: Target, model: str, catalogue: _Catalogue) -> bool:
    match target:
        case Everything():
            return model in catalogue.all or catalogue.open
        case AnyProvider(name):
            return name == model and (model in catalogue.all or catalogue.open)
        case OneProvider(provider, name):
            has = catalogue.models.get(provider, frozenset())
            return name in {None, model} and (has is None or model in has)
        case NestedKey():
            return False  # answers for itself in `_offers`


def _check_weights(key: LinedKey, sink: Sink) -> None:
    weighted = [rule for rule in key.rules if rule.rule.weight is not None]
    algorithm = key.key.preferences.algorithm
    if weighted and algorithm not in _WEIGHTED:
        sink.warning(
            weighted[0].line,
            f"{algorithm} ignores weights",
            "write SCHEDULING_ALGORITHM: weighted_round_robin (or lottery), or remove the weights",
        )
    if algorithm in _WEIGHTED and not weighted:
        sink.warning(
            key.algorithm,
            f"{algorithm} without weights: every channel is a backup, taken in turn",
            "write a weight behind the rules, such as `gcp1/*: 5`",
        )


def _check_moderation(key: LinedKey, catalogue: _Catalogue, sink: Sink) -> None:
    if not key.key.preferences.moderation:
        return
    if any(_offers(key.key, model, catalogue) for model in MODERATION_MODELS):
        return
    sink.warning(
        key.moderation,
        f"ENABLE_MODERATION is on, but the key {mask(key.key.secret.reveal())} reaches no "
        f"moderation model: its requests will fail",
        f"give it {' or '.join(MODERATION_MODELS)}, or switch moderation off",
    )
