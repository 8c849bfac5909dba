"""From the text of `api.yaml` to a `Config`, or to everything that is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from shlex import quote

from uniapi.config import yaml
from uniapi.config.bounds import ByModel
from uniapi.config.clients import LinedKey, clients
from uniapi.config.fields import At, absent, by_model, entries, flag, kind, many, text
from uniapi.config.keys import Keys
from uniapi.config.limits import duration, rates, retention, size, span, timeouts
from uniapi.config.lint import check
from uniapi.config.policies import hedge, timeout_policy
from uniapi.config.problems import Problem, Severity, Sink, render, shown
from uniapi.config.providers import provider, proxy
from uniapi.config.section import Section
from uniapi.config.types import (
    DEFAULT_BODY_LIMIT,
    DEFAULT_COOLDOWN,
    DEFAULT_RETENTION,
    DEFAULT_TIMEOUT,
    Config,
    Preferences,
    Provider,
)
from uniapi.config.variables import expand
from uniapi.duration import parse_duration

__all__ = ["Problem", "Report", "Severity", "known_keys", "read", "render"]

_PRICE = re.compile(r"\d{1,6}(\.\d{0,9})?|\.\d{1,9}", re.ASCII)
_EXAMPLE_PROVIDER = (
    "write providers: with `- provider: openai`, `base_url: https://api.openai.com/v1/chat/"
    "completions` and `api: sk-…` below it"
)
_EXAMPLE_KEY = "write api_keys: with `- api: sk-…` below it: the key your clients send"


@dataclass(frozen=True, slots=True)
class Report:
    """What came of reading a file.

    Attributes:
        config: None when there is an error among the problems.
        problems: in line order.
    """

    config: Config | None
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that leave no configuration."""
        return tuple(p for p in self.problems if p.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems it can be used in spite of."""
        return tuple(p for p in self.problems if p.severity is Severity.WARNING)


def read(text: str, *, name: str, env: Mapping[str, str], mode: int | None = None) -> Report:
    """Read the text of a configuration. Never raises, never shows a secret.

    Args:
        text: the YAML; at most 1 MB.
        name: what to call the file in messages.
        env: for `${NAME}` in values, and for `TIMEOUT`.
        mode: the file's permission bits, when it is a file.
    """
    sink = Sink(name)
    _check_mode(mode, sink)
    tree = yaml.parse(text, sink)
    config = None if tree is None else _config(tree, env, sink, Keys())
    return Report(None if sink.failed else config, sink.problems())


def known_keys() -> Mapping[str, tuple[str, ...]]:
    """Every key that acts, by place (`providers[].preferences`); the top level is the empty one."""
    keys = Keys()
    sink = Sink("")
    tree = yaml.parse("{providers: [{}], api_keys: [{api: '-'}]}", sink)
    if tree is not None:
        _config(tree, {}, sink, keys)
    return keys.known


def _check_mode(mode: int | None, sink: Sink) -> None:
    if mode is not None and mode & 0o077:
        sink.warning(
            1,
            f"other users of this machine can open this file (mode {mode & 0o777:04o}): "
            "it holds your keys",
            f"chmod 600 {quote(sink.file)}",
        )


def _config(tree: yaml.Node, env: Mapping[str, str], sink: Sink, keys: Keys) -> Config | None:
    if absent(tree):
        sink.error(1, "the file is empty", _EXAMPLE_PROVIDER)
        return None
    if not isinstance(tree, yaml.Mapping):
        sink.error(
            tree.line,
            f"the file is {kind(tree)}: providers: and api_keys: are expected",
            _EXAMPLE_PROVIDER,
        )
        return None
    tree = expand(tree, env, sink)
    top = Section(tree, At("", sink), "", keys)
    top.unsupported("video_providers", "not supported here", "remove it")
    found = _providers(top, sink)
    lined = _clients(top, frozenset(p.name for p, _ in found), sink)
    config = Config(
        providers=tuple(p for p, _ in found),
        keys=tuple(k.key for k in lined),
        preferences=_preferences(top.section("preferences")),
        default_timeout=_timeout(env, sink),
    )
    keys.complain(sink)
    if not sink.failed:
        check(config, {p.name: line for p, line in found}, lined, sink)
    return config


def _nothing(top: Section, key: str) -> bool:
    match top.node_of(key):
        case None | yaml.Sequence(items=()) | yaml.Mapping(entries=()):
            return True
        case yaml.Sequence(items):
            return all(absent(item) for item in items)
        case _:
            return False


def _providers(top: Section, sink: Sink) -> list[tuple[Provider, int]]:
    """Providers with their lines; of two with one name the later counts."""
    sections = top.sections("providers")
    if _nothing(top, "providers"):
        sink.error(top.node.line, "there are no providers", _EXAMPLE_PROVIDER)
    found: dict[str, tuple[Provider, int]] = {}
    for section in sections:
        one = provider(section)
        if one is None:
            continue
        line = section.node.line
        earlier = found.pop(one.name, None)
        if earlier is not None:
            sink.warning(
                line,
                f"the provider {shown(one.name)} is already on line {earlier[1]}; this one counts",
                "give one of them another name; several keys of one provider are a list under api",
            )
        found[one.name] = (one, line)
    return list(found.values())


def _clients(top: Section, providers: frozenset[str], sink: Sink) -> tuple[LinedKey, ...]:
    sections = top.sections("api_keys")
    if _nothing(top, "api_keys"):
        sink.error(top.node.line, "there are no api_keys", _EXAMPLE_KEY)
    return clients(sections, providers, sink)


def _preferences(section: Section) -> Preferences:
    section.unsupported(
        "hedging", "not supported here under this name", "write hedge: 5s (or p90), or remove it"
    )
    return Preferences(
        model_timeout=section.read("model_timeout", timeouts, ByModel()),
        timeout_policy=section.get("timeout_policy", timeout_policy),
        keepalive_interval=section.read("keepalive_interval", by_model(span), ByModel()),
        cooldown_period=section.read("cooldown_period", duration, DEFAULT_COOLDOWN),
        error_triggers=section.read("error_triggers", many(text), ()),
        rate_limit=section.get("rate_limit", rates),
        proxy=section.get("proxy", proxy),
        model_price=section.read("model_price", _prices, {}),
        hedge=section.get("hedge", hedge),
        rescue=section.read("rescue", flag, default=True),
        max_request_body_bytes=section.read("max_request_body_bytes", size, DEFAULT_BODY_LIMIT),
        stats_retention=section.read("stats_retention", retention, DEFAULT_RETENTION),
    )


def _prices(node: yaml.Node, at: At) -> dict[str, tuple[float, float]]:
    """Model name to dollars per million tokens, in and out; `default` is one of the names."""
    found: dict[str, tuple[float, float]] = {}
    for entry in entries(node, at):
        here = at.key(entry.key.text.strip())
        parts = _price_parts(entry.value, here)
        match [_price(part) for part in parts]:
            case [float(put), float(out)]:
                found[entry.key.text.strip()] = (put, out)
            case _:
                fix = 'write dollars per million tokens, in and out: "0.3,1.2"'
                here.error(entry.value, "not a price", fix)
    return found


def _price(written: str) -> float | None:
    return float(written) if _PRICE.fullmatch(written.strip()) else None


def _price_parts(node: yaml.Node, at: At) -> list[str]:
    if isinstance(node, yaml.Sequence):
        return list(many(text)(node, at) or ())
    return (text(node, at) or "").split(",")


def _timeout(env: Mapping[str, str], sink: Sink) -> float:
    written = env.get("TIMEOUT", "").strip()
    if not written:
        return DEFAULT_TIMEOUT
    seconds = parse_duration(written)
    if seconds:
        return seconds
    sink.warning(
        1,
        f"the environment variable TIMEOUT is not a time: {DEFAULT_TIMEOUT:g} s are used",
        "set it to seconds, such as TIMEOUT=100, or unset it",
    )
    return DEFAULT_TIMEOUT
