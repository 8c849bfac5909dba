"""`uniapi explain`: the planner's own words, without asking anybody, without a key."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.kit.world import config_of
from uniapi import cli
from uniapi.buckets import Bucket, Scope
from uniapi.config.types import ModelName, Secret
from uniapi.explain import Explanation, explain
from uniapi.routing.ask import Ask
from uniapi.routing.plan import make_plan
from uniapi.state import State

API = """
providers:
  - provider: a
    base_url: http://a/v1/chat/completions
    api: [sk-up-a1, sk-up-a2]
    model: [big: m]
    preferences:
      api_key_rate_limit: 3/min,1000/tpr
      model_timeout: {m: {first: 7, idle: 8, total: 90}}
  - provider: b
    base_url: http://b/v1/chat/completions
    api: sk-up-b
    model: [m]
    max_request_body_bytes: 10
  - {provider: c, base_url: 'http://c/v1/chat/completions', model: [m]}
  - {provider: d, base_url: 'http://d/v1/chat/completions'}
api_keys:
  - api: sk-outer-0000
    role: family
    model: [a/m: 5, sk-inner-0000/*: 2, b/m, d/*]
    preferences:
      SCHEDULING_ALGORITHM: weighted_round_robin
      AUTO_RETRY: 3
      rate_limit: {m: 15/min}
      deadline: 2m
  - api: sk-inner-0000
    model: [c/m]
    preferences: {rate_limit: 1/h}
preferences: {rate_limit: 100/min, keepalive_interval: 15}
"""
SECRETS = ("sk-up-a1", "sk-up-a2", "sk-up-b", "sk-outer-0000", "sk-inner-0000")
CONFIG = config_of(API)
OUTER, INNER = CONFIG.keys
A1, A2 = (Secret(key).digest for key in SECRETS[:2])


def told(ask: Ask | None = None, state: State | None = None, now: float = 0.0) -> Explanation:
    rng = Random(1)  # noqa: S311 - a test's dice
    return explain(CONFIG, OUTER, ask or Ask("m"), rng, state, now)


def test_everything_a_person_asks_is_there() -> None:
    found = told(Ask("m", size=20, stream=True))
    assert found.served
    assert (
        found.text
        == f"""\
m as a stream, asked by key {OUTER.id} (family)
  order: weighted_round_robin, in turn, by weight
  AUTO_RETRY: 3, 4 attempts at most
  deadline: 120 s for all attempts together
  limit: 15 left of 15/min of this key for m
  limit: 100 left of 100/min of this server

1. a/big, weight 5
   timeouts: connect 15 s, first token 7 s, between tokens 8 s, in all 90 s
   keepalive: a waiting stream gets a comment every 15 s
   keys: round_robin
     {A1}: 3 left of 3/min, 1000/tpr
     {A2}: 3 left of 3/min, 1000/tpr

2. c/m
   through the key {INNER.id}, fixed_priority, weight 2
     limit: 1 left of 1/h of the nested key {INNER.id}
   timeouts: connect 15 s, first token 100 s, between tokens 100 s, in all no limit

left out
  b/m: the body has 20 bytes, max_request_body_bytes is 10

not known before they are asked: the models of d
"""
    )


def test_the_state_of_a_running_gateway_shows_and_does_not_move() -> None:
    state = State()
    state.cool_key("a", A1, 0.0, 30)
    state.cool_channel("b", "m", 0.0, 12.5)
    rule = INNER.preferences.rate_limit
    assert rule is not None
    assert rule.rules.default is not None
    windows = rule.rules.default.windows
    inner = state.buckets.metered(Bucket(Scope.CLIENT, INNER.id))
    inner.add(windows, windows[0].unit, 1, 0.0, 0.0)
    before = told(state=state, now=10.0)
    assert f"  {A2}: 3 left of 3/min, 1000/tpr\n     {A1}: 3 left of 3/min, 1000/tpr, rests" in (
        before.text
    )
    assert "rests for another 20.0 s" in before.text
    assert "b/m: cools for another 2.5 s" in before.text
    assert f"c/m: 1/h of the nested key {INNER.id} is used up for another 3590.0 s" in before.text
    assert "1. a/big, weight 5\n" in before.text
    assert [told(state=state, now=10.0) for _ in range(3)] == [before] * 3
    rng = Random(1)  # noqa: S311 - a test's dice
    plan = make_plan(CONFIG, state, OUTER, Ask("m"), 10.0, rng)
    assert plan.slots[0].channel.label == "a/big"


def test_the_order_is_the_planners() -> None:
    state, rng = State(), Random(1)  # noqa: S311 - a test's dice
    for _ in range(14):
        text = told(Ask("m"), state).text
        plan = make_plan(CONFIG, state, OUTER, Ask("m"), 0.0, rng)
        numbered = [line for line in text.splitlines() if line[:1].isdecimal()]
        assert [line.split()[1].rstrip(",") for line in numbered] == [
            slot.channel.label for slot in plan.slots
        ]


def test_when_all_rest_the_one_to_be_tried_says_so() -> None:
    state = State()
    for provider, upstream, seconds in (("a", "big", 30.0), ("b", "m", 20.0), ("c", "m", 40.0)):
        state.cool_channel(provider, upstream, 0.0, seconds)
    text = told(state=state).text
    assert "1. b/m\n   should rest another 20.0 s, and so should all others\n" in text
    assert "2." not in text


@pytest.mark.parametrize("ask", [Ask("nope"), Ask("m", tokens=2000)])
def test_what_would_be_refused_says_with_what(ask: Ask) -> None:
    config = config_of(API.replace("15/min", "'15/min,1500/tpr'"))
    rng = Random(1)  # noqa: S311 - a test's dice
    found = explain(config, config.keys[0], ask, rng)
    assert not found.served
    said = "404 The model 'nope'" if ask.model == "nope" else "413 the request is larger than 1500"
    assert found.text.splitlines()[-1].startswith(f"answer: {said}")


def test_nobody_is_said_to_lack_a_model_before_all_were_heard() -> None:
    unless = "unless d has it: a running gateway knows (--server http://127.0.0.1:8000)"
    assert told(Ask("nope")).text.splitlines()[-1].endswith(f"may not use it; {unless}")
    heard = State()
    heard.discovered("d", (ModelName("other", "other"),))
    known = told(Ask("nope"), heard).text.splitlines()[-1]
    assert known == "answer: 404 The model 'nope' does not exist or this key may not use it."


def test_no_key_is_ever_shown() -> None:
    assert not [secret for secret in SECRETS if secret in told().text]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("AUTO_RETRY: false", "false, one attempt"),
        ("AUTO_RETRY: true", "true, through the list, 10 attempts at most"),
        ("AUTO_RETRY: 50", "50, 10 attempts at most"),
    ],
)
def test_retries_are_told_as_they_are_counted(setting: str, said: str) -> None:
    config = config_of(API.replace("AUTO_RETRY: 3", setting))
    rng = Random(1)  # noqa: S311 - a test's dice
    assert f"AUTO_RETRY: {said}\n" in explain(config, config.keys[0], Ask("m"), rng).text


# The command


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "api.yaml").write_text(API)
    return str(tmp_path / "api.yaml")


@pytest.mark.parametrize("key", ["sk-outer-0000", OUTER.id])
def test_the_command_takes_a_key_or_its_digest(
    key: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", "m", path, "--key", key, "--stream"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"m as a stream, asked by key {OUTER.id} (family)\n")
    assert "1. a/big" in out
    assert not [secret for secret in SECRETS if secret in out + err]


@pytest.mark.parametrize("arguments", [[], ["--key", "sk-wrong"]])
def test_the_command_lists_the_keys_when_it_does_not_know_which(
    arguments: list[str], path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", "m", path, *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"    {OUTER.id} (family)\n    {INNER.id}\n" in err
    assert not [secret for secret in SECRETS if secret in err]


def test_the_only_key_need_not_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        "providers: [{provider: a, base_url: 'http://a', model: [m]}]\napi_keys: [{api: sk-one}]\n"
    )
    (tmp_path / "api.yaml").write_text(text)
    assert cli.main(["explain", "m", str(tmp_path / "api.yaml")]) == 0
    assert cli.main(["explain", "nope", str(tmp_path / "api.yaml")]) == 1
    assert "answer: 404" in capsys.readouterr().out


def test_without_a_usable_configuration_there_is_nothing_to_explain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONFIG_URL", raising=False)
    assert cli.main(["explain", "m"]) == 1
    assert "there is no configuration" in capsys.readouterr().err
    (tmp_path / "api.yaml").write_text("providers: 7\n")
    assert cli.main(["explain", "m"]) == 1
    assert "the configuration has errors" in capsys.readouterr().err
