"""The entries of `providers:`."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from uniapi.config import yaml
from uniapi.config.bounds import ByModel
from uniapi.config.fields import (
    At,
    absent,
    by_model,
    choice,
    entries,
    flag,
    items,
    json_map,
    many,
    secret,
    text,
    token,
)
from uniapi.config.keys import closest
from uniapi.config.limits import duration, rates, span, timeouts
from uniapi.config.pem import fault
from uniapi.config.policies import refusals, timeout_policy
from uniapi.config.problems import shown
from uniapi.config.section import Section
from uniapi.config.types import KeySchedule, ModelName, Provider, ProviderPreferences, Secret

ENGINES: Final = (
    "gpt",
    "claude",
    "gemini",
    "vertex",
    "vertex-gemini",
    "vertex-claude",
    "cohere",
    "cloudflare",
    "openrouter",
    "groq",
    "azure",
    "aws",
)
_SYNONYMS: Final = {"openai": "gpt", "anthropic": "claude", "bedrock": "aws"}
_PROXIES: Final = ("http", "https", "socks5", "socks5h")
_OWN_KEYS: Final = frozenset({"authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie"})
_TOKEN: Final = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_FIELD: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_PLACEHOLDER: Final = re.compile(r"(?i)[\[\]<>{}]|\b(?:x{3,}|your|username|password|ip|port)\b")


def provider(section: Section) -> Provider | None:
    """One provider; None when its name is missing (the sink was told)."""
    name = section.require("provider", text, "openai (any name)")
    engine = section.get("engine", _engine)
    project = section.get("project_id", text)
    account = section.get("cf_account_id", text)
    aws_key = section.get("aws_access_key", secret)
    base_url = section.get("base_url", _base_url)
    if section.node_of("base_url") is None and not (
        project
        or account
        or aws_key
        or engine in {"aws", "vertex", "vertex-gemini", "vertex-claude"}
    ):
        section.at.error(
            section.node,
            "`base_url` is missing",
            "write base_url: https://api.openai.com/v1/chat/completions "
            "(or project_id for Vertex, cf_account_id for Cloudflare)",
        )
    preferences = section.section("preferences")
    for part in (section, preferences):
        for key in ("access_key", "secret_key"):
            part.unsupported(key, "not supported here: no engine here signs with it", "remove it")
    found = Provider(
        name=name or "",
        base_url=base_url,
        keys=section.read("api", _keys, ()),
        models=section.get("model", _models),
        engine=engine,
        tools=section.read("tools", flag, default=True),
        image=section.read("image", flag, default=True),
        project_id=project,
        private_key=section.get("private_key", _private_key),
        client_email=section.get("client_email", text),
        region=section.get("region", text),
        token_uri=section.get("token_uri", _base_url),
        cf_account_id=account,
        aws_access_key=aws_key,
        aws_secret_key=section.get("aws_secret_key", secret),
        aws_session_token=section.get("aws_session_token", secret),
        aws_region=section.get("aws_region", text),
        api_version=section.get("api_version", text),
        notes=section.get("notes", text),
        refusals=refusals(section, preferences),
        preferences=_preferences(preferences),
    )
    return found if name else None


def _preferences(section: Section) -> ProviderPreferences:
    section.unsupported(
        "responses_stream_commit_policy",
        "not supported here: an answer counts from its first real output",
        "remove it",
    )
    section.unsupported("oaix_routing_attempt_id", "not supported here", "remove it")
    section.unsupported("search_defaults", "not supported: there is no search here", "remove it")
    return ProviderPreferences(
        api_key_rate_limit=section.get("api_key_rate_limit", rates),
        api_key_cooldown_period=section.read("api_key_cooldown_period", duration, 0.0),
        api_key_rate_limit_cooldown_period=section.get(
            "api_key_rate_limit_cooldown_period", duration
        ),
        api_key_quota_cooldown_period=section.get("api_key_quota_cooldown_period", duration),
        api_key_schedule_algorithm=section.read(
            "api_key_schedule_algorithm", _key_schedule, KeySchedule.ROUND_ROBIN
        ),
        model_timeout=section.read("model_timeout", timeouts, ByModel()),
        timeout_policy=section.get("timeout_policy", timeout_policy),
        keepalive_interval=section.read("keepalive_interval", by_model(span), ByModel()),
        cooldown_period=section.get("cooldown_period", duration),
        proxy=section.get("proxy", proxy),
        headers=section.read("headers", _headers, ()),
        passthrough_request_headers=section.read("passthrough_request_headers", _passed, ()),
        post_body_parameter_overrides=section.read("post_body_parameter_overrides", json_map, {}),
    )


def _keys(node: yaml.Node, at: At) -> tuple[Secret, ...]:
    keys = many(token)(node, at) or ()
    if len(set(keys)) < len(keys):
        at.warning(node, "the same key is listed twice", "list every key once")
    return tuple(dict.fromkeys(keys))


def _engine(node: yaml.Node, at: At) -> str | None:
    value = text(node, at)
    if value is None:
        return None
    name = _SYNONYMS.get(value.lower(), value.lower())
    if name in ENGINES:
        return name
    near = closest(name, [*ENGINES, *_SYNONYMS])
    at.error(
        node,
        f"unknown engine {shown(value)}",
        f"did you mean {near}?" if near else f"write one of {', '.join(ENGINES)}",
    )
    return None


def _base_url(node: yaml.Node, at: At) -> str | None:
    value = text(node, at)
    if value is None:
        return None
    try:
        url = urlsplit(value)
        good = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
        private = bool(url.username or url.password or "key=" in url.query)
    except ValueError:
        good, private = False, True
    if private:
        at.sink.hide(value)
    if good and value.isprintable() and " " not in value:
        return value
    at.error(
        node,
        "not an http(s) URL",
        "write the whole address, such as https://api.openai.com/v1/chat/completions",
    )
    return None


def proxy(node: yaml.Node, at: At) -> Secret | None:
    """A proxy URL: http, https, socks5 or socks5h.

    A placeholder left from an example is kept, with a warning, so that it fails where it is used
    instead of the request going out without a proxy.
    """
    found = secret(node, at)
    if found is None:
        return None
    value = found.reveal()
    scheme, mark, rest = value.partition("://")
    if not mark or scheme.lower() not in _PROXIES:
        what = (
            "socks4 is not supported" if scheme.lower().startswith("socks4") else "not a proxy URL"
        )
        at.error(node, what, "write socks5://user:password@host:1080, socks5h://… or http://…")
        return None
    try:
        url = urlsplit(value)
        good = bool(url.hostname) and url.port != 0
    except ValueError:
        good = False
    if not good or _PLACEHOLDER.search(rest):
        at.warning(
            node,
            "this looks like a placeholder; requests through it will fail",
            f"write a real address, such as {scheme}://127.0.0.1:1080, or remove the line",
        )
    return found


def _private_key(node: yaml.Node, at: At) -> Secret | None:
    """A PEM key; a backslash and an n are a line break, as in a service account's JSON."""
    found = secret(node, at)
    if found is None:
        return None
    pem = found.reveal().replace("\\n", "\n")
    at.sink.hide(pem)
    if (wrong := fault(pem)) is not None:
        at.warning(
            node,
            wrong,
            'copy private_key from the service account\'s JSON, in double quotes with its "\\n"',
        )
    return Secret(pem)


def _models(node: yaml.Node, at: At) -> tuple[ModelName, ...] | None:
    """Models as listed; of two with one exposed name the later wins. None for an empty list."""
    found: dict[str, tuple[ModelName, int]] = {}
    for item in items(node, at):
        for model, line in _model(item, at):
            if model.name in found:
                at.sink.warning(
                    line,
                    f"{at.path}: {shown(model.name)} is already on line {found[model.name][1]}; "
                    "this one counts",
                    "give one of them another name, or remove one",
                )
                del found[model.name]
            found[model.name] = (model, line)
    return tuple(model for model, _ in found.values()) or None


def _model(node: yaml.Node, at: At) -> list[tuple[ModelName, int]]:
    if not isinstance(node, yaml.Mapping):
        name = text(node, at)
        return [(ModelName(name, name), node.line)] if name else []
    for entry in node.entries:
        if absent(entry.value):
            at.warning(
                entry.key,
                f"{shown(entry.key.text)} is renamed to nothing: it keeps its name",
                "remove the colon, or write `upstream-name: your-name`",
            )
    renamed = [
        (entry.key.text.strip(), text(entry.value, at), entry.key.line)
        for entry in entries(node, at)
    ]
    kept = [
        (entry.key.text.strip(), entry.key.text.strip(), entry.key.line)
        for entry in node.entries
        if absent(entry.value)
    ]
    return [(ModelName(up, name), line) for up, name, line in renamed + kept if up and name]


def _headers(node: yaml.Node, at: At) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for entry in entries(node, at):
        name = entry.key.text.strip()
        here = at.key(name)
        value = secret(entry.value, here)
        if not _TOKEN.fullmatch(name):
            at.error(entry.key, "not a legal header name", "use letters, digits and dashes")
        elif value is not None and not _FIELD.fullmatch(value.reveal()):
            here.error(entry.value, "not a legal header value", "use one line of plain characters")
        elif value is not None:
            found.append((name, value.reveal()))
    return tuple(found)


def _passed(node: yaml.Node, at: At) -> tuple[str, ...]:
    found: list[str] = []
    for item in items(node, at):
        name = text(item, at)
        if name is None:
            continue
        if not _TOKEN.fullmatch(name):
            at.error(item, "not a legal header name", "use letters, digits and dashes")
            continue
        if name.lower() in _OWN_KEYS:
            at.warning(
                item,
                f"{shown(name)} carries your clients' own key: the provider will see it",
                "remove it; the provider's key goes under `api`",
            )
        found.append(name)
    return tuple(found)


def _key_schedule(node: yaml.Node, at: At) -> KeySchedule | None:
    if isinstance(node, yaml.Scalar) and node.text.strip() == "smart_round_robin":
        at.warning(
            node,
            "smart_round_robin is not supported here: round_robin is used",
            "write round_robin, random or fixed_priority",
        )
        return None
    return choice(KeySchedule)(node, at)
