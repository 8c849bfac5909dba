"""What of a gateway goes up and down, shown among its metrics."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Final

import trio

from uniapi import __version__
from uniapi.frontend import live
from uniapi.frontend.gateway import Gateway
from uniapi.state import Cooldown
from uniapi.stats import process
from uniapi.stats.families import Reading

# Name in the state's counters: name and meaning here.
_COUNTERS: Final = {
    "hedges": ("uniapi_hedges_total", "Second channels asked because the first was slow."),
    "hedges_won": ("uniapi_hedges_won_total", "Of these, those that answered first."),
    "attempts_cancelled": (
        "uniapi_attempts_cancelled_total",
        "Calls given up because another answered first.",
    ),
    "config_reloads": (
        "uniapi_config_reloads_total",
        "Configurations put in place of another without a restart.",
    ),
    "config_rejected": (
        "uniapi_config_rejected_total",
        "Configurations that could not be used; the one before each goes on serving.",
    ),
    "rescues": ("uniapi_rescues_total", "Answers that broke off and were to be carried on."),
}


def measure(gateway: Gateway) -> None:
    """Show this gateway in its own metrics; may be done again."""
    metrics = gateway.metrics
    build: Reading = {(__version__, platform.python_version()): 1.0}
    metrics.gauge(
        "uniapi_build_info",
        "Which program this is.",
        lambda: build,
        ("version", "python"),
    )
    metrics.gauge(
        "uniapi_live_requests",
        "Requests being served: reading, waiting for a token, answering, or not for a provider.",
        lambda: _stages(gateway),
        ("stage",),
    )
    metrics.gauge(
        "uniapi_tasks",
        "Tasks of the event loop.",
        lambda: trio.lowlevel.current_statistics().tasks_living,
    )
    metrics.gauge(
        "uniapi_upstream_connections",
        "Connections to providers; those that wait at a proxy left out.",
        lambda: _connections(gateway),
        ("state",),
    )
    _measure_state(gateway)
    process.measure(metrics)


def _measure_state(gateway: Gateway) -> None:
    metrics = gateway.metrics
    metrics.gauge(
        "uniapi_channels_resting",
        "Channels that rest after a failure.",
        lambda: _resting(gateway, gateway.state.channel_rests),
        ("provider",),
    )
    metrics.gauge(
        "uniapi_provider_keys_resting",
        "Providers' keys that rest after a failure.",
        lambda: _resting(gateway, gateway.state.key_rests),
        ("provider",),
    )
    for name, (shown, told) in _COUNTERS.items():
        metrics.counter(shown, told, partial(_counted, gateway, name))


def _counted(gateway: Gateway, name: str) -> Reading:
    return gateway.state.counters[name]


def _stages(gateway: Gateway) -> Reading:
    counted = Counter(live.stage(answer) for answer, _ in gateway.live.values())
    return {(stage,): counted[stage] for stage in live.STAGES}


def _connections(gateway: Gateway) -> Reading:
    idle = gateway.client.idle_connections
    return {("in_use",): gateway.client.open_connections - idle, ("idle",): idle}


def _resting(gateway: Gateway, rests: Mapping[tuple[str, str], Cooldown]) -> Reading:
    """How many, by provider; a configured one that has none is 0, so that an alert can end."""
    now = trio.current_time()
    counted: dict[tuple[str, ...], float] = {
        (provider.name,): 0.0 for provider in gateway.config.providers
    }
    for (provider, _), cooldown in rests.items():
        if cooldown.until > now:
            counted[(provider,)] = counted.get((provider,), 0.0) + 1
    return counted
