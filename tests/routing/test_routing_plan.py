"""Who may be asked for one request, and in which order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from uniapi.config.bounds import ByModel, Silence, TimeoutPolicy, TimeoutRule
from uniapi.config.targets import AnyProvider, Everything, NestedKey, OneProvider, Rule
from uniapi.config.types import (
    Algorithm,
    AutoRetry,
    ClientKey,
    Config,
    KeyPreferences,
    KeySchedule,
    ModelName,
    Preferences,
    Provider,
    ProviderPreferences,
    Refusals,
    RefuseRule,
    Secret,
)
from uniapi.routing.plan import Ask, Plan, make_plan
from uniapi.state import State

M = (ModelName("m", "m"),)
FIXED, ROUND = Algorithm.FIXED_PRIORITY, Algorithm.ROUND_ROBIN


def provider(
    name: str,
    *keys: str,
    refusals: Refusals | None = None,
    pool: KeySchedule = KeySchedule.ROUND_ROBIN,
) -> Provider:
    return Provider(
        name,
        keys=tuple(Secret(key) for key in keys),
        models=M,
        refusals=refusals or Refusals(),
        preferences=ProviderPreferences(api_key_schedule_algorithm=pool),
    )


def client(
    *rules: Rule,
    name: str = "outer",
    algorithm: Algorithm = FIXED,
    retry: AutoRetry | None = None,
) -> ClientKey:
    return ClientKey(
        Secret(name),
        rules or (Rule(Everything()),),
        preferences=KeyPreferences(algorithm, retry or AutoRetry()),
    )


def names(plan: Plan) -> str:
    return "".join(slot.channel.provider.name for slot in plan.slots)


class Desk:
    """Plans requests one after another, as the gateway does."""

    def __init__(self, *providers: Provider, keys: tuple[ClientKey, ...]) -> None:
        self.config = Config(providers, keys)
        self.state = State()
        self.rng = Random(3)  # noqa: S311 - a test's dice
        self.now = 1000.0

    def plan(self, ask: Ask | None = None, key: ClientKey | None = None) -> Plan:
        key = key or self.config.keys[0]
        return make_plan(self.config, self.state, key, ask or Ask("m"), self.now, self.rng)

    def leads(self, count: int) -> str:
        return "".join(names(self.plan())[0] for _ in range(count))


ABC = (provider("a"), provider("b"), provider("c"))


def test_an_unknown_model_is_404() -> None:
    plan = Desk(*ABC, keys=(client(),)).plan(Ask("nope"))
    assert (plan.known, plan.slots) == (False, ())
    refusal = plan.refusal()
    assert refusal is not None
    assert (refusal.status, refusal.code, refusal.param) == (404, "model_not_found", "model")


def test_a_plan_says_what_the_walk_needs() -> None:
    key = client(retry=AutoRetry(count=4), algorithm=ROUND)
    plan = Desk(*ABC, keys=(key,)).plan()
    assert names(plan) == "abc"
    assert (plan.auto_retry.count, plan.algorithm, plan.model) == (4, ROUND, "m")
    assert plan.refusal() is None
    assert plan.slots[0].keys == (None,)
    assert (plan.slots[0].cooldown_left, plan.slots[0].via) == (0, ())


def test_timeouts_are_those_of_the_slots_own_channel() -> None:
    slow: ByModel[Silence] = ByModel(default=Silence(first=7, idle=8))
    tuned = replace(provider("a"), preferences=ProviderPreferences(model_timeout=slow))
    plan = Desk(tuned, provider("b"), keys=(client(),)).plan()
    assert [slot.timeouts.first for slot in plan.slots] == [7, 100]


def test_a_timeout_policy_knows_the_request_and_whose_it_is() -> None:
    def rule(field: str, value: str, seconds: float) -> TimeoutPolicy:
        return TimeoutPolicy(rules=(TimeoutRule(((field, (value,)),), (("idle", seconds),)),))

    own = ProviderPreferences(timeout_policy=rule("stream", "true", 5))
    tuned = replace(provider("a"), preferences=own)
    key = replace(client(), role="family")
    desk = Desk(tuned, keys=(key,))
    shared = Preferences(timeout_policy=rule("role", "family", 6))
    desk.config = replace(desk.config, preferences=shared)
    assert desk.plan(Ask("m")).slots[0].timeouts.idle == 6
    assert desk.plan(Ask("m", stream=True)).slots[0].timeouts.idle == 5


def test_round_robin_moves_one_step_per_request_and_model() -> None:
    two = tuple(replace(p, models=(*M, ModelName("n", "n"))) for p in ABC)
    desk = Desk(*two, keys=(client(algorithm=ROUND),))
    found = [names(desk.plan()), names(desk.plan(Ask("n"))), names(desk.plan())]
    assert found == ["abc", "abc", "bca"]


def test_round_robin_stays_even_while_a_channel_rests() -> None:
    desk = Desk(*ABC, keys=(client(algorithm=ROUND),))
    desk.state.cool_channel("b", "m", desk.now, 60)
    assert Counter(desk.leads(10)) == {"a": 5, "c": 5}


def test_an_unknown_model_leaves_no_trace() -> None:
    desk = Desk(*ABC, keys=(client(algorithm=ROUND),))
    for n in range(5):
        desk.plan(Ask(f"made-up-{n}"))
    assert desk.state._turns == {}


def test_weights_share_the_lead_exactly() -> None:
    rules = [Rule(OneProvider(n), weight=w) for n, w in (("a", 5), ("b", 3), ("c", 2))]
    desk = Desk(*ABC, keys=(client(*rules, algorithm=Algorithm.WEIGHTED_ROUND_ROBIN),))
    assert Counter(desk.leads(10)) == {"a": 5, "b": 3, "c": 2}


def test_a_nested_key_is_one_unit_with_its_own_algorithm() -> None:
    inner = client(Rule(OneProvider("b")), Rule(OneProvider("c")), name="inner", algorithm=ROUND)
    outer = client(Rule(NestedKey(inner.id)), Rule(AnyProvider("m")))
    desk = Desk(*ABC, keys=(outer, inner))
    assert [names(desk.plan()) for _ in range(3)] == ["bca", "cba", "bca"]
    assert [slot.via for slot in desk.plan().slots] == [(inner.id,), (inner.id,), ()]


def test_nested_cursors_do_not_fall_into_step() -> None:
    inner = client(Rule(OneProvider("b")), Rule(OneProvider("c")), name="inner", algorithm=ROUND)
    outer = client(Rule(OneProvider("a")), Rule(NestedKey(inner.id)), algorithm=ROUND)
    desk = Desk(*ABC, keys=(outer, inner))
    assert desk.leads(8) == "abacabac"


def test_a_nested_key_may_be_weighted() -> None:
    inner = client(Rule(OneProvider("b")), name="inner")
    outer = client(
        Rule(OneProvider("a"), weight=1),
        Rule(NestedKey(inner.id), weight=3),
        algorithm=Algorithm.WEIGHTED_ROUND_ROBIN,
    )
    desk = Desk(*ABC, keys=(outer, inner))
    assert Counter(desk.leads(8)) == {"a": 2, "b": 6}


@pytest.mark.parametrize(
    ("retry", "expected"),
    [(AutoRetry(enabled=False), "bd"), (AutoRetry(count=1), "bcd"), (AutoRetry(), "bcad")],
)
def test_a_nested_key_goes_as_far_as_its_own_auto_retry(retry: AutoRetry, expected: str) -> None:
    inner = client(*(Rule(OneProvider(n)) for n in "bca"), name="inner", retry=retry)
    outer = client(Rule(NestedKey(inner.id)), Rule(OneProvider("d")))
    desk = Desk(*ABC, provider("d"), keys=(outer, inner))
    assert names(desk.plan()) == expected


def test_a_channel_stands_in_a_plan_once() -> None:
    inner = client(Rule(OneProvider("b")), Rule(OneProvider("a")), name="inner")
    outer = client(Rule(OneProvider("a")), Rule(NestedKey(inner.id)), Rule(Everything()))
    assert names(Desk(*ABC, keys=(outer, inner)).plan()) == "abc"


def test_a_resting_channel_is_left_out_and_it_says_so() -> None:
    desk = Desk(*ABC, keys=(client(),))
    desk.state.cool_channel("a", "m", desk.now, 12.5)
    plan = desk.plan()
    assert names(plan) == "bc"
    assert [(s.channel_label, s.why) for s in plan.skipped] == [("a/m", "cools for another 12.5 s")]
    desk.now += 12.5
    assert names(desk.plan()) == "abc"


def test_when_all_rest_the_first_to_wake_is_tried() -> None:
    desk = Desk(*ABC, keys=(client(algorithm=ROUND),))
    for name, seconds in (("a", 30), ("b", 10), ("c", 20)):
        desk.state.cool_channel(name, "m", desk.now, seconds)
    for _ in range(3):
        plan = desk.plan()
        assert names(plan) == "b"
        assert plan.slots[0].cooldown_left == 10
        assert [s.channel_label for s in plan.skipped] == ["a/m", "c/m"]


def test_a_channel_rests_when_all_its_keys_do() -> None:
    keyed = provider("a", "k1", "k2")
    desk = Desk(keyed, provider("b"), keys=(client(),))
    desk.state.cool_key("a", keyed.keys[0].digest, desk.now, 60)
    plan = desk.plan()
    assert names(plan) == "ab"
    assert plan.slots[0].keys == (keyed.keys[1],)
    desk.state.cool_key("a", keyed.keys[1].digest, desk.now, 20)
    assert names(desk.plan()) == "b"
    desk.state.cool_channel("b", "m", desk.now, 300)
    plan = desk.plan()
    assert names(plan) == "a"
    assert plan.slots[0].cooldown_left == 20
    assert plan.slots[0].keys == (keyed.keys[1],)


def lead_keys(desk: Desk, count: int) -> list[str]:
    found = []
    for _ in range(count):
        first = desk.plan().slots[0].keys[0]
        assert first is not None
        found.append(first.reveal())
    return found


def test_keys_take_turns() -> None:
    desk = Desk(provider("a", "k1", "k2", "k3"), keys=(client(),))
    assert lead_keys(desk, 4) == ["k1", "k2", "k3", "k1"]
    assert len(desk.plan().slots[0].keys) == 3


def test_keys_in_fixed_priority_do_not() -> None:
    desk = Desk(provider("a", "k1", "k2", pool=KeySchedule.FIXED_PRIORITY), keys=(client(),))
    assert lead_keys(desk, 3) == ["k1"] * 3


def test_keys_at_random_are_drawn_anew_for_every_request() -> None:
    desk = Desk(provider("a", "k1", "k2", pool=KeySchedule.RANDOM), keys=(client(),))
    leads = Counter(lead_keys(desk, 400))
    assert 150 < leads["k1"] < 250


def test_the_pool_of_a_channel_that_only_stands_by_does_not_move() -> None:
    desk = Desk(
        provider("a", "a1", "a2"), provider("b", "b1", "b2"), keys=(client(algorithm=ROUND),)
    )
    found = [desk.plan().slots[0].keys[0] for _ in range(4)]
    assert [key.reveal() if key else "" for key in found] == ["a1", "b1", "a2", "b2"]


def refusing(refusals: Refusals) -> Desk:
    return Desk(provider("a", refusals=refusals), provider("b"), keys=(client(),))


@pytest.mark.parametrize(
    ("refusals", "refused", "taken", "status"),
    [
        (Refusals(max_request_body_bytes=10), Ask("m", size=11), Ask("m", size=10), 413),
        (
            Refusals(exclude_endpoints=frozenset({"/v1/embeddings"})),
            Ask("m", endpoint="/v1/embeddings"),
            Ask("m"),
            400,
        ),
        (
            Refusals(only_request_types=frozenset({"compaction"})),
            Ask("m"),
            Ask("m", request_type="compaction"),
            400,
        ),
        (
            Refusals(exclude_request_types=frozenset({"compaction"})),
            Ask("m", request_type="compaction"),
            Ask("m"),
            400,
        ),
        (
            Refusals(
                rules=(
                    RefuseRule((), "an empty match fits nothing"),
                    RefuseRule((("reasoning_effort", ("hi*",)), ("request_model", ("m",)))),
                )
            ),
            Ask("m", reasoning_effort="high"),
            Ask("m", reasoning_effort="low"),
            400,
        ),
    ],
)
def test_a_provider_is_not_asked_what_it_refuses(
    refusals: Refusals, refused: Ask, taken: Ask, status: int
) -> None:
    desk = refusing(refusals)
    assert names(desk.plan(taken)) == "ab"
    plan = desk.plan(refused)
    assert names(plan) == "b"
    (skip,) = plan.skipped
    assert (skip.channel_label, skip.status) == ("a/m", status)
    assert skip.why


def test_when_all_refuse_the_client_hears_why() -> None:
    rule = RefuseRule((("endpoint", ("*",)),), "not for chat")
    desk = Desk(provider("a", refusals=Refusals(rules=(rule,))), keys=(client(),))
    plan = desk.plan()
    assert plan.known
    refusal = plan.refusal()
    assert refusal is not None
    assert refusal.status == 400
    assert "a/m: not for chat" in refusal.message


def test_a_refusal_is_not_overruled_because_the_others_rest() -> None:
    desk = refusing(Refusals(max_request_body_bytes=10))
    desk.state.cool_channel("b", "m", desk.now, 300)
    assert names(desk.plan(Ask("m", size=99))) == "b"
    assert names(desk.plan(Ask("m"))) == "a"
