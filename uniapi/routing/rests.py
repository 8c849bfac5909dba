"""How long a key and a channel rest after a failure; seconds, 0 for not at all.

A key that met a rate limit is well again in a moment. One that is invalid, or whose account is
empty, waits for a person or for a new month: unless the configuration says how long, it rests
`LONGER` times the usual period, though no more than `AN_HOUR` when the usual one is shorter.
"""

from __future__ import annotations

from typing import Final

from uniapi.config.types import Channel, Config, ProviderPreferences
from uniapi.errors import Failure, Kind
from uniapi.routing.failures import MEANING

LONGER: Final = 10.0
AN_HOUR: Final = 3600.0
LONGEST: Final = 86_400.0  # a Retry-After beyond a day is not believed


def key_rest(preferences: ProviderPreferences, failure: Failure) -> float:
    """How long a provider's key rests: as long as the provider says, else as configured."""
    return _told(failure, _key_period(preferences, failure.kind))


def channel_rest(config: Config, channel: Channel, failure: Failure, *, keyless: bool) -> float:
    """How long a channel rests; one that has no key to rest in its place rests as a key would."""
    own = channel.provider.preferences.cooldown_period
    period = config.preferences.cooldown_period if own is None else own
    if keyless and MEANING[failure.kind].cools_key and period > 0:
        return _told(failure, period)
    return period


def _told(failure: Failure, period: float) -> float:
    return min(failure.retry_after or period, LONGEST)


def _key_period(preferences: ProviderPreferences, kind: Kind) -> float:
    usual = preferences.api_key_cooldown_period
    if kind is Kind.RATE_LIMIT:
        special = preferences.api_key_rate_limit_cooldown_period
        return usual if special is None else special
    special = preferences.api_key_quota_cooldown_period
    return max(usual, min(LONGER * usual, AN_HOUR)) if special is None else special
