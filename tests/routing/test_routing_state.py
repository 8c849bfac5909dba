"""What the gateway remembers, and that it does not remember too much."""

from __future__ import annotations

from uniapi.config.types import ClientKey, Config, ModelName, Provider, Secret
from uniapi.state import MAX_TURNS, DiscoveryStatus, State, Turn

LISTED = (ModelName("m", "m"),)


def test_a_cooldown_ends_when_it_said() -> None:
    state = State()
    state.cool_channel("p", "m", 100.0, 300.0)
    assert state.channel_cooldown("p", "m", 100.0) == 300
    assert state.channel_cooldown("p", "m", 399.0) == 1
    assert state.channel_cooldown("p", "m", 400.0) == 0
    assert state.channel_cooldown("p", "other", 100.0) == 0


def test_zero_seconds_is_no_cooldown() -> None:
    state = State()
    state.cool_key("p", "d", 5.0, 0.0)
    assert state.key_cooldown("p", "d", 5.0) == 0


def test_a_shorter_rest_does_not_cut_a_longer_one() -> None:
    state = State()
    state.cool_key("p", "d", 0.0, 60.0)
    state.cool_key("p", "d", 10.0, 5.0)
    assert state.key_cooldown("p", "d", 10.0) == 50


def test_only_an_attempt_begun_after_the_failure_ends_the_rest() -> None:
    state = State()
    state.cool_channel("p", "m", 100.0, 300.0)
    state.wake_channel("p", "m", started=99.0)
    assert state.channel_cooldown("p", "m", 100.0) == 300
    state.wake_channel("p", "m", started=100.0)
    assert state.channel_cooldown("p", "m", 100.0) == 0


def test_only_a_channel_that_has_rested_can_be_tried() -> None:
    state = State()
    assert not state.begin_trial("p", "m", 0.0, 10.0)
    state.cool_channel("p", "m", 0.0, 10.0)
    assert not state.begin_trial("p", "m", 9.0, 19.0)
    assert not state.on_trial("p", "m", 9.0)
    assert state.begin_trial("p", "m", 10.0, 20.0)
    assert [state.on_trial("p", "m", now) for now in (10.0, 19.0, 20.0)] == [True, True, False]
    assert state.channel_cooldown("p", "m", 15.0) == 0


def test_a_trial_ends_with_what_it_found_out() -> None:
    state = State()
    for end in ("wake", "cool", "nothing"):
        state.cool_channel("p", "m", 0.0, 10.0)
        state.begin_trial("p", "m", 10.0, 20.0)
        match end:
            case "wake":
                state.wake_channel("p", "m", started=10.0)
            case "cool":
                state.cool_channel("p", "m", 12.0, 10.0)
            case _:
                state.end_trial("p", "m")
        assert not state.on_trial("p", "m", 12.0)
        assert state.channel_cooldown("p", "m", 12.0) == (10 if end == "cool" else 0)
        assert state.begin_trial("p", "m", 23.0, 33.0) == (end != "wake")
        state.wake_channel("p", "m", started=99.0)
    state.end_trial("p", "m")


def test_configured_models_beat_discovered_ones() -> None:
    state = State()
    state.discovered("p", LISTED)
    assert state.models(Provider("p", models=())) == ()
    assert state.models(Provider("p")) == LISTED
    assert state.models(Provider("q")) == ()


def test_a_failed_refresh_keeps_the_last_listing() -> None:
    state = State()
    assert state.discovery("p").status is DiscoveryStatus.PENDING
    state.discovered("p", LISTED)
    state.discovery_failed("p", "timed out")
    found = state.discovery("p")
    assert (found.status, found.reason) == (DiscoveryStatus.FAILED, "timed out")
    assert state.models(Provider("p")) == LISTED
    state.discovered("p", LISTED)
    assert state.discovery("p").reason == ""
    state.discovery_pending("p")
    assert state.models(Provider("p")) == ()


def test_turns_are_bounded_and_the_longest_unused_goes_first() -> None:
    state = State()
    state.take_turn("k", "first", Turn(cursor=7))
    state.take_turn("k", "second", Turn(cursor=8))
    state.take_turn("k", "first", Turn(cursor=9))
    for n in range(MAX_TURNS - 1):
        state.take_turn("k", f"m{n}", Turn(cursor=1))
    assert state.turn("k", "second") == Turn()
    assert state.turn("k", "first").cursor == 9


def test_a_reload_forgets_what_the_file_no_longer_names() -> None:
    kept, gone = Secret("sk-kept"), Secret("sk-gone")
    state = State()
    client = ClientKey(Secret("client"))
    for key in (kept, gone):
        state.cool_key("p", key.digest, 0.0, 10.0)
    for name in ("p", "q"):
        state.cool_channel(name, "m", 0.0, 10.0)
        state.discovered(name, LISTED)
        state.advance_pool(name)
    state.take_turn(client.id, "m", Turn(1, {("p", "m"): 2, ("q", "m"): -3, (client.id,): 1}))
    state.discovered("now-configured", LISTED)
    state.take_turn("unknown", "m", Turn(1))
    providers = (Provider("p", keys=(kept,)), Provider("now-configured", models=()))
    state.prune(Config(providers, (client,)))
    assert state.models(Provider("now-configured")) == ()
    assert state.key_cooldown("p", kept.digest, 0.0) == 10
    assert state.key_cooldown("p", gone.digest, 0.0) == 0
    assert state.channel_cooldown("p", "m", 0.0) == 10
    assert state.channel_cooldown("q", "m", 0.0) == 0
    assert state.models(Provider("p")) == LISTED
    assert state.models(Provider("q")) == ()
    assert (state.pool_cursor("p"), state.pool_cursor("q")) == (1, 0)
    assert state.turn(client.id, "m") == Turn(1, {("p", "m"): 2, (client.id,): 1})
    assert state.turn("unknown", "m") == Turn()


def test_counters_count() -> None:
    state = State()
    state.counters["hedge"] += 1
    assert state.counters["hedge"] == 1
    assert state.counters["other"] == 0
