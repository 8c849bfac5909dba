"""What is wrong in meaning has its line, its name and its cure."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from uniapi.config.problems import Problem, Severity, mask, render, shown
from uniapi.config.read import Report, read

Reads = Callable[..., Report]

GOOD = """\
providers:
  - provider: p
    base_url: https://p.example/v1
    api: sk-provider
    model: [gpt-4o, {long-name: short}, a/b]
api_keys:
  - api: sk-own-key
"""
KEY = "sk-Zq8vT3nLw0pXr5bKd7mH9sF2"
PEM = r'"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----"'


def keyless(provider: str) -> str:
    """The good file with something else in place of its provider's address and key."""
    return GOOD.replace("base_url: https://p.example/v1\n    api: sk-provider", provider)


def file(provider: str = "", key: str = "", rest: str = "") -> str:
    """The good file with lines added: to the provider (from line 6), the key, or the end."""
    head, tail = GOOD.split("api_keys:")

    def indent(text: str) -> str:
        return "".join(f"    {line}\n" for line in text.splitlines())

    return f"{head}{indent(provider)}api_keys:{tail}{indent(key)}{rest}"


ERRORS = [
    pytest.param("", 1, "the file is empty", "write providers:", id="empty"),
    pytest.param("hello", 1, "the file is a single value", "write providers:", id="scalar"),
    pytest.param("\n- a", 2, "the file is a list", "write providers:", id="list"),
    pytest.param("api_keys: [{api: x}]", 1, "no providers", "write providers:", id="no-providers"),
    pytest.param("providers: []\napi_keys: [{api: x}]", 1, "no providers", "write", id="none"),
    pytest.param("providers: [{provider: p, base_url: 'https://x'}]", 1, "no api_keys", "sk-…"),
    pytest.param("providers: x\napi_keys: [{api: x}]", 1, "a list is expected", "`- `"),
    pytest.param("providers: {provider: p}\napi_keys: [{api: x}]", 1, "this is a map", "`- `"),
    pytest.param("providers: [p]\napi_keys: [{api: x}]", 1, "a map is expected", "key: value"),
    pytest.param(GOOD.replace("provider: p\n    ", ""), 2, "`provider` is missing", "openai"),
    pytest.param(
        GOOD.replace("base_url: https://p.example/v1\n    ", ""),
        2,
        "providers[p]: `base_url` is missing",
        "write base_url:",
    ),
    pytest.param(GOOD.replace("https://", "ftp://"), 3, "not an http(s) URL", "https://api"),
    pytest.param(GOOD.replace("https://p.example/v1", "p"), 3, "not an http(s) URL", "https://"),
    pytest.param(GOOD.replace("//p.example", "//[x"), 3, "not an http(s) URL", "https://"),
    pytest.param(GOOD.replace("- api: sk-own-key", "- role: x"), 7, "`api` is missing", "sk-…"),
    pytest.param(GOOD.replace("sk-own-key", "|\n      a\n      b"), 7, "one line", "as a list"),
    pytest.param(GOOD.replace("sk-provider", '"a\\x00b"'), 4, "one line", "as a list", id="nul"),
    pytest.param(GOOD.replace("[gpt-4o", '["\\ud83d"'), 5, "half of a character", "both halves"),
    pytest.param(GOOD.replace("api: sk-own-key", "api: ' '"), 7, "`api` is missing", "sk-…"),
    pytest.param(GOOD.replace("provider: p", "provider: ''"), 2, "`provider` is missing", "openai"),
    pytest.param(GOOD + "  - api: sk-own-key\n", 8, "already on line 7", "own key", id="twice"),
    pytest.param(file("tools: maybe"), 6, "neither true nor false", "write true or false"),
    pytest.param(file("tools: [true]"), 6, "this is a list", "one value"),
    pytest.param(file("engine: gpd"), 6, 'unknown engine "gpd"', "did you mean gpt?"),
    pytest.param(file("engine: telepathy"), 6, "unknown engine", "write one of gpt, claude"),
    pytest.param(file("max_request_body_bytes: 20X"), 6, "not a size", "20MB"),
    pytest.param(file("exclude_request_rules: [{reason: x}]"), 6, "without `match`", "match:"),
    pytest.param(file("preferences: {cooldown_period: soon}"), 6, "not a time", "5s"),
    pytest.param(file("preferences: {model_timeout: 0}"), 6, "more than 0", "leave the key out"),
    pytest.param(
        file("preferences:\n  model_timeout:\n    gpt-4o: ten"), 8, "gpt-4o:", "300ms", id="map"
    ),
    pytest.param(
        file("preferences: {api_key_rate_limit: 15/fortnight}"), 6, "not a rate limit", "15/min"
    ),
    pytest.param(
        file("preferences:\n  api_key_rate_limit:\n    default: 15 per min"),
        8,
        "api_key_rate_limit.default",
        "15/min",
    ),
    pytest.param(
        file("preferences: {api_key_schedule_algorithm: randon}"), 6, '"randon"', "write random"
    ),
    pytest.param(file("preferences: {proxy: 'socks4://h:1'}"), 6, "socks4", "socks5://"),
    pytest.param(file("preferences: {proxy: '127.0.0.1:1080'}"), 6, "not a proxy", "socks5://"),
    pytest.param(file("preferences: {proxy: 'ftp://h'}"), 6, "not a proxy", "socks5://"),
    pytest.param(file('preferences: {headers: {x: "a\\nb"}}'), 6, "header value", "one line"),
    pytest.param(file("preferences: {headers: {x y: a}}"), 6, "header name", "letters"),
    pytest.param(file("preferences: {headers: [x]}"), 6, "a map is expected", "key: value"),
    pytest.param(file("preferences: {passthrough_request_headers: x y}"), 6, "header", "letters"),
    pytest.param(file("preferences: {post_body_parameter_overrides: 3}"), 6, "a map is", "key:"),
    pytest.param(file(key="model: {gpt-4o: 1}"), 8, "this is a map", "`- `"),
    pytest.param(file(key="model:\n  - p/*: five"), 9, 'weight of "p/*"', "`gcp1/*: 5`"),
    pytest.param(file(key="model:\n  - p/*: 0"), 9, "positive whole number", "`gcp1/*: 5`"),
    pytest.param(file(key="model:\n  - p/*: -1"), 9, "positive whole number", "`gcp1/*: 5`"),
    pytest.param(file(key="model:\n  - p/*: 1.5"), 9, "positive whole number", "`gcp1/*: 5`"),
    pytest.param(file(key="model:\n  - gpt-4o\n  - p/"), 10, '"p/" is not a rule', "provider/*"),
    pytest.param(file(key="model:\n  - /x"), 9, "is not a rule", "provider/*"),
    pytest.param(file(key="model:\n  - <>"), 9, "is not a rule", "<a/b>"),
    pytest.param(file(key="weights: {all: x}"), 8, "positive whole number", "rule: 5"),
    pytest.param(
        file(key="preferences: {SCHEDULING_ALGORITHM: round-robin}"),
        8,
        '"round-robin" is not known',
        "write round_robin",
    ),
    pytest.param(file(key="preferences: {AUTO_RETRY: often}"), 8, "AUTO_RETRY", "true, false or 2"),
    pytest.param(file(key="preferences: {AUTO_RETRY: -1}"), 8, "AUTO_RETRY", "true, false or 2"),
    pytest.param(file(key="preferences: {credits: much}"), 8, "not a number", "2.5"),
    pytest.param(file(key="preferences: {created_at: monday}"), 8, "not a date", "2025-01-31T"),
    pytest.param(file(key="preferences: {deadline: 0}"), 8, "more than 0", "write a time"),
    pytest.param(file(rest="preferences: {hedge: p100}"), 8, "not a delay", "p90"),
    pytest.param(file(rest="preferences: {hedge: {budget: 5%}}"), 8, "`after` is missing", "5s"),
    pytest.param(file(rest="preferences: {hedge: {after: 5s, budget: 200%}}"), 8, "share", "10%"),
    pytest.param(file(rest="preferences: {model_price: {x: cheap}}"), 8, "not a price", "0.3,1.2"),
    pytest.param(file(rest="preferences: {model_price: {x: 1}}"), 8, "not a price", "0.3,1.2"),
    pytest.param(file(rest="preferences: {keepalive_interval: 0}"), 8, "more than 0", "leave"),
    pytest.param(file(rest="preferences: {stats_retention: 59m}"), 8, "1h or more", "7d"),
    pytest.param(file(rest="preferences: {stats_retention: ever}"), 8, "not a time", "1h"),
    pytest.param(file(rest="preferences: []"), 8, "a map is expected", "key: value"),
    pytest.param(file("notes: ${NOPE}"), 6, '"NOPE" is not set', "${NOPE:-…}", id="unset"),
    pytest.param(file("notes: a${ b}"), 6, "begins no variable", "$${", id="half-a-variable"),
    pytest.param(file(key="model: [sk-own-key/*]"), 8, "in a circle", "remove one", id="cycle-1"),
    pytest.param(
        file(key="model: [sk-b/*]") + "  - api: sk-b\n    model:\n    - p/*\n    - sk-c/gpt-4o\n"
        "  - api: sk-c\n    model: [sk-own-key/*]\n",
        14,
        "(line 8) -> sk-… (line 12) -> sk-… (line 14) -> sk-…",
        "remove one",
        id="cycle-3",
    ),
]

WARNINGS = [
    pytest.param(keyless("project_id: x"), 2, "`private_key` and `client_email`", "express key"),
    pytest.param(keyless(f"project_id: x\n    private_key: {PEM}"), 2, "`client_email`", "JSON"),
    pytest.param(keyless("cf_account_id: x"), 2, "`api` is missing", "token", id="cloudflare"),
    pytest.param(keyless("aws_access_key: x"), 2, "`aws_secret_key` is missing", "the two"),
    pytest.param(keyless("aws_secret_key: x\n    engine: aws"), 2, "`aws_access_key`", "the two"),
    pytest.param(keyless("engine: bedrock"), 2, "`api` or `aws_access_key`", "Bedrock key"),
    pytest.param(file("key: x"), 6, 'unknown key "key" in providers[]', "did you mean `api`?"),
    pytest.param(file("models: [x]"), 6, 'unknown key "models"', "did you mean `model`?"),
    pytest.param(file("Tools: true"), 6, 'unknown key "Tools"', "did you mean `tools`?"),
    pytest.param(file("baseurl: x"), 6, 'unknown key "baseurl"', "did you mean `base_url`?"),
    pytest.param(file("xyzzy: 1"), 6, 'unknown key "xyzzy"', "remove it"),
    pytest.param(file("proxy: x"), 6, 'unknown key "proxy"', "`proxy` in providers[].preferences?"),
    pytest.param(
        file(key="rate_limit: 1/s"), 8, '"rate_limit" in api_keys[]', "api_keys[].preferences"
    ),
    pytest.param(
        file(rest="ENABLE_MODERATION: true"), 8, "ENABLE_MODERATION", "api_keys[].preferences?"
    ),
    pytest.param(file(rest="video_providers: [x]"), 8, "not supported here", "remove it"),
    pytest.param(file("secret_key: hidden"), 6, "no engine here signs with it", "remove it"),
    pytest.param(
        file("preferences: {access_key: hidden}"), 6, "no engine here signs with it", "remove it"
    ),
    pytest.param(
        file("preferences: {search_defaults: {topic: x}}"), 6, "no search here", "remove it"
    ),
    pytest.param(
        file("preferences: {timeout_policy: {default: {connect: 5, write: 5}}}"),
        6,
        "timeout_policy.default.write: not timed apart here",
        "`first_byte`",
    ),
    pytest.param(
        file("preferences: {timeout_policy: {rules: [{timeout: {idle: 5, pool: 5}}]}}"),
        6,
        "timeout.pool: not timed apart here",
        "`first_byte`",
    ),
    pytest.param(
        file("preferences: {model_timeout: {x: {frist: 1}}}"), 6, '"frist"', "`first`?", id="inner"
    ),
    pytest.param(
        file("preferences: {timeout_policy: {rules: [{match: {modl: x}, timeout: {idle: 1}}]}}"),
        6,
        "never fits",
        "did you mean `model`?",
    ),
    pytest.param(
        file("preferences: {timeout_policy: {rules: [{match: {model: x}}]}}"),
        6,
        "changes nothing",
        "timeout:",
    ),
    pytest.param(file("only_request_types: chat"), 6, 'request type "chat"', "compaction"),
    pytest.param(file("exclude_endpoints: v1/x"), 6, "not a path", "/v1/embeddings"),
    pytest.param(
        file("preferences: {passthrough_request_headers: Authorization}"), 6, "own key", "`api`"
    ),
    pytest.param(file("preferences: {proxy: 'http://xxx:1'}"), 6, "placeholder", "127.0.0.1"),
    pytest.param(file("preferences: {proxy: 'socks5://'}"), 6, "placeholder", "127.0.0.1"),
    pytest.param(file("preferences: {proxy: 'http://<host>'}"), 6, "placeholder", "127.0.0.1"),
    pytest.param(file().replace("sk-provider", "[a-key, a-key]"), 4, "listed twice", "once"),
    pytest.param(file().replace("[gpt-4o,", "[gpt-4o: ,"), 5, "renamed to nothing", "colon"),
    pytest.param(
        file(key="preferences: {rate_limit: {gpt-4o: 15/min,1500/day}}"),
        8,
        '"1500/day" stands where a model is expected',
        'quote it together with what stands before it: "15/min,1500/day"',
    ),
    pytest.param(file(key="model: [all, gpt-4]"), 8, "a model that no provider has", "gpt-4o?"),
    pytest.param(file(key="model: [all, long-name]"), 8, "that no provider has", "write short"),
    pytest.param(file(key="model: [all, p]"), 8, "that no provider has", "write p/*"),
    pytest.param(file(key="model: [all, q/*]"), 8, "provider that does not exist", "providers"),
    pytest.param(file(key="model: [a/b, all]"), 8, "does not exist", "write <a/b>"),
    pytest.param(file(key="model: [all, p/gpt-4]"), 8, "no such model", "gpt-4o?"),
    pytest.param(file(key="model: [all, sk-nobody/*]"), 8, "does not exist", "entry of api_keys"),
    pytest.param(
        file(key="model: [all, sk-b]") + "  - api: sk-b\n", 8, "is a key, not a model", "`/*`"
    ),
    pytest.param(
        file(key="model: [all, sk-b/short]") + "  - api: sk-b\n    model: [gpt-4o]\n",
        8,
        "that key may not use this model",
        "add the model",
    ),
    pytest.param(
        file(key="model: [all, sk-p/*]").replace("provider: p", "provider: sk-p")
        + "  - api: sk-p\n",
        8,
        "both a client key and the name of a provider",
        "another name",
    ),
    pytest.param(file().replace("provider: p", "provider: p/q"), 2, "has a slash", "without"),
    pytest.param(
        file(key="model: [gpt-4o]").replace(
            "api_keys", "  - {provider: q, base_url: 'https://q', model: [m]}\napi_keys"
        ),
        6,
        'no key can reach the provider "q"',
        "add q/*",
    ),
    pytest.param(file(key="model:\n  - p/*: 5"), 9, "fixed_priority ignores weights", "lottery"),
    pytest.param(
        file(key="preferences:\n  SCHEDULING_ALGORITHM: lottery"), 9, "without weights", "gcp1/*"
    ),
    pytest.param(
        file(key="preferences:\n  ENABLE_MODERATION: true"),
        9,
        "reaches no moderation model",
        "omni-moderation-latest",
    ),
]


@pytest.mark.parametrize(("text", "line", "what", "fix"), ERRORS)
def test_an_error_has_its_line_its_name_and_its_cure(
    reads: Reads, text: str, line: int, what: str, fix: str
) -> None:
    report = reads(text)
    assert report.config is None
    (problem,) = report.errors
    assert problem.line == line
    assert what in problem.what
    assert fix in problem.fix


@pytest.mark.parametrize(("text", "line", "what", "fix"), WARNINGS)
def test_a_warning_has_its_line_its_name_and_its_cure(
    reads: Reads, text: str, line: int, what: str, fix: str
) -> None:
    report = reads(text)
    assert report.errors == ()
    assert report.config is not None
    (problem,) = report.warnings
    assert problem.line == line
    assert what in problem.what
    assert fix in problem.fix


def test_the_good_file_is_good(reads: Reads) -> None:
    assert reads(GOOD).problems == ()


def test_one_pass_finds_every_problem(reads: Reads) -> None:
    text = file(
        "tools: maybe\nengine: gpd\nnotes: ${NOPE}",
        key="model:\n  - p/*: x\npreferences: {AUTO_RETRY: x, rate_limit: x, oops: 1}",
    )
    report = reads(text)
    assert [p.line for p in report.errors] == [6, 7, 8, 12, 13, 13]
    assert [p.line for p in report.warnings] == [13]


def test_an_unset_variable_is_one_error_not_two(reads: Reads) -> None:
    text = GOOD.replace("https://p.example/v1", "${U}").replace("sk-own-key", "${K}")
    assert [p.line for p in reads(text).errors] == [3, 7]


def test_models_that_are_discovered_cannot_be_judged(reads: Reads) -> None:
    text = GOOD.replace("    model: [gpt-4o, {long-name: short}, a/b]\n", "") + (
        "    model: [some-model, p/other-model, p/*]\n    preferences: {ENABLE_MODERATION: true}\n"
    )
    assert reads(text).problems == ()


def test_a_moderation_model_behind_a_nested_key_counts(reads: Reads) -> None:
    text = GOOD.replace("a/b", "omni-moderation-latest") + (
        "    model: [gpt-4o, sk-in/*]\n    preferences: {ENABLE_MODERATION: true}\n"
        "  - api: sk-in\n    model: [p/*]\n"
    )
    assert reads(text).problems == ()


def test_a_fan_of_nested_keys_is_checked_in_no_time(reads: Reads) -> None:
    keys = "".join(
        f"  - api: sk-{i}\n    model: [sk-{i + 1}/*, sk-{i + 1}/gpt-4o, sk-{i + 1}/m]\n"
        f"    preferences: {{ENABLE_MODERATION: true}}\n"
        for i in range(40)
    )
    report = reads(f"{GOOD}{keys}  - api: sk-40\n    model: [p/*]\n")
    assert report.errors == ()


def test_only_the_rules_of_the_cycle_are_named(reads: Reads) -> None:
    text = file(key="model: [sk-b/*]") + (
        "  - api: sk-b\n    model: [sk-c/*]\n  - api: sk-c\n    model: [sk-d/*, sk-b/*]\n"
        "  - api: sk-d\n    model: [p/*]\n"
    )
    (problem,) = reads(text).errors
    assert (problem.line, problem.what.count("line")) == (12, 2)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_file_that_others_can_open_is_warned_of(reads: Reads, mode: int, warned: bool) -> None:
    report = reads(GOOD, mode=mode)
    assert report.config is not None
    assert [p.fix for p in report.warnings] == ["chmod 600 api.yaml"] * warned


HIDING_PLACES = [
    GOOD.replace("sk-provider", KEY).replace("https", "htp"),
    file(f"{KEY}: 1"),
    file(f"engine: {KEY}"),
    file(f"tools: {KEY}"),
    file(f"preferences: {{cooldown_period: {KEY}}}"),
    file(f"preferences: {{model_timeout: {{{KEY}: x}}}}"),
    file(f'preferences: {{headers: {{authorization: "Bearer {KEY}\\nx"}}}}'),
    file(f"preferences: {{headers: {{{KEY}: [1]}}}}"),
    file(f"preferences: {{proxy: 'socks5://me:{KEY}@[ip]'}}"),
    file(f"preferences: {{proxy: 'me:{KEY}'}}"),
    file(f"preferences: {{timeout_policy: {{default: {{{KEY}: 1}}}}}}"),
    GOOD.replace("https://p", f"ftp://me:{KEY}@p"),
    GOOD.replace("provider: p", f"provider: {KEY}/x"),
    file(key=f"model: [{KEY}]"),
    file(key=f"model: [all, {KEY}/*]"),
    file(key=f"model: [all, {KEY}/gpt-4]"),
    file(key=f"model:\n  - {KEY}/*: x"),
    file(key=f"model: [{KEY}/*]") + f"  - api: {KEY}\n    model: [sk-own-key/*]\n",
    GOOD + f"  - api: {KEY}\n  - api: {KEY}\n",
    GOOD + f"  - api: {KEY}\n    preferences: {{ENABLE_MODERATION: true}}\n",
    file(f"notes: ${{{KEY.replace('-', '_')}}}"),
    file(f"{KEY}: 1\n{KEY}: 2"),
]


@pytest.mark.parametrize("text", HIDING_PLACES)
def test_a_key_in_the_wrong_place_is_never_shown(reads: Reads, text: str) -> None:
    report = reads(text)
    assert report.problems
    assert KEY not in render(report.problems)
    assert KEY[3:] not in render(report.problems)


def test_a_password_that_looks_like_a_word_is_struck_from_messages(reads: Reads) -> None:
    text = file(key="model: [correcthorse]").replace("sk-provider", "correcthorse")
    assert "correcthorse" not in render(reads(text).problems)


def test_problems_are_printed_in_line_order_errors_first() -> None:
    printed = render(
        [
            Problem(Severity.WARNING, "f", 12, "w", "do this"),
            Problem(Severity.WARNING, "f", 3, "v", "do that"),
            Problem(Severity.ERROR, "f", 3, "e", "do it"),
        ]
    )
    assert printed == (
        "f:3: error: e\n    fix: do it\n"
        "f:3: warning: v\n    fix: do that\n"
        "f:12: warning: w\n    fix: do this\n"
    )


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("claude-3-5-sonnet-20240620", '"claude-3-5-sonnet-20240620"'),
        ("gemini-1.5-flash-exp-0827", '"gemini-1.5-flash-exp-0827"'),
        ("@cf/meta/llama-3.1-8b-instruct", '"@cf/meta/llama-3.1-8b-instruct"'),
        ("openai-test/text-moderation-latest", '"openai-test/text-moderation-latest"'),
        ("a\tb\x1b[1m", '"a?b?[1m"'),
        ("x" * 31 + " " + "y" * 80, f'"{"x" * 31} …"'),
        ("AIzaSyAN2k6IRdgw123", '"…"'),
        ("sk-short", '"sk-…"'),
        ("https://me:pw@host", '"…"'),
    ],
)
def test_names_are_shown_and_keys_are_masked(text: str, seen: str) -> None:
    assert shown(text) == seen or text.startswith("x")


def test_a_mask_keeps_what_a_person_recognises() -> None:
    assert mask("sk-KjjI60Yf0JFWxfgRmXqFWyGtWUd9") == "sk-Kjj…WUd9"
    assert mask("sk-1234") == "sk-…"
    assert mask("hunter2") == "…"


def test_an_old_cohere_address_is_told_of() -> None:
    text = (
        "providers:\n"
        "  - {provider: co, base_url: 'https://api.cohere.com/v1/chat', api: k, model: [command]}\n"
        "api_keys:\n  - api: sk-client-0000\n"
    )
    report = read(text, name="api.yaml", env={})
    assert report.config is not None
    assert [(p.line, "v2" in p.fix) for p in report.warnings] == [(2, True)]
