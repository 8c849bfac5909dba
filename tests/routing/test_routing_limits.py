"""Rate limits: who is counted with whom, and what is said."""

from __future__ import annotations

import pytest

from tests.kit.gate import Gate, by_model, client, provider, rule, scalar
from uniapi.config.bounds import RateLimits
from uniapi.config.types import Channel
from uniapi.routing import limits


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
