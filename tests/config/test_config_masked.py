"""The configuration as its operator may see it: whole, and opening no door."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniapi.codec import Json, JsonObject, dumps, loads
from uniapi.config.masked import MASK, _Mask, digest, masked
from uniapi.config.read import read, render
from uniapi.config.types import Config, Provider, Secret

FILE = """
providers:
  - provider: one
    base_url: https://{user}:{password}@one.example/v1/chat/completions?key={query}&api-version=2024-06-01#{fragment}
    api: [{key}, '${{VARIABLE}}']
    model: [gpt-4o, upstream-name: exposed-name]
    notes: "the key is {key}, the same as ever"
    preferences:
      headers: {{Authorization: Bearer {header}, X-Title: {plain}, Cookie: 'a={cookie}'}}
      proxy: socks5://{user}:{proxy}@proxy.example:1080
      api_key_rate_limit: {{monkey: 15/min, default: 4/min}}
      model_timeout: {{monkey: 10, default: {{first: 5, idle: 3}}}}
      post_body_parameter_overrides:
        api_key: {override}
        max_tokens: 4096
        nested: {{deep: [{{access_token: {nested}}}]}}
  - provider: google
    project_id: project
    client_email: me@project.example
    private_key: "-----BEGIN PRIVATE KEY-----\\n{pem}\\n-----END PRIVATE KEY-----\\n"
    model: [gemini]
  - provider: amazon
    aws_access_key: {access}
    aws_secret_key: {secret}
    aws_session_token: {session}
    model: [claude]
api_keys:
  - api: {client}
    role: admin of {client}
    model: [one/*: 5, '{other}/*']
    preferences: {{SCHEDULING_ALGORITHM: weighted_round_robin, rate_limit: '15/min,100/day'}}
  - api: {other}
    model: [all]
preferences:
  proxy: http://{user}:{proxy2}@proxy.example
  model_price: {{keyed: '1,2'}}
"""
WORDS = (
    "user", "password", "query", "fragment", "key", "variable", "header", "plain", "cookie",
    "proxy", "override", "nested", "pem", "access", "secret", "session", "client", "other",
    "proxy2",
)  # fmt: skip
LETTERS = string.ascii_letters + string.digits
TAILS = st.text(LETTERS, min_size=8, max_size=40)


@st.composite
def words(draw: st.DrawFn) -> dict[str, str]:
    """A secret for every place, none of them part of another."""
    return {
        name: f"Zq{number:02}{draw(st.sampled_from(['', '-', '_']))}{draw(TAILS)}"
        for number, name in enumerate(WORDS)
    }


def config_of(secrets: Mapping[str, str]) -> Config:
    env = {"VARIABLE": secrets["variable"]}
    report = read(FILE.format(**secrets), name="api.yaml", env=env)
    assert report.config is not None, render(report.problems)
    return report.config


FIXED = {name: f"Zq{number:02}-{name}-Secret" for number, name in enumerate(WORDS)}


@given(words())
@settings(max_examples=60)
def test_no_secret_of_a_file_is_shown(secrets: dict[str, str]) -> None:
    shown = dumps(masked(config_of(secrets))).decode()
    assert [name for name, secret in secrets.items() if secret in shown] == []
    assert [name for name, secret in secrets.items() if quote(secret) in shown] == []


def section(name: str, number: int = 0) -> JsonObject:
    match masked(config_of(FIXED))[name]:
        case list() as entries:
            found = entries[number]
        case found:
            pass
    assert isinstance(found, dict)
    return found


def test_what_is_no_secret_is_shown_as_the_file_has_it() -> None:
    one, own = section("providers"), section("api_keys")
    assert one["provider"] == "one"
    assert one["model"] == ["gpt-4o", {"upstream-name": "exposed-name"}]
    assert one["base_url"] == (
        f"https://{MASK}@one.example/v1/chat/completions?key={MASK}&api-version=2024-06-01#{MASK}"
    )
    assert one["tools"] is True  # a default
    assert "engine" not in one  # not set
    assert own["model"] == [{"one/*": 5}, f"{Secret(FIXED['other']).digest}/*"]
    assert own["preferences"] == {
        "SCHEDULING_ALGORITHM": "weighted_round_robin",
        "AUTO_RETRY": {"enabled": True},
        "ENABLE_MODERATION": False,
        "rate_limit": {
            "per_model": False,
            "rules": {
                "default": {
                    "windows": [
                        {"limit": 15, "seconds": 60.0, "unit": "requests"},
                        {"limit": 100, "seconds": 86400.0, "unit": "requests"},
                    ]
                }
            },
        },
    }
    match one["preferences"]:
        case {"cooldown_period": _}:
            raise AssertionError("it is not set")
        case {
            "headers": {"Authorization": str(), "X-Title": str(), "Cookie": str()},
            "api_key_rate_limit": {"rules": {"monkey": {"windows": [{"limit": 15}]}, "default": _}},
            "model_timeout": {"monkey": {"first": 10.0}, "default": {"idle": 3.0}},
            "post_body_parameter_overrides": {"max_tokens": 4096, "api_key": str(hidden)},
        }:
            assert hidden.startswith("sha256:")
        case refused:
            raise AssertionError(refused)
    match section("preferences"):
        case {"cooldown_period": 300.0, "model_price": {"keyed": [1.0, 2.0]}}:
            pass
        case other:
            raise AssertionError(other)


def test_a_key_is_known_by_the_digest_the_log_has() -> None:
    config = config_of(FIXED)
    assert section("api_keys")["api"] == f"sha256:{config.keys[0].id}"
    keys: list[Json] = [f"sha256:{key.digest}" for key in config.providers[0].keys]
    assert section("providers")["api"] == keys
    assert section("providers")["notes"] == f"the key is {keys[0]}, the same as ever"


def test_the_files_of_the_repository_are_shown_whole() -> None:
    for path in sorted(Path("conf").glob("*.yaml")):
        report = read(path.read_text(), name=path.name, env={})
        if report.config is not None:
            assert loads(dumps(masked(report.config))) == masked(report.config)


class Colour(Enum):
    RED = 1


@dataclass(frozen=True)
class Tomorrow(Provider):
    """A provider with fields that nobody has thought of yet."""

    password: Secret = Secret("Zq-tomorrow-password")  # noqa: RUF009 - immutable
    ring: Mapping[str, tuple[Secret, ...]] = field(default_factory=dict)
    shy: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    many: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    raw: bytes = b"Zq-tomorrow-bytes"
    colour: Colour = Colour.RED
    mirror: str = ""
    patience: float = float("inf")


def test_a_field_of_tomorrow_is_masked_or_shown_by_what_it_is() -> None:
    tomorrow = Tomorrow(
        "p",
        ring={"Zq-tomorrow-password!": (Secret("Zq-tomorrow-ring"),)},
        shy={"name": ("Zq-tomorrow-shy",)},
        many=(("X-Name", "Zq-tomorrow-many"),),
        mirror="http://u:Zq-tomorrow-mirror@h/Zq-tomorrow-ring?Zq-tomorrow-query",
    )
    shown = masked(Config(providers=(tomorrow,)))
    assert b"Zq-tomorrow" not in dumps(shown)
    match shown["providers"]:
        case [{"shy": {"name": [str()]}, "many": {"X-Name": str()}, "mirror": str(mirror), **rest}]:
            assert mirror.startswith(f"http://{MASK}@h/sha256:")
            assert mirror.endswith(f"?{MASK}")
            assert (rest["raw"], rest["colour"], rest["patience"]) == (MASK, MASK, "inf")
        case other:
            raise AssertionError(other)


@pytest.mark.parametrize(
    "word",
    [
        "sk-proj-abcdefghijkl",
        "AIzaSyA1234567890abcdefgh",
        "eyJhbGciOiJIUzI1NiJ9.e30.abc",
        "0123456789abcdef0123456789abcdef",
    ],
)
def test_what_looks_like_a_key_is_one(word: str) -> None:
    shown = masked(Config(providers=(Provider("p", notes=f"not {word}, is it"),)))
    assert word.encode() not in dumps(shown)
    assert b"is it" in dumps(shown)


@pytest.mark.parametrize(
    "text",
    [
        "ft:gpt-4o-mini-2024-07-18:my-org:custom-suffix",
        "us.anthropic.claude-3-7-sonnet-20250219-v1:0",
        "https://api.cloudflare.com/client/v4/accounts/@cf/meta/llama-3.1-8b-instruct",
        "a task for the desk: risk-free",
    ],
)
def test_ordinary_texts_stay(text: str) -> None:
    assert _Mask(()).text(text) == text


def test_a_short_key_is_masked_but_does_not_maim_other_words() -> None:
    shown = masked(Config(providers=(Provider("ollama", keys=(Secret("ollama"),)),)))
    match shown["providers"]:
        case [{"provider": "ollama", "api": [str(key)]}]:
            assert key == f"sha256:{Secret('ollama').digest}"
        case other:
            raise AssertionError(other)


def test_the_digest_changes_with_the_configuration_and_with_a_key_alone() -> None:
    config = config_of(FIXED)
    changed = config_of({**FIXED, "key": "another-key"})
    slower = replace(config, default_timeout=7)
    told = [digest(masked(one)) for one in (config, config_of(FIXED), changed, slower)]
    assert told[0] == told[1]
    assert len(set(told)) == 3


def test_a_text_that_is_no_unicode_is_shown_all_the_same() -> None:
    shown = masked(Config(providers=(Provider("p\ud800", notes="\udfff"),)))
    assert b'"provider":"p?"' in dumps(shown)
