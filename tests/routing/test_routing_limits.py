"""Rate limits of clients, providers and nested keys: who is counted with whom, and what is said."""

from __future__ import annotations

from random import Random

import pytest

from uniapi.config.bounds import ByModel, RateLimit, RateLimits
from uniapi.config.limits import parse_rate
from uniapi.config.targets import Everything, NestedKey, OneProvider, Rule
from uniapi.config.types import (
    Algorithm,
    AutoRetry,
    Channel,
    ClientKey,
    Config,
    KeyPreferences,
    KeySchedule,
    ModelName,
    Preferences,
    Provider,
    ProviderPreferences,
    Refusals,
    Secret,
)
from uniapi.errors import Failure, Kind
from uniapi.routing import limits
from uniapi.routing.ask import Ask
from uniapi.routing.limits import LimitReached
from uniapi.routing.plan import Plan, make_plan
from uniapi.routing.walk import Walk
from uniapi.state import State

MODELS = tuple(ModelName(name, name) for name in ("m", "gpt-4o", "gpt-4o-mini", "o1"))


def rule(text: str) -> RateLimit:
    parsed = parse_rate(text)
    assert parsed is not None, text
    return parsed


def scalar(text: str) -> RateLimits:
    return RateLimits(per_model=False, rules=ByModel((), rule(text)))


def by_model(default: str | None = None, **entries: str) -> RateLimits:
    named = tuple((name.replace("_", "-"), rule(text)) for name, text in entries.items())
    return RateLimits(per_model=True, rules=ByModel(named, rule(default) if default else None))


def client(
    limit: RateLimits | None = None, *rules: Rule, name: str = "client", retry: int | None = None
) -> ClientKey:
    return ClientKey(
        Secret(name),
        rules or (Rule(Everything()),),
        preferences=KeyPreferences(rate_limit=limit, auto_retry=AutoRetry(count=retry)),
    )


def provider(
    name: str,
    limit: RateLimits | None = None,
    keys: str = "",
    models: tuple[ModelName, ...] = MODELS,
    schedule: KeySchedule = KeySchedule.ROUND_ROBIN,
) -> Provider:
    return Provider(
        name,
        keys=tuple(Secret(key) for key in keys.split()),
        models=models,
        preferences=ProviderPreferences(
            api_key_rate_limit=limit, api_key_schedule_algorithm=schedule
        ),
    )


class Gate:
    """Requests of one client, one after another, up to the plan and beyond."""

    def __init__(
        self,
        *providers: Provider,
        keys: tuple[ClientKey, ...] = (),
        everyone: RateLimits | None = None,
    ) -> None:
        providers = providers or (provider("p"),)
        self.config = Config(providers, keys or (client(),), Preferences(rate_limit=everyone))
        self.state = State()
        self.rng = Random(3)  # noqa: S311 - a test's dice
        self.now = 1000.0

    def admit(self, model: str = "m", tokens: int = 0, key: int = 0) -> LimitReached | None:
        ask = Ask(model, tokens=tokens)
        denial = limits.admit(self.config, self.state, self.config.keys[key], ask, self.now)
        return None if denial is None else denial.error()

    def admitted(self, *models: str, key: int = 0) -> str:
        return "".join("-+"[self.admit(model, key=key) is None] for model in models)

    def plan(self, ask: Ask | None = None, key: int = 0) -> Plan:
        chosen = self.config.keys[key]
        return make_plan(self.config, self.state, chosen, ask or Ask("m"), self.now, self.rng)

    def walk(self) -> Walk:
        return Walk(self.plan(), self.config, self.state, self.rng)

    def asked(self, *kinds: Kind, walk: Walk | None = None) -> str:
        """Walk to the end, or to the first attempt that is not to fail; who was asked."""
        walk = walk or self.walk()
        script, found = list(kinds), list[str]()
        while (step := walk.next(self.now)) is not None:
            attempt = step.attempt
            self.now += step.delay
            name = attempt.channel.provider.name
            found.append(name if attempt.key is None else f"{name}:{attempt.key.reveal()}")
            if not script:
                walk.succeeded(attempt, self.now)
                break
            walk.failed(attempt, Failure(script.pop(0), "no", 500), self.now)
        return " ".join(found)


# Clients


def test_a_scalar_is_one_bucket_for_all_models() -> None:
    gate = Gate(keys=(client(scalar("3/min")),))
    assert gate.admitted("m", "o1", "unknown", "m", "o1") == "+++--"
    gate.now += 60
    assert gate.admitted("m") == "+"


def test_a_map_has_a_bucket_for_each_model() -> None:
    limit = by_model(default="1/min", gpt_4o="2/min")
    gate = Gate(keys=(client(limit),))
    assert gate.admitted("gpt-4o", "gpt-4o", "gpt-4o") == "++-"
    assert gate.admitted("gpt-4o-mini", "gpt-4o-mini", "gpt-4o-mini") == "++-", "longest contained"
    assert gate.admitted("m", "m", "o1", "o1") == "+-+-", "default, counted apart"


def test_a_map_without_default_leaves_the_others_alone() -> None:
    gate = Gate(keys=(client(by_model(gpt_4o="1/min")),))
    assert gate.admitted(*["m"] * 30) == "+" * 30


def test_names_nobody_has_share_a_bucket_and_no_memory() -> None:
    gate = Gate(keys=(client(by_model(default="2/min")),))
    assert gate.admitted(*(f"made-up-{n}" for n in range(50))) == "++" + "-" * 48
    assert gate.admitted("m") == "+"
    assert len(list(gate.state.buckets)) == 2


def test_keys_do_not_share_but_the_server_does() -> None:
    keys = (client(scalar("2/min")), client(scalar("2/min"), name="other"))
    gate = Gate(keys=keys, everyone=scalar("3/min"))
    assert gate.admitted("m", "m", "m") == "++-"
    assert gate.admitted("m", "m", key=1) == "+-"
    refused = gate.admit(key=1)
    assert refused is not None
    assert refused.limit == "3/min of this server"


def test_what_one_limit_refuses_the_other_does_not_count() -> None:
    gate = Gate(keys=(client(scalar("1/min")), client(name="other")), everyone=scalar("3/min"))
    assert gate.admitted(*"mmmmm") == "+----"
    assert gate.admitted(*"mmm", key=1) == "++-"


def test_several_windows_hold_at_once_and_the_longest_wait_is_told() -> None:
    gate = Gate(keys=(client(scalar("2/min,3/h")),))
    assert gate.admitted(*"mmm") == "++-"
    gate.now += 60
    assert gate.admitted(*"mm") == "+-"
    refused = gate.admit()
    assert refused is not None
    assert refused.limit == "3/h of this key"
    assert refused.headers == ((b"retry-after", b"3540"),)


@pytest.mark.parametrize(
    ("passed", "said"), [(0.0, b"60"), (0.5, b"60"), (1.0, b"59"), (59.75, b"1")]
)
def test_a_refusal_names_the_limit_and_the_seconds_rounded_up(passed: float, said: bytes) -> None:
    gate = Gate(keys=(client(by_model(gpt_4o="1/min")),))
    assert gate.admit("gpt-4o-mini") is None
    gate.now += passed
    refused = gate.admit("gpt-4o-mini")
    assert refused is not None
    assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
    assert refused.limit == "1/min of this key for gpt-4o-mini"
    assert refused.message == (
        f"rate limit reached: 1/min of this key for gpt-4o-mini; try again in {said.decode()} s"
    )
    assert list(refused.headers) == [(b"retry-after", said)]
    gate.now += int(said)
    assert gate.admit("gpt-4o-mini") is None


@pytest.mark.parametrize(
    "text",
    ["5/s", "15/min", "2/h", "10/d", "9/month", "1/year", "100000 tokens/min"],
)
def test_a_window_is_written_as_the_configuration_has_it(text: str) -> None:
    (window,) = rule(text).windows
    assert limits.written(window) == text


def test_a_request_too_large_for_its_key_is_413_and_waiting_does_not_help() -> None:
    gate = Gate(keys=(client(scalar("1/min,4000/tpr")),))
    refused = gate.admit(tokens=4001)
    assert refused is not None
    assert (refused.status, refused.code, refused.headers) == (413, "request_too_large", ())
    assert refused.limit == "4000/tpr of this key"
    assert gate.admit(tokens=4000) is None, "what was refused is not counted"


def test_tokens_are_counted_after_the_answer() -> None:
    gate = Gate(keys=(client(scalar("1000 tokens/min")),))
    claims = limits.of_client(gate.config, gate.state, gate.config.keys[0], "m")
    assert gate.admitted(*"mmm") == "+++"
    limits.spend(gate.state, claims, 999, gate.now)
    assert gate.admit() is None, "the one that crosses it is let through"
    gate.now += 10
    limits.spend(gate.state, claims, 5000, gate.now)
    gate.now += 20
    refused = gate.admit()
    assert refused is not None
    assert refused.limit == "1000 tokens/min of this key"
    assert list(refused.headers) == [(b"retry-after", b"40")]


def test_tokens_and_requests_are_counted_apart() -> None:
    gate = Gate(keys=(client(scalar("3/min,2 tokens/min")),))
    claims = limits.of_client(gate.config, gate.state, gate.config.keys[0], "m")
    assert gate.admitted(*"mmm") == "+++"
    gate.now += 60
    limits.spend(gate.state, claims, 1, gate.now)
    assert gate.admitted(*"mmmm") == "+++-"


def test_what_counts_nothing_is_not_remembered() -> None:
    gate = Gate(keys=(client(scalar("1000 tokens/min")),))
    claims = limits.of_client(gate.config, gate.state, gate.config.keys[0], "m")
    assert gate.admit() is None
    limits.spend(gate.state, claims, 0, gate.now)
    assert gate.state.buckets.get(claims[0].bucket) is None
    limits.spend(gate.state, claims, 1, gate.now)
    assert gate.state.buckets.get(claims[0].bucket) is not None


def test_a_refusal_does_not_repeat_a_book_for_a_name() -> None:
    gate = Gate(keys=(client(by_model(default="1/min")),))
    gate.admit("x" * 100_000)
    refused = gate.admit("x" * 100_000)
    assert refused is not None
    assert len(refused.message) < 200


# Providers


@pytest.mark.parametrize("limit", [scalar("2/min"), by_model(default="2/min")])
def test_a_provider_counts_per_key_and_upstream_model_in_either_form(limit: RateLimits) -> None:
    keyed = provider("p", limit, "k1 k2")
    gate = Gate(keyed)
    for model in ("m", "o1"):
        for key in keyed.keys:
            claims = limits.of_channel(Channel(keyed, model, model), key)
            taken = [limits.take(gate.state, claims, 0, gate.now) is None for _ in range(3)]
            assert taken == [True, True, False]


def test_a_providers_rule_goes_by_its_own_name_for_the_model_then_by_ours() -> None:
    limit = by_model(default="9/min", gpt_4o_2024="2/min", fast="3/min")
    one = provider("p", limit)
    for upstream, name, most in (
        ("gpt-4o-2024-08", "fast", 2),
        ("big", "fast", 3),
        ("big", "other", 9),
    ):
        (claim,) = limits.of_channel(Channel(one, upstream, name), None)
        assert claim.limit.windows[0].limit == most


def test_a_key_at_its_limit_gives_way_to_the_next_then_to_the_next_channel() -> None:
    first = provider("a", scalar("2/min"), "k1 k2", schedule=KeySchedule.FIXED_PRIORITY)
    gate = Gate(first, provider("b"))
    assert [gate.asked() for _ in range(5)] == ["a:k1", "a:k1", "a:k2", "a:k2", "b"]
    (left,) = gate.plan().skipped
    assert (left.channel_label, left.status) == ("a/m", 429)
    assert left.why == "2/min of a key of a/m is used up for another 60.0 s"
    gate.now += 60
    assert gate.asked() == "a:k1"


def test_every_attempt_counts_the_failed_ones_too() -> None:
    gate = Gate(provider("a", scalar("1/min"), "k1 k2"), provider("b"))
    assert gate.asked(Kind.SERVER) == "a:k1 a:k2"
    assert gate.asked() == "b"


def test_a_second_try_without_room_goes_to_the_next_channel() -> None:
    gate = Gate(provider("a", scalar("1/min"), "k"), provider("b"))
    assert gate.asked(Kind.SERVER) == "a:k b"


def test_a_trial_whose_second_try_has_no_room_is_over() -> None:
    gate = Gate(provider("a", scalar("1/min"), "k"), provider("b"))
    gate.state.cool_channel("a", "m", gate.now - 300, 300)
    walk = gate.walk()
    first = walk.next(gate.now)
    assert first is not None
    assert gate.state.on_trial("a", "m", gate.now)
    walk.failed(first.attempt, Failure(Kind.SERVER, "no", 500), gate.now)
    assert gate.state.on_trial("a", "m", gate.now)
    assert gate.asked(walk=walk) == "b"
    assert not gate.state.on_trial("a", "m", gate.now)


def test_a_round_that_comes_again_does_not_ask_a_channel_without_room() -> None:
    gate = Gate(provider("a", scalar("1/min"), "k"), keys=(client(retry=5),))
    assert gate.asked(Kind.EMPTY) == "a:k"


def test_an_attempt_is_counted_when_it_is_handed_out_not_when_it_is_planned() -> None:
    gate = Gate(provider("a", scalar("1/min"), "k"), provider("b", scalar("1/min"), "k"))
    walks = [gate.walk(), gate.walk(), gate.walk()]
    assert [gate.asked(walk=walk) for walk in walks] == ["a:k", "b:k", ""]
    verdict = walks[2].verdict()
    assert (verdict.status, verdict.code) == (429, "rate_limit_exceeded")
    assert list(verdict.headers) == [(b"retry-after", b"60")]


def test_a_wait_counts_from_its_end() -> None:
    gate = Gate(provider("a", scalar("2/s"), "k"))
    walk = gate.walk()
    first = walk.next(gate.now)
    assert first is not None
    walk.failed(first.attempt, Failure(Kind.RATE_LIMIT, "no", 429, retry_after=3), gate.now)
    again = walk.next(gate.now)
    assert again is not None
    assert again.delay == 3
    gate.now += 3.5
    assert gate.asked() == "a:k"
    assert gate.asked() == "", "two within the last second: one begun half a second ago, one now"


def test_when_all_channels_are_limited_the_soonest_is_told() -> None:
    gate = Gate(provider("a", scalar("1/min")), provider("b", scalar("1/h")))
    assert gate.asked() == "a"
    gate.now += 20
    assert gate.asked() == "b"
    refusal = gate.plan().refusal()
    assert isinstance(refusal, LimitReached)
    assert (refusal.status, refusal.code) == (429, "rate_limit_exceeded")
    assert list(refusal.headers) == [(b"retry-after", b"40")]
    assert refusal.limit == "1/min of a/m"
    assert "b/m: 1/h of b/m is used up for another 3600.0 s" in refusal.message


def test_a_channel_has_room_when_the_first_of_its_keys_does() -> None:
    gate = Gate(provider("a", scalar("1/min"), "k1 k2", schedule=KeySchedule.FIXED_PRIORITY))
    for _ in range(2):
        gate.asked()
        gate.now += 10
    refusal = gate.plan().refusal()
    assert refusal is not None
    assert list(refusal.headers) == [(b"retry-after", b"40")]


def test_a_failure_tells_more_than_the_limit_that_kept_it_from_a_second_try() -> None:
    gate = Gate(provider("a", scalar("1/min"), "k"))
    walk = gate.walk()
    assert gate.asked(Kind.SERVER, walk=walk) == "a:k"
    assert walk.verdict().status == 500


def test_a_limit_has_no_exception_when_the_others_rest() -> None:
    gate = Gate(provider("a", scalar("1/min")), provider("b"))
    assert gate.asked() == "a"
    gate.state.cool_channel("b", "m", gate.now, 300)
    assert gate.asked() == "b"


def test_a_resting_key_with_room_is_tried_rather_than_one_without() -> None:
    keyed = provider("a", scalar("1/min"), "k1 k2", schedule=KeySchedule.FIXED_PRIORITY)
    gate = Gate(keyed)
    assert gate.asked() == "a:k1"
    gate.state.cool_key("a", keyed.keys[1].digest, gate.now, 300)
    plan = gate.plan()
    assert plan.slots[0].cooldown_left == 300
    assert gate.asked() == "a:k2"


def test_a_request_too_large_for_a_provider_goes_elsewhere_or_is_413() -> None:
    gate = Gate(provider("a", scalar("100/tpr")), provider("b", scalar("200/tpr")))
    assert [slot.channel.label for slot in gate.plan(Ask("m", tokens=100)).slots] == ["a/m", "b/m"]
    plan = gate.plan(Ask("m", tokens=101))
    assert [slot.channel.label for slot in plan.slots] == ["b/m"]
    assert plan.skipped[0].why == "larger than 100/tpr of a/m"
    refusal = gate.plan(Ask("m", tokens=201)).refusal()
    assert refusal is not None
    assert refusal.status == 413
    assert "a/m: larger than 100/tpr of a/m; b/m: larger" in refusal.message


def test_a_limit_that_passes_is_told_rather_than_a_refusal_that_does_not() -> None:
    closed = Provider(
        "a", models=MODELS, refusals=Refusals(exclude_endpoints=frozenset({"/v1/chat/completions"}))
    )
    gate = Gate(closed, provider("b", scalar("1/min")))
    assert gate.asked() == "b"
    refusal = gate.plan().refusal()
    assert refusal is not None
    assert refusal.status == 429


# Nested keys


def nested(inner: ClientKey, *outer: Rule) -> Gate:
    rules = outer or (Rule(NestedKey(inner.id)), Rule(OneProvider("b")))
    return Gate(provider("a"), provider("b"), keys=(client(None, *rules), inner))


def test_a_nested_keys_limit_counts_the_requests_that_go_through_it() -> None:
    inner = client(scalar("2/min"), Rule(OneProvider("a")), name="inner")
    gate = nested(inner)
    assert [gate.asked() for _ in range(3)] == ["a", "a", "b"]
    (left,) = gate.plan().skipped
    assert left.why.startswith(f"2/min of the nested key {inner.id} is used up for another ")
    assert gate.admitted("m", key=1) == "-", "the inner key's own clients share it"
    gate.now += 60
    assert gate.asked() == "a"


def test_a_nested_key_counts_a_request_once_however_many_attempts_it_takes() -> None:
    inner = client(scalar("1/min"), Rule(OneProvider("a")), Rule(OneProvider("b")), name="inner")
    gate = nested(inner, Rule(NestedKey(inner.id)))
    assert gate.asked(Kind.EMPTY) == "a b"
    assert gate.asked() == ""


def test_a_nested_key_that_is_not_reached_is_not_counted() -> None:
    inner = client(scalar("1/min"), Rule(OneProvider("a")), name="inner")
    gate = nested(inner, Rule(OneProvider("b")), Rule(NestedKey(inner.id)))
    assert [gate.asked() for _ in range(3)] == ["b", "b", "b"]
    assert gate.asked(Kind.REQUEST) == "b a"
    assert gate.asked(Kind.REQUEST) == "b"


def test_a_nested_key_that_ran_out_on_the_way_is_passed_over() -> None:
    inner = client(scalar("1/min"), Rule(OneProvider("a")), name="inner")
    gate = nested(inner)
    walks = [gate.walk(), gate.walk()]
    assert [gate.asked(walk=walk) for walk in walks] == ["a", "b"]


def test_when_only_nested_keys_are_left_and_have_no_room_it_is_429() -> None:
    inner = client(by_model(m="1/min"), Rule(OneProvider("a")), name="inner")
    gate = nested(inner, Rule(NestedKey(inner.id)))
    assert gate.asked() == "a"
    refusal = gate.plan().refusal()
    assert isinstance(refusal, LimitReached)
    assert refusal.limit == f"1/min of the nested key {inner.id} for m"
    assert list(refusal.headers) == [(b"retry-after", b"60")]


def test_a_channel_behind_a_full_key_is_still_there_by_itself() -> None:
    inner = client(scalar("1/min"), Rule(OneProvider("a")), name="inner")
    gate = nested(inner, Rule(NestedKey(inner.id)), Rule(OneProvider("a")))
    assert [gate.asked(), gate.asked()] == ["a", "a"]
    plan = gate.plan()
    assert [slot.via for slot in plan.slots] == [()]
    assert plan.skipped == ()


def test_a_nested_key_does_not_take_what_is_too_large_for_it() -> None:
    inner = client(scalar("10/tpr"), Rule(OneProvider("a")), name="inner")
    gate = nested(inner)
    assert [s.channel.label for s in gate.plan(Ask("m", tokens=11)).slots] == ["b/m"]


def test_keys_two_deep_each_count() -> None:
    deep = client(scalar("2/min"), Rule(OneProvider("a")), name="deep")
    middle = client(scalar("3/min"), Rule(NestedKey(deep.id)), Rule(OneProvider("b")), name="mid")
    outer = client(None, Rule(NestedKey(middle.id)))
    gate = Gate(provider("a"), provider("b"), keys=(outer, middle, deep))
    assert [gate.asked() for _ in range(2)] == ["a", "a"]
    plan = gate.plan()
    assert [slot.channel.label for slot in plan.slots] == ["b/m"]
    assert f"the nested key {deep.id} is" in plan.skipped[0].why
    assert [gate.asked() for _ in range(2)] == ["b", ""]
    assert f"the nested key {middle.id} is" in gate.plan().skipped[0].why


def test_a_nested_key_with_nothing_left_to_ask_leaves_the_turn_to_the_others() -> None:
    deep = client(scalar("1/min"), Rule(OneProvider("a")), name="deep")
    middle = client(None, Rule(NestedKey(deep.id)), name="mid")
    outer = client(None, Rule(NestedKey(middle.id)), Rule(OneProvider("b")))
    gate = Gate(provider("a"), provider("b"), keys=(outer, middle, deep))
    assert [gate.asked() for _ in range(3)] == ["a", "b", "b"]


def test_algorithms_choose_among_those_with_room() -> None:
    rules = [Rule(OneProvider(name), weight=w) for name, w in (("a", 9), ("b", 1))]
    key = ClientKey(
        Secret("client"),
        tuple(rules),
        preferences=KeyPreferences(Algorithm.WEIGHTED_ROUND_ROBIN),
    )
    gate = Gate(provider("a", scalar("3/min")), provider("b"), keys=(key,))
    assert [gate.asked() for _ in range(6)] == ["a", "a", "a", "b", "b", "b"]
