"""A good file says what it says: every key reaches the value it is for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest

from uniapi.config.bounds import (
    ByModel,
    Hedge,
    RateLimit,
    RateLimits,
    Silence,
    TimeoutPolicy,
    TimeoutRule,
    Unit,
    Window,
)
from uniapi.config.read import Report
from uniapi.config.targets import AnyProvider, Everything, NestedKey, OneProvider
from uniapi.config.types import (
    Algorithm,
    AutoRetry,
    Config,
    KeySchedule,
    ModelName,
    Preferences,
    Provider,
    RefuseRule,
    Secret,
)

Reads = Callable[..., Report]
Fixture = Callable[[str], str]


def good(report: Report) -> Config:
    assert report.errors == ()
    assert report.config is not None
    return report.config


def test_the_minimal_example_is_read_without_a_word(reads: Reads, fixture: Fixture) -> None:
    report = reads(fixture("seed_minimal.yaml"))
    assert report.problems == ()
    config = good(report)
    (provider,) = config.providers
    assert provider == Provider(
        "provider_name",
        "https://api.your.com/v1/chat/completions",
        (Secret("sk-YgS6GTi0b4bEabc4C"),),
    )
    (key,) = config.keys
    assert key.secret == Secret("sk-Pkj60Yf8JFWxfgRmXQFWyGtWUddGZnmi3KlvowmRWpWpQxx")
    assert [rule.target for rule in key.rules] == [Everything()]
    assert key.admin
    assert config.preferences == Preferences()
    assert config.default_timeout == 100


def test_the_advanced_example_warns_of_its_placeholders_only(
    reads: Reads, fixture: Fixture
) -> None:
    report = reads(fixture("seed_advanced.yaml"))
    assert report.errors == ()
    assert [(p.line, p.what) for p in report.warnings] == [
        (
            40,
            (
                "providers[gemini].preferences.proxy: this looks like a placeholder; "
                "requests through it will fail"
            ),
        ),
        (43, "providers[vertex].private_key: this is not a whole PEM key"),
        (
            44,
            (
                "providers[vertex].client_email: the address was hidden by the web page "
                "it was copied from"
            ),
        ),
        (55, 'no key can reach the provider "cloudflare"'),
        (
            80,
            'the rule "openai-test/text-moderation-latest" names a provider that does not exist',
        ),
        (
            92,
            (
                "ENABLE_MODERATION is on, but the key sk-pkh…qrhy reaches no moderation model: "
                "its requests will fail"
            ),
        ),
        (96, 'the rule "gcp1/*" names a provider that does not exist'),
        (97, 'the rule "gcp2/*" names a provider that does not exist'),
        (98, 'the rule "gcp3/*" names a provider that does not exist'),
    ]


def test_the_advanced_example_says_what_it_says_of_providers(
    reads: Reads, fixture: Fixture
) -> None:
    config = good(reads(fixture("seed_advanced.yaml")))
    by_name = config.providers_by_name
    assert list(by_name) == [
        "provider_name",
        "anthropic",
        "gemini",
        "vertex",
        "cloudflare",
        "other-provider",
    ]
    assert by_name["provider_name"].models == (
        ModelName("gpt-4o", "gpt-4o"),
        ModelName("claude-3-5-sonnet-20240620", "claude-3-5-sonnet"),
        ModelName("dall-e-3", "dall-e-3"),
    )
    gemini = by_name["gemini"]
    assert [key.reveal() for key in gemini.keys] == [
        "AIzaSyAN2k6IRdgw123",
        "AIzaSyAN2k6IRdgw456",
        "AIzaSyAN2k6IRdgw789",
    ]
    assert gemini.models == (
        ModelName("gemini-1.5-pro", "gemini-1.5-pro"),
        ModelName("gemini-1.5-flash-exp-0827", "gemini-1.5-flash"),
        ModelName("gemini-1.5-flash-exp-0827", "gemini-1.5-flash-exp-0827"),
    )
    assert gemini.preferences.api_key_rate_limit == RateLimits(
        per_model=False, rules=ByModel((), RateLimit((Window(15, 60),)))
    )
    assert gemini.preferences.api_key_cooldown_period == 60
    assert gemini.preferences.api_key_schedule_algorithm is KeySchedule.ROUND_ROBIN
    ten = Silence(first=10, idle=10)
    assert gemini.preferences.model_timeout == ByModel(
        (("gemini-1.5-pro", ten), ("gemini-1.5-flash", ten)), ten
    )
    assert gemini.preferences.proxy == Secret("socks5://[username]:[password]@[ip]:[port]")
    vertex = by_name["vertex"]
    assert vertex.base_url is None
    assert vertex.project_id == "gen-lang-client-xxxxxxxxxxxxxx"
    assert vertex.client_email == "[email protected]"
    assert vertex.notes == "https://xxxxx.com/"
    assert vertex.models is not None
    assert vertex.models[3] == ModelName("claude-3-5-sonnet@20240620", "claude-3-5-sonnet")
    cloudflare = by_name["cloudflare"]
    assert cloudflare.cf_account_id == "8ec0xxxxxxxxxxxxe721"
    assert cloudflare.models == (
        ModelName("@cf/meta/llama-3.1-8b-instruct", "llama-3.1-8b"),
        ModelName("@cf/meta/llama-3.1-8b-instruct", "@cf/meta/llama-3.1-8b-instruct"),
    )
    other = by_name["other-provider"]
    assert (other.tools, other.engine) == (False, "openrouter")


def test_the_advanced_example_says_what_it_says_of_keys(reads: Reads, fixture: Fixture) -> None:
    config = good(reads(fixture("seed_advanced.yaml")))
    first, second, third = config.keys
    assert [rule.target for rule in first.rules] == [
        AnyProvider("gpt-4o"),
        AnyProvider("claude-3-5-sonnet"),
        OneProvider("gemini"),
    ]
    assert (first.role, first.admin, second.admin) == ("admin", True, False)
    assert [rule.target for rule in second.rules] == [
        OneProvider("anthropic", "claude-3-5-sonnet"),
        AnyProvider("anthropic/claude-3-5-sonnet"),
        OneProvider("openai-test", "text-moderation-latest"),
        NestedKey(third.id),
    ]
    assert second.rules[3].text == f"{third.id}/*"
    assert second.preferences.algorithm is Algorithm.FIXED_PRIORITY
    assert second.preferences.auto_retry == AutoRetry()
    assert second.preferences.moderation
    assert second.preferences.rate_limit == RateLimits(
        per_model=False, rules=ByModel((), RateLimit((Window(15, 60),)))
    )
    assert [rule.weight for rule in third.rules] == [5, 3, 2]
    assert third.preferences.algorithm is Algorithm.WEIGHTED_ROUND_ROBIN


def test_the_advanced_example_says_what_it_says_for_all(reads: Reads, fixture: Fixture) -> None:
    preferences = good(reads(fixture("seed_advanced.yaml"))).preferences
    assert preferences.model_timeout.default == Silence(10, 10)
    assert [name for name, _ in preferences.model_timeout.entries] == [
        "gpt-4o",
        "claude-3-5-sonnet",
        "o1-mini",
        "o1-preview",
    ]
    assert preferences.cooldown_period == 300
    assert preferences.error_triggers == (
        "The bot's usage is covered by the developer",
        "process this request due to overload or policy",
    )


def test_the_later_style_warns_of_what_is_not_supported_only(
    reads: Reads, fixture: Fixture
) -> None:
    report = reads(fixture("later_style.yaml"))
    assert report.errors == ()
    assert [(p.line, p.what.partition(":")[0]) for p in report.warnings] == [
        (16, "providers[1234].preferences.api_key_schedule_algorithm"),
        (34, "providers[1234].preferences.search_defaults"),
        (35, "providers[1234].preferences.responses_stream_commit_policy"),
        (36, "providers[1234].preferences.oaix_routing_attempt_id"),
        (42, "video_providers"),
        (55, "preferences.hedging"),
    ]
    assert "hedge: 5s" in report.warnings[-1].fix


def test_the_later_style_is_read_with_its_types(reads: Reads, fixture: Fixture) -> None:
    config = good(reads(fixture("later_style.yaml")))
    one, bedrock = config.providers
    assert (one.name, one.keys) == ("1234", (Secret("123456"),))
    assert one.models == (
        ModelName("gpt-4o", "gpt-4o"),
        ModelName("gpt-4.1", "4"),
        ModelName("o3", "o3-high"),
        ModelName("o1", "o1"),
    )
    assert one.refusals.max_request_body_bytes == 20_000_000
    assert one.refusals.exclude_endpoints == {"/v1/embeddings"}
    assert one.refusals.rules == (
        RefuseRule(
            (("request_model", ("o3*",)), ("endpoint", ("/v1/responses",))),
            "no access",
        ),
    )
    preferences = one.preferences
    assert preferences.api_key_rate_limit == RateLimits(
        per_model=True,
        rules=ByModel(
            (("gpt-4o", RateLimit((Window(15, 60), Window(10, 86400)))),), RateLimit((), 4000)
        ),
    )
    assert preferences.model_timeout == ByModel((), Silence(30, 30))
    assert preferences.keepalive_interval == ByModel((), 25.0)
    assert preferences.timeout_policy == TimeoutPolicy(
        (("idle", 30),),
        (
            TimeoutRule(
                (("model", ("o1*",)), ("stream", ("true",))),
                (("first_byte", 120), ("total", 600)),
            ),
        ),
    )
    assert preferences.headers == (("X-Custom", "1"), ("User-Agent", "me/1.0"))
    assert preferences.passthrough_request_headers == ("X-Trace",)
    assert preferences.post_body_parameter_overrides == {
        "google_search": {},
        "max_tokens": 24576,
        "temperature": 1.5,
        "quoted": "24576",
        "stream": True,
        "stop": None,
        "thinking": {"type": "enabled", "list": [1, "a", "2", None]},
        "__remove__": ["logprobs"],
    }
    assert (bedrock.engine, bedrock.base_url) == ("aws", None)
    assert bedrock.aws_access_key == Secret("AKIAXXXXXXXXXXXXXXXX")


def test_the_later_style_is_read_with_its_keys_and_prices(reads: Reads, fixture: Fixture) -> None:
    config = good(reads(fixture("later_style.yaml")))
    first, second = config.keys
    assert first.admin
    assert first.rules[0].weight == 3
    assert first.preferences.algorithm is Algorithm.LOTTERY
    assert first.preferences.auto_retry == AutoRetry(enabled=True, count=2)
    assert first.preferences.credits is None
    assert first.preferences.created_at == datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=8)))
    assert second.secret == Secret("4711")
    assert not second.admin
    assert [rule.target for rule in second.rules] == [Everything()]
    assert second.preferences.auto_retry == AutoRetry(enabled=False)
    assert second.preferences.rate_limit == RateLimits(
        per_model=False, rules=ByModel((), RateLimit((Window(100_000, 60, Unit.TOKENS),)))
    )
    assert config.preferences.model_price == {"gpt-4o": (2.5, 10.0), "default": (0.3, 1.0)}
    assert config.preferences.error_triggers == ()


FILE = """\
providers:
  - provider: p
    base_url: https://p.example/v1/chat/completions
    api: sk-provider
    model: [gpt-4o, a/b]
{provider}
api_keys:
  - api: sk-own-key
{key}
{rest}
"""


def file(provider: str = "", key: str = "", rest: str = "") -> str:
    indented = ("\n".join(f"    {line}" for line in part.splitlines()) for part in (provider, key))
    return FILE.format(provider=next(indented), key=next(indented), rest=rest)


@pytest.mark.parametrize(
    ("written", "engine"),
    [("openai", "gpt"), ("Anthropic", "claude"), ("bedrock", "aws"), ("vertex-claude",) * 2],
)
def test_an_engine_has_one_name(reads: Reads, written: str, engine: str) -> None:
    assert good(reads(file(f"engine: {written}"))).providers[0].engine == engine


@pytest.mark.parametrize(
    ("written", "silence"),
    [
        ("model_timeout: 12", Silence(12, 12)),
        ("model_timeout: 2m", Silence(120, 120)),
        ("model_timeout: {first: 10, idle: 3.5, total: 300}", Silence(10, 3.5, 300)),
        ("model_timeout: {default: {total: 5m}}", Silence(total=300)),
    ],
)
def test_a_timeout_is_a_number_or_three(reads: Reads, written: str, silence: Silence) -> None:
    config = good(reads(file(rest=f"preferences: {{{written}}}")))
    assert config.preferences.model_timeout == ByModel((), silence)


@pytest.mark.parametrize(
    ("written", "hedge"),
    [
        ("5s", Hedge(after=5)),
        ("2", Hedge(after=2)),
        ("p90", Hedge(percentile=90)),
        ("off", Hedge(budget=0)),
        ("{after: P9, budget: 25%}", Hedge(percentile=9, budget=0.25)),
        ("{after: 300ms, budget: 0.5}", Hedge(after=0.3, budget=0.5)),
        ("{after: 1s}", Hedge(after=1)),
    ],
)
def test_a_hedge_is_a_delay_or_a_percentile(reads: Reads, written: str, hedge: Hedge) -> None:
    config = good(reads(file(rest=f"preferences: {{hedge: {written}}}")))
    assert config.preferences.hedge == hedge


@pytest.mark.parametrize(
    ("rule", "target"),
    [
        ("all", Everything()),
        ("'*'", Everything()),
        ("gpt-4o", AnyProvider("gpt-4o")),
        ("p/*", OneProvider("p")),
        ("p/gpt-4o", OneProvider("p", "gpt-4o")),
        ("p/a/b", OneProvider("p", "a/b")),
        ("<a/b>", AnyProvider("a/b")),
        ("' gpt-4o '", AnyProvider("gpt-4o")),
    ],
)
def test_a_rule_is_parsed_once_and_for_all(reads: Reads, rule: str, target: object) -> None:
    report = reads(file(key=f"model:\n  - {rule}"))
    assert [rule.target for rule in good(report).keys[0].rules] == [target]
    assert report.warnings == ()


def test_one_rule_needs_no_list_and_several_weights_fit_one_item(reads: Reads) -> None:
    assert good(reads(file(key="model: gpt-4o"))).keys[0].rules[0].target == AnyProvider("gpt-4o")
    text = file(
        key="model:\n  - gpt-4o: 2\n    p/*: 3\n  - a/b:\n"
        "preferences: {SCHEDULING_ALGORITHM: lottery}"
    )
    assert [rule.weight for rule in good(reads(text)).keys[0].rules] == [2, 3, None]


def test_a_nested_key_may_be_narrowed_to_a_model_and_may_look_like_anything(reads: Reads) -> None:
    text = file(key="model: [plain/gpt-4o]") + "  - api: plain\n"
    first, second = good(reads(text)).keys
    assert first.rules[0].target == NestedKey(second.id, "gpt-4o")


def test_a_providers_name_wins_over_a_key_that_does_not_look_like_one(reads: Reads) -> None:
    text = file(key="model: [p/gpt-4o]") + "  - api: p\n"
    assert good(reads(text)).keys[0].rules[0].target == OneProvider("p", "gpt-4o")


@pytest.mark.parametrize(
    ("role", "admin"), [("admin", True), ("the admin of all", True), ("friend", False)]
)
def test_a_role_with_admin_in_it_is_an_admin(reads: Reads, role: str, admin: bool) -> None:
    text = file(key=f"role: {role}") + "  - api: sk-second\n"
    first, second = good(reads(text)).keys
    assert (first.role, first.admin, second.admin) == (role, admin, False)


def test_variables_are_filled_in_values_and_in_rules(reads: Reads) -> None:
    text = file(
        "notes: ${NOTE:-none}, ${EMPTY:-nothing}, $${NOTE}",
        key="model:\n  - ${WHO}/*: 5\npreferences: {SCHEDULING_ALGORITHM: lottery}",
    )
    config = good(reads(text, env={"WHO": "p", "EMPTY": ""}))
    assert config.providers[0].notes == "none, nothing, ${NOTE}"
    assert config.keys[0].rules[0].target == OneProvider("p")


def test_a_bare_variable_in_free_json_is_typed_and_a_quoted_one_is_text(reads: Reads) -> None:
    text = file(
        "preferences:\n  post_body_parameter_overrides:\n    bare: ${N}\n    quoted: '${N}'"
    )
    (provider,) = good(reads(text, env={"N": "5"})).providers
    assert provider.preferences.post_body_parameter_overrides == {"bare": 5, "quoted": "5"}


def test_what_a_variable_holds_adds_no_keys(reads: Reads) -> None:
    text = file("notes: ${EVIL}")
    (provider,) = good(reads(text, env={"EVIL": "x\n    tools: false"})).providers
    assert provider.tools


def test_empty_values_are_absent(reads: Reads) -> None:
    text = file(
        "engine:\ntools: ~\nnotes: null\npreferences:",
        key="model: []\nrole:\npreferences:\n  rate_limit:\n  AUTO_RETRY: ~",
        rest="preferences:",
    )
    report = reads(text)
    config = good(report)
    assert report.warnings == ()
    assert config.providers[0].tools
    assert config.providers[0].engine is None
    assert [rule.target for rule in config.keys[0].rules] == [Everything()]
    assert config.preferences == Preferences()


def test_env_timeout_is_the_last_resort(reads: Reads) -> None:
    assert good(reads(file(), env={"TIMEOUT": "30"})).default_timeout == 30
    report = reads(file(), env={"TIMEOUT": "soon"})
    assert good(report).default_timeout == 100
    assert "TIMEOUT" in report.warnings[0].what


def test_a_date_without_a_zone_is_utc(reads: Reads) -> None:
    config = good(reads(file(key="preferences: {created_at: 2025-01-31}")))
    assert config.keys[0].preferences.created_at == datetime(2025, 1, 31, tzinfo=UTC)


def test_a_private_key_may_have_its_breaks_written_out(reads: Reads) -> None:
    pem = r"-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\n"
    for quoted in (f"'{pem}'", f'"{pem}"'):
        report = reads(file(f"private_key: {quoted}"))
        assert report.warnings == ()
        key = good(report).providers[0].private_key
        assert key is not None
        assert key.reveal().splitlines()[1] == "abc"


def test_the_later_of_two_providers_with_one_name_counts(reads: Reads) -> None:
    second = "  - provider: p\n    base_url: https://q.example\napi_keys:"
    text = file().replace("api_keys:", second)
    report = reads(text)
    assert [p.base_url for p in good(report).providers] == ["https://q.example"]
    (warning,) = report.warnings
    assert warning.line == 7
    assert "already on line 2" in warning.what


def test_the_later_of_two_models_with_one_name_counts(reads: Reads) -> None:
    text = file().replace("[gpt-4o, a/b]", "[{x: m}, a, {y: m}]")
    report = reads(text)
    assert good(report).providers[0].models == (ModelName("a", "a"), ModelName("y", "m"))
    assert 'model: "m" is already on line 5' in report.warnings[0].what


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("", 30 * 86_400.0), ("stats_retention: 1h", 3600.0), ("stats_retention: 7d", 604_800.0)],
)
def test_requests_stay_in_the_statistics_for_thirty_days_or_as_said(
    reads: Reads, written: str, seconds: float
) -> None:
    text = "{providers: [{provider: p, base_url: 'https://h'}], api_keys: [{api: k}], preferences: "
    report = reads(f"{text}{{{written}}}}}")
    assert report.config is not None
    assert report.config.preferences.stats_retention == seconds
