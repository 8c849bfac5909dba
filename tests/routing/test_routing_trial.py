"""Half-open: when a channel has rested, one request tries it while the others go elsewhere."""

from __future__ import annotations

from random import Random

import pytest

from uniapi.config.types import (
    AutoRetry,
    ClientKey,
    Config,
    KeyPreferences,
    ModelName,
    Preferences,
    Provider,
    Secret,
)
from uniapi.errors import Failure, Kind
from uniapi.routing.plan import Ask, make_plan
from uniapi.routing.walk import Attempt, Walk
from uniapi.state import State

M = (ModelName("m", "m"),)
FIRST = 100.0  # seconds, the default time to a first token


class Town:
    """Channels that share a state, and requests that come and go."""

    def __init__(self, names: str = "ab", retry: AutoRetry | None = None) -> None:
        key = ClientKey(
            Secret("client"), preferences=KeyPreferences(auto_retry=retry or AutoRetry())
        )
        providers = tuple(Provider(name, models=M) for name in names)
        self.config = Config(providers, (key,), Preferences(cooldown_period=20))
        self.state = State()
        self.rng = Random(5)  # noqa: S311 - a test's dice
        self.now = 1000.0

    def skipped(self) -> list[str]:
        plan = make_plan(self.config, self.state, self.config.keys[0], Ask("m"), self.now, self.rng)
        return [f"{left.channel_label}: {left.why}" for left in plan.skipped]

    def come(self) -> Visitor:
        return Visitor(self)

    def rested(self, name: str = "a") -> None:
        """Let a channel fail, and its rest go by."""
        self.state.cool_channel(name, "m", self.now, 20)
        self.now += 20


class Visitor:
    """One request."""

    def __init__(self, town: Town) -> None:
        self.town = town
        plan = make_plan(town.config, town.state, town.config.keys[0], Ask("m"), town.now, town.rng)
        self.walk = Walk(plan, town.config, town.state, town.rng)
        self.attempt: Attempt | None = None

    def ask(self) -> str:
        """Go on to the next attempt; who is asked, or nothing."""
        step = self.walk.next(self.town.now)
        if step is None:
            return ""
        self.town.now += step.delay
        self.attempt = step.attempt
        return step.attempt.channel.provider.name

    def fail(self, kind: Kind = Kind.EMPTY) -> None:
        assert self.attempt is not None
        self.walk.failed(self.attempt, Failure(kind, "no", 500), self.town.now)

    def succeed(self) -> None:
        assert self.attempt is not None
        self.walk.succeeded(self.attempt, self.town.now)


def test_after_the_rest_one_request_tries_and_the_others_go_elsewhere() -> None:
    town = Town()
    town.rested()
    assert [town.come().ask() for _ in range(4)] == ["a", "b", "b", "b"]
    assert town.skipped() == ["a/m: rested; another request is trying it first"]


def test_a_success_wakes_it_for_everybody() -> None:
    town = Town()
    town.rested()
    first = town.come()
    first.ask()
    first.succeed()
    assert [town.come().ask() for _ in range(3)] == ["a", "a", "a"]


def test_a_failure_rests_it_again() -> None:
    town = Town()
    town.rested()
    first = town.come()
    first.ask()
    first.fail()
    assert first.ask() == "b"
    assert town.state.channel_cooldown("a", "m", town.now) == 20
    assert town.come().ask() == "b"
    town.now += 20
    assert [town.come().ask() for _ in range(2)] == ["a", "b"]


def test_the_second_chance_belongs_to_the_same_trial() -> None:
    town = Town()
    town.rested()
    first = town.come()
    first.ask()
    first.fail(Kind.SERVER)
    assert town.come().ask() == "b"
    assert first.ask() == "a"
    assert town.come().ask() == "b"
    first.succeed()
    assert town.come().ask() == "a"


@pytest.mark.parametrize("kind", [Kind.REQUEST, Kind.CONTEXT, Kind.POLICY, Kind.TOTAL])
def test_what_tells_nothing_of_its_health_leaves_the_trial_to_the_next(kind: Kind) -> None:
    town = Town()
    town.rested()
    first = town.come()
    first.ask()
    first.fail(kind)
    assert [town.come().ask() for _ in range(2)] == ["a", "b"]


def test_a_request_that_is_given_up_leaves_the_trial_to_the_next() -> None:
    town = Town()
    town.rested()
    first = town.come()
    first.ask()
    first.walk.close()
    assert [town.come().ask() for _ in range(2)] == ["a", "b"]


def test_a_trial_nobody_hears_of_again_is_over_when_its_first_token_was_due() -> None:
    town = Town()
    town.rested()
    town.come().ask()
    town.now += FIRST - 1
    assert town.come().ask() == "b"
    town.now += 1
    assert [town.come().ask() for _ in range(2)] == ["a", "b"]


def test_closing_takes_no_trial_from_another() -> None:
    town = Town()
    town.rested()
    second = town.come()
    assert town.come().ask() == "a"
    assert second.ask() == "b"
    second.walk.close()
    assert town.come().ask() == "b"


def test_a_request_planned_before_the_trial_began_lets_the_others_go_first() -> None:
    town = Town("abc")
    town.rested()
    late = town.come()
    assert town.come().ask() == "a"
    found: list[str] = []
    while (name := late.ask()) and len(found) < 5:
        found.append(name)
        late.fail()
    assert found == ["b", "c", "a"]


def test_two_channels_on_trial_do_not_yield_to_each_other_for_ever() -> None:
    town = Town("abc")
    late = town.come()
    for name in "ab":
        town.state.cool_channel(name, "m", town.now, 20)
    town.now += 20
    assert [town.come().ask(), town.come().ask()] == ["a", "b"]
    found: list[str] = []
    while (name := late.ask()) and len(found) < 5:
        found.append(name)
        late.fail()
    assert found == ["c", "a", "b"]


def test_the_winner_of_a_trial_does_not_end_a_later_one_when_it_closes() -> None:
    town = Town()
    town.rested()
    first = town.come()
    first.ask()
    first.succeed()
    town.rested()
    assert town.come().ask() == "a"
    first.walk.close()
    assert town.come().ask() == "b"


def test_a_trial_is_no_reason_to_answer_nothing() -> None:
    town = Town("a")
    town.rested()
    assert [town.come().ask() for _ in range(3)] == ["a", "a", "a"]
    assert town.skipped() == []


def test_when_all_rest_one_on_trial_comes_before_one_that_must_not_be_tried_yet() -> None:
    town = Town()
    town.rested()
    town.state.cool_channel("b", "m", town.now, 20)
    assert [town.come().ask() for _ in range(3)] == ["a", "a", "a"]
    assert town.skipped() == ["b/m: cools for another 20.0 s"]


def test_only_one_of_those_who_go_there_all_the_same_holds_the_trial() -> None:
    town = Town("a")
    town.rested()
    first, second = town.come(), town.come()
    first.ask()
    second.ask()
    second.walk.close()
    assert town.state.on_trial("a", "m", town.now)
    first.walk.close()
    assert not town.state.on_trial("a", "m", town.now)


def test_a_channel_that_never_failed_is_on_no_trial() -> None:
    town = Town()
    assert [town.come().ask() for _ in range(3)] == ["a", "a", "a"]
    assert not town.state.on_trial("a", "m", town.now)


def test_a_channel_tried_before_its_rest_was_over_is_open_to_all() -> None:
    town = Town("a")
    town.state.cool_channel("a", "m", town.now, 20)
    assert [town.come().ask() for _ in range(3)] == ["a", "a", "a"]
    assert not town.state.on_trial("a", "m", town.now + 20)


def test_an_outage_costs_one_request_a_period() -> None:
    town = Town(retry=AutoRetry(count=1))
    tried = 0
    for second in range(120):
        town.now = 1000.0 + second
        visitor = town.come()
        if visitor.ask() == "a":
            tried += 1
            visitor.fail()
            assert visitor.ask() == "b"
        visitor.succeed()
    assert tried == 6
