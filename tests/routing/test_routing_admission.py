"""Attempts counted in limits: which key and channel gives way to which, and what is said."""

from __future__ import annotations

from tests.kit.gate import MODELS, Gate, by_model, client, provider, scalar
from uniapi.config.targets import NestedKey, OneProvider, Rule
from uniapi.config.types import (
    Algorithm,
    ClientKey,
    KeyPreferences,
    KeySchedule,
    Provider,
    Refusals,
    Secret,
)
from uniapi.errors import Failure, Kind
from uniapi.routing.ask import Ask
from uniapi.routing.limits import LimitReached


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
