"""Any text is a config or a list of problems with lines: never an exception, never a secret."""

from __future__ import annotations

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from uniapi.config import yaml
from uniapi.config.problems import Sink, render
from uniapi.config.read import known_keys, read

SECRET = "sk-Zq8vT3nLw0pXr5bKd7mH9sF2"
WORDS = sorted({key for keys in known_keys().values() for key in keys})
PIECES = st.sampled_from(
    [
        *WORDS,
        *(": ", ":", "\n", "\n  ", "\n    ", "\n      ", "\n  - ", "\n      - ", "- ", " ", ", "),
        *(
            "'",
            '"',
            "[",
            "]",
            "{",
            "}",
            "#",
            "&x ",
            "*",
            "*x",
            "<<: *x",
            "!!str ",
            "@cf/x",
            "|",
            ">",
            "? ",
        ),
        *("\t", "\r\n", "\x00", "\ufeff", "\ud800", "\u2028", "\x85", "%YAML 1.1", "---", "..."),
        *("true", "null", "5", "-1", "1.5", "15/min", "5s", "p90", "20MB", "9" * 400, "٣", "1e999"),
        *("https://p.example/v1", "socks5://[", "all", "p/*", "<a/b>", "sk-own/*", "${", "${A}"),
        *("${B:-x}", "$${", "default", "first", "match", "timeout", "2024-13-01", SECRET, "gpt"),
    ]
)
SOUP = st.lists(PIECES, max_size=60).map("".join)


def value(depth: int = 2) -> st.SearchStrategy[str]:
    """A flow value: a scalar, a list or a map, of words that mean something somewhere."""
    scalar = st.sampled_from(
        [
            *("x", "''", "5", "true", "null", "15/min", "5s", "'p/*'", "all", '"a\\nb"', SECRET),
            *("https://h", "{}", "[]", "gpt", "'${A}'", "'${NO}'", "-1", "1.5", "2024-01-01", "p9"),
        ]
    )
    if depth == 0:
        return scalar
    inner = value(depth - 1)
    names = st.sampled_from([*WORDS, SECRET, "default", "rules", "match", "timeout", "first", "x"])
    maps = st.dictionaries(names, inner, max_size=4).map(
        lambda d: "{" + ", ".join(f"{k}: {v}" for k, v in d.items()) + "}"
    )
    return st.one_of(scalar, st.lists(inner, max_size=3).map(lambda v: f"[{', '.join(v)}]"), maps)


def section(*scopes: str) -> st.SearchStrategy[str]:
    """A flow map of the keys known in these scopes, with values that mostly do not belong."""
    names = st.sampled_from(sorted({key for scope in scopes for key in known_keys()[scope]}))
    return st.dictionaries(names, value(), max_size=6).map(
        lambda d: "{" + ", ".join(f"{k}: {v}" for k, v in d.items()) + "}"
    )


@st.composite
def files(draw: st.DrawFn) -> str:
    """A file that is valid YAML of about the right shape."""
    provider = draw(st.lists(section("providers[]", "providers[].preferences"), max_size=3))
    preferences = draw(section("providers[].preferences"))
    keys = draw(st.lists(section("api_keys[]", "api_keys[].preferences"), max_size=3))
    key_preferences = draw(section("api_keys[].preferences"))
    glob = draw(section("preferences"))
    return (
        f"providers: [{{provider: p, base_url: 'https://p', preferences: {preferences}}}"
        f"{''.join(', ' + p for p in provider)}]\n"
        f"api_keys: [{{api: {SECRET}, preferences: {key_preferences}}}"
        f"{''.join(', ' + k for k in keys)}]\n"
        f"preferences: {glob}\n"
    )


def check(text: str) -> None:
    report = read(text, name="api.yaml", env={"A": "a", "TIMEOUT": "9"}, mode=0o600)
    lines = text.count("\n") + text.count("\r") + text.count("\u2028") + text.count("\x85") + 1
    assert all(1 <= problem.line <= lines for problem in report.problems)
    assert (report.config is None) == bool(report.errors)
    assert SECRET not in render(report.problems)


@given(st.text(max_size=200))
@example("\ufeff")
@example("a: !<tag:yaml.org,2002:binary> x")
@example("%TAG ! x\n%TAG ! x\n---\na")
def test_any_text_is_a_report(text: str) -> None:
    check(text)


@given(SOUP)
@settings(max_examples=300)
def test_any_soup_of_what_configs_are_made_of_is_a_report(text: str) -> None:
    check(text)


@given(files())
@settings(max_examples=40, deadline=None)
def test_any_value_in_any_place_is_a_report(text: str) -> None:
    sink = Sink("f")
    assert yaml.parse(text, sink) is not None, sink.problems()
    check(text)


@given(st.randoms(use_true_random=False), st.data())
@settings(max_examples=60, deadline=None)
def test_a_broken_example_is_a_report(rng: random.Random, data: st.DataObject) -> None:
    rows = EXAMPLE.splitlines(keepends=True)
    for _ in range(data.draw(st.integers(1, 4))):
        at = rng.randrange(len(rows))
        row = rows[at]
        cut = rng.randrange(len(row) + 1)
        rows[at] = row[:cut] + data.draw(PIECES) + row[cut:]
    check("".join(rows))


EXAMPLE = f"""\
providers:
  - provider: p
    base_url: https://p.example/v1/chat/completions
    api:
      - {SECRET}
      - other
    model:
      - gpt-4o
      - 'a/b': c
    preferences:
      api_key_rate_limit:
        gpt-4o: 15/min,10/day
        default: 4/min
      model_timeout: {{default: {{first: 5, idle: 3}}}}
      proxy: socks5://me:{SECRET}@h:1
      headers: {{authorization: Bearer {SECRET}}}
      post_body_parameter_overrides: {{x: [1, true, null]}}
api_keys:
  - api: {SECRET}-own
    model:
      - p/*: 5
      - <a/b>: 3
    preferences:
      SCHEDULING_ALGORITHM: lottery
      AUTO_RETRY: 2
preferences:
  hedge: {{after: p90, budget: 10%}}
"""
