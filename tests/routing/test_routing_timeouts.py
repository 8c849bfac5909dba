"""The layers of timeouts."""

from __future__ import annotations

import pytest

from uniapi.config.bounds import ByModel, Silence, TimeoutPolicy, TimeoutRule
from uniapi.config.types import Channel, Config, Preferences, Provider, ProviderPreferences
from uniapi.routing.ask import Ask, facts, fits
from uniapi.routing.timeouts import Timeouts, resolve


def both(seconds: float) -> Silence:
    return Silence(first=seconds, idle=seconds)


def limits(
    own: ByModel[Silence] | None = None,
    shared: ByModel[Silence] | None = None,
    *,
    own_policy: TimeoutPolicy | None = None,
    shared_policy: TimeoutPolicy | None = None,
    upstream: str = "gpt-4o-2024-08-06",
    requested: str = "gpt-4o",
) -> Timeouts:
    provider = Provider(
        "p",
        preferences=ProviderPreferences(model_timeout=own or ByModel(), timeout_policy=own_policy),
    )
    config = Config(
        providers=(provider,),
        preferences=Preferences(model_timeout=shared or ByModel(), timeout_policy=shared_policy),
    )
    return resolve(config, Channel(provider, upstream, requested), requested)


OWN_MODEL = ByModel((("gpt-4o", both(1)),))
OWN_DEFAULT: ByModel[Silence] = ByModel(default=both(2))
SHARED_MODEL = ByModel((("gpt-4o", both(3)),))
SHARED_DEFAULT: ByModel[Silence] = ByModel(default=both(4))


@pytest.mark.parametrize(
    ("own", "shared", "expected"),
    [
        (ByModel(OWN_MODEL.entries, both(2)), ByModel(SHARED_MODEL.entries, both(4)), 1),
        (OWN_DEFAULT, ByModel(SHARED_MODEL.entries, both(4)), 2),
        (None, ByModel(SHARED_MODEL.entries, both(4)), 3),
        (None, SHARED_DEFAULT, 4),
        (None, None, 100),
    ],
)
def test_the_most_particular_layer_wins(
    own: ByModel[Silence] | None, shared: ByModel[Silence] | None, expected: float
) -> None:
    assert limits(own, shared) == Timeouts(expected, expected, None, 15.0)


def test_each_of_the_three_is_looked_up_by_itself() -> None:
    own = ByModel((("gpt-4o", Silence(first=7)),), Silence(idle=8))
    shared = ByModel((("gpt-4o", both(3)),), Silence(total=300))
    assert limits(own, shared) == Timeouts(first=7, idle=8, total=300)


def test_the_requested_name_is_looked_up_before_the_upstream_name() -> None:
    table = ByModel((("alias", both(1)), ("deployment", both(2))))
    assert limits(table, upstream="deployment-7", requested="alias").first == 1
    assert limits(table, upstream="deployment-7", requested="unheard").first == 2


def test_an_entry_for_the_upstream_name_beats_the_default() -> None:
    table = ByModel((("2024", both(5)),), both(6))
    assert limits(table).first == 5


def test_a_policy_merges_defaults_then_the_most_specific_rules() -> None:
    shared = TimeoutPolicy(
        default=(("first_byte", 10), ("idle", 11), ("connect", 3)),
        rules=(
            TimeoutRule((("provider", ("p",)),), (("total", 50),)),
            TimeoutRule((("provider", ("p",)), ("model", ("gpt-*",))), (("total", 60),)),
            TimeoutRule((("provider", ("q",)), ("model", ("*",))), (("total", 70),)),
        ),
    )
    own = TimeoutPolicy(default=(("idle", 12),), rules=())
    assert limits(own_policy=own, shared_policy=shared) == Timeouts(10, 12, 60, 3)


def test_the_first_of_equally_specific_rules_wins() -> None:
    policy = TimeoutPolicy(
        rules=(
            TimeoutRule((("model", ("gpt-4o",)),), (("idle", 1),)),
            TimeoutRule((("provider", ("p",)),), (("idle", 2),)),
        )
    )
    assert limits(own_policy=policy).idle == 1


def test_model_timeout_beats_a_policy_and_leaves_it_the_rest() -> None:
    policy = TimeoutPolicy(default=(("first_byte", 10), ("total", 60)))
    found = limits(shared=ByModel(default=both(4)), own_policy=policy)
    assert found == Timeouts(first=4, idle=4, total=60)


def test_what_a_match_may_say() -> None:
    ask = Ask("alias", stream=True, reasoning_effort="High")
    known = facts(ask, Channel(Provider("P"), "deployment-7", "alias"), "admin")
    for match in (
        (("provider", ("p",)),),
        (("model", ("ALIAS",)), ("stream", ("true",))),
        (("model", ("deploy*",)),),
        (("reasoning_effort", ("low", "high")),),
        (("role", ("adm*",)), ("endpoint", ("/v1/chat/completions",)), ("method", ("post",))),
        (),
    ):
        assert fits(match, known), match
    for refused in (
        (("provider", ("pp",)),),
        (("request_model", ("deploy*",)),),
        (("upstream_model", ("alias",)),),
        (("request_type", ("*",)),),
        (("engine", ("*",)),),
        (("unheard_of", ("*",)),),
        (("model", ("alias",)), ("stream", ("false",))),
    ):
        assert not fits(refused, known), refused
