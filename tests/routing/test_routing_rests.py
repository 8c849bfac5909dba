"""How long a key and a channel rest."""

from __future__ import annotations

import pytest

from uniapi.config.types import Channel, Config, Preferences, Provider, ProviderPreferences
from uniapi.errors import Failure, Kind
from uniapi.routing.rests import channel_rest, key_rest


@pytest.mark.parametrize("kind", [Kind.KEY, Kind.QUOTA])
@pytest.mark.parametrize(
    ("period", "rest"), [(0, 0), (6, 60), (60, 600), (600, 3600), (3600, 3600), (9000, 9000)]
)
def test_a_refused_key_rests_ten_times_as_long_an_hour_at_most_and_never_less(
    kind: Kind, period: float, rest: float
) -> None:
    usual = ProviderPreferences(api_key_cooldown_period=period)
    assert key_rest(usual, Failure(kind, "no", 401)) == rest
    assert key_rest(usual, Failure(Kind.RATE_LIMIT, "no", 429)) == period


def test_what_the_configuration_says_of_them_counts() -> None:
    told = ProviderPreferences(
        api_key_cooldown_period=60,
        api_key_rate_limit_cooldown_period=0,
        api_key_quota_cooldown_period=21_600,
    )
    assert key_rest(told, Failure(Kind.RATE_LIMIT, "no", 429)) == 0
    assert key_rest(told, Failure(Kind.KEY, "no", 401)) == 21_600
    assert key_rest(told, Failure(Kind.QUOTA, "no", 402)) == 21_600


@pytest.mark.parametrize(("said", "rest"), [(7, 7), (1e9, 86_400), (None, 60)])
def test_the_providers_word_counts_most_up_to_a_day(said: float | None, rest: float) -> None:
    usual = ProviderPreferences(api_key_cooldown_period=60)
    assert key_rest(usual, Failure(Kind.RATE_LIMIT, "no", 429, retry_after=said)) == rest


@pytest.mark.parametrize(
    ("own", "shared", "keyless", "kind", "rest"),
    [
        (None, 300, False, Kind.SERVER, 300),
        (20, 300, False, Kind.SERVER, 20),
        (0, 300, True, Kind.RATE_LIMIT, 0),
        (None, 300, True, Kind.RATE_LIMIT, 9),
        (None, 300, False, Kind.RATE_LIMIT, 300),
        (None, 300, True, Kind.SERVER, 300),
    ],
)
def test_a_channel_rests_as_configured_or_as_its_missing_key_would(
    own: float | None, shared: float, keyless: bool, kind: Kind, rest: float
) -> None:
    provider = Provider("p", preferences=ProviderPreferences(cooldown_period=own))
    config = Config((provider,), preferences=Preferences(cooldown_period=shared))
    failure = Failure(kind, "no", 500, retry_after=9)
    assert channel_rest(config, Channel(provider, "m", "m"), failure, keyless=keyless) == rest
