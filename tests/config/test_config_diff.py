"""What changed is told in the file's words, whole, and without a secret."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kit.world import config_of
from uniapi.config.bounds import ByModel, Silence
from uniapi.config.diff import Difference, diff, moved
from uniapi.config.types import (
    Algorithm,
    AutoRetry,
    ClientKey,
    Config,
    KeyPreferences,
    ModelName,
    Preferences,
    Provider,
    ProviderPreferences,
    Refusals,
    Secret,
)

HEAD = """
providers:
  - provider: a
    base_url: https://a.example/v1/chat/completions
    api: sk-provider-a
    model: [gpt, o3]
  - provider: b
    base_url: https://b.example/v1/chat/completions
    api: [sk-provider-b, sk-provider-c]
api_keys:
  - api: sk-client-one
    role: phone
    model: [all]
  - api: sk-client-two
"""
ONE, TWO = Secret("sk-client-one").digest, Secret("sk-client-two").digest


def changes(*edits: tuple[str, str]) -> dict[str, object]:
    """What is told of these replacements, of which each must be one."""
    text = HEAD
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    return dict(diff(config_of(HEAD), config_of(text)).told())


def test_comments_and_layout_are_no_difference() -> None:
    assert changes(("api_keys:", "# a remark\n\napi_keys:"), ("[gpt, o3]", "['gpt',  o3 ]")) == {}


@pytest.mark.parametrize(
    ("edits", "told"),
    [
        (
            [("provider: b", "provider: c")],
            {"providers_added": ["c"], "providers_removed": ["b"]},
        ),
        ([("sk-provider-a", "sk-other")], {"providers_changed": {"a": ["api"]}}),
        ([("https://b.example", "https://c")], {"providers_changed": {"b": ["base_url"]}}),
        (
            [("[gpt, o3]", "[gpt, o4, o5]")],
            {
                "providers_changed": {"a": ["model"]},
                "models_added": {"a": ["o4", "o5"]},
                "models_removed": {"a": ["o3"]},
            },
        ),
        ([("[gpt, o3]", "[o3, gpt]")], {"providers_changed": {"a": ["model"]}}),
        ([("    model: [gpt, o3]\n", "")], {"providers_changed": {"a": ["model"]}}),
        (
            [("    model: [gpt", "    preferences: {proxy: 'http://p:1'}\n    model: [gpt")],
            {"providers_changed": {"a": ["preferences.proxy"]}},
        ),
        (
            [("    model: [gpt", "    exclude_endpoints: [/v1/embeddings]\n    model: [gpt")],
            {"providers_changed": {"a": ["exclude_endpoints"]}},
        ),
        (
            [("sk-client-two", "sk-client-new")],
            {"keys_added": [Secret("sk-client-new").digest], "keys_removed": [TWO]},
        ),
        (
            [("phone", "laptop"), ("[all]", "[a/*]")],
            {"keys_changed": {f"{ONE} (laptop)": ["model", "role"]}},
        ),
        ([("phone", "phone admin")], {"keys_changed": {f"{ONE} (phone admin)": ["role"]}}),
        (
            [("[all]", "[all]\n    preferences: {SCHEDULING_ALGORITHM: lottery, AUTO_RETRY: 2}")],
            {
                "keys_changed": {
                    f"{ONE} (phone)": [
                        "preferences.SCHEDULING_ALGORITHM",
                        "preferences.AUTO_RETRY",
                    ]
                }
            },
        ),
        (
            [("api_keys:", "preferences: {rate_limit: 5/min, cooldown_period: 9}\napi_keys:")],
            {"preferences_changed": ["cooldown_period", "rate_limit"]},
        ),
    ],
)
def test_a_change_is_told_by_name(edits: list[tuple[str, str]], told: dict[str, object]) -> None:
    assert changes(*edits) == told


def test_the_order_is_a_change() -> None:
    config = config_of(HEAD)
    turned = replace(config, providers=config.providers[::-1], keys=config.keys[::-1])
    assert diff(config, turned) == Difference(providers_reordered=True, keys_reordered=True)


def test_the_variable_timeout_is_told() -> None:
    config = config_of(HEAD)
    assert diff(config, config_of(HEAD, {"TIMEOUT": "7"})).told() == {
        "preferences_changed": ["TIMEOUT"]
    }


@pytest.mark.parametrize(("old", "new"), [("1", "true"), ("0", "0.0"), ("[1]", "[true]")])
def test_what_is_another_json_to_a_provider_is_a_change(old: str, new: str) -> None:
    text = HEAD.replace(
        "    model:",
        "    preferences: {post_body_parameter_overrides: {x: VALUE}}\n    model:",
        1,
    )
    before, after = (config_of(text.replace("VALUE", value)) for value in (old, new))
    assert before == after, "Python calls them equal"
    told = diff(before, after).told()
    assert told == {"providers_changed": {"a": ["preferences.post_body_parameter_overrides"]}}


def test_a_long_list_is_cut() -> None:
    models = ", ".join(f"m{n}" for n in range(100))
    told = changes(("[gpt, o3]", f"[gpt, o3, {models}]"))["models_added"]
    assert isinstance(told, dict)
    assert len(told["a"]) == 21
    assert told["a"][-1] == "and 80 more"


@pytest.mark.parametrize(
    ("edit", "names"),
    [
        (("sk-provider-a", "sk-other"), {"a"}),
        (("https://b.example", "https://c.example"), {"b"}),
        (("sk-provider-c]", "sk-provider-c]\n    engine: claude"), {"b"}),
        (("sk-provider-c]", "sk-provider-c]\n    preferences: {proxy: 'http://p:1'}"), {"b"}),
        (("sk-provider-c]", "sk-provider-c]\n    preferences: {headers: {x: y}}"), {"b"}),
        (("api_keys:", "preferences: {proxy: 'http://p:1'}\napi_keys:"), {"a", "b"}),
        (("sk-provider-c]", "sk-provider-c]\n    preferences: {cooldown_period: 1}"), set()),
        (("sk-provider-c]", "sk-provider-c]\n    tools: false"), set()),
        (("[gpt, o3]", "[gpt]"), set()),
        (("provider: b", "provider: c"), set()),
    ],
)
def test_who_is_reached_in_another_way_is_known(edit: tuple[str, str], names: set[str]) -> None:
    old, new = config_of(HEAD), config_of(HEAD.replace(*edit))
    assert moved(old, new) == names
    assert moved(new, old) == names
    assert moved(new, new) == set()


# ---- laws ------------------------------------------------------------------------------------

SECRETS = tuple(f"Zq8vT3nLw0pXr5b{n}" for n in range(4))
SECRET = st.sampled_from(SECRETS).map(Secret)
MAYBE = st.none() | SECRET
NAMES = st.sampled_from(["a", "b", "c"])
MODEL = st.builds(ModelName, NAMES, NAMES)
JSON = st.dictionaries(NAMES, st.sampled_from([1, 1.0, True, 0, False, None, "x", *SECRETS]))
LIMIT = st.builds(ByModel, st.just(()), st.sampled_from([None, Silence(), Silence(first=1.0)]))

PROVIDER = st.builds(
    Provider,
    name=NAMES,
    base_url=st.sampled_from([None, "https://h", f"https://me:{SECRETS[0]}@h/?key={SECRETS[1]}"]),
    keys=st.lists(SECRET, max_size=2).map(tuple),
    models=st.none() | st.lists(MODEL, max_size=2, unique_by=lambda m: m.name).map(tuple),
    tools=st.booleans(),
    private_key=MAYBE,
    aws_secret_key=MAYBE,
    notes=st.none() | st.sampled_from(SECRETS),
    refusals=st.builds(Refusals, max_request_body_bytes=st.none() | st.just(1)),
    preferences=st.builds(
        ProviderPreferences,
        proxy=MAYBE,
        headers=st.lists(st.tuples(NAMES, st.sampled_from(SECRETS)), max_size=1).map(tuple),
        post_body_parameter_overrides=JSON,
        model_timeout=LIMIT,
    ),
)
KEY = st.builds(
    ClientKey,
    secret=SECRET,
    role=st.none() | NAMES,
    admin=st.booleans(),
    preferences=st.builds(
        KeyPreferences,
        algorithm=st.sampled_from(Algorithm),
        auto_retry=st.builds(AutoRetry, count=st.none() | st.just(1)),
        rescue=st.none() | st.booleans(),
    ),
)
CONFIG = st.builds(
    Config,
    providers=st.lists(PROVIDER, max_size=3, unique_by=lambda p: p.name).map(tuple),
    keys=st.lists(KEY, max_size=3, unique_by=lambda k: k.id).map(tuple),
    preferences=st.builds(Preferences, proxy=MAYBE, model_price=JSON.map(dict)),
    default_timeout=st.sampled_from([1.0, 2.0]),
)


def told_whole(config: Config) -> str:
    """Everything that makes a configuration, secrets by their digests, types included."""
    headers = [p.preferences.headers for p in config.providers]
    overrides = [
        sorted(p.preferences.post_body_parameter_overrides.items()) for p in config.providers
    ]
    prices = sorted(config.preferences.model_price.items())
    bare = replace(
        config,
        providers=tuple(
            replace(p, preferences=replace(p.preferences, post_body_parameter_overrides={}))
            for p in config.providers
        ),
        preferences=replace(config.preferences, model_price={}),
    )
    return repr((bare, headers, overrides, prices))


@given(CONFIG)
def test_nothing_differs_from_itself(config: Config) -> None:
    assert not diff(config, config)
    assert diff(config, config) == Difference()
    assert moved(config, config) == set()


@given(CONFIG, CONFIG)
@settings(max_examples=300)
def test_there_is_a_difference_exactly_when_something_is_different_and_none_holds_a_secret(
    old: Config, new: Config
) -> None:
    found = diff(old, new)
    assert bool(found) == (told_whole(old) != told_whole(new))
    for secret in SECRETS:
        assert secret not in repr(found)
        assert secret not in repr(found.told())


@given(CONFIG, CONFIG)
def test_there_and_back_are_each_others_opposite(old: Config, new: Config) -> None:
    there, back = diff(old, new), diff(new, old)
    assert set(there.providers_added) == set(back.providers_removed)
    assert set(there.keys_added) == set(back.keys_removed)
    assert there.models_added.keys() == back.models_removed.keys()
    assert there.providers_changed.keys() == back.providers_changed.keys()
    assert there.providers_reordered == back.providers_reordered
