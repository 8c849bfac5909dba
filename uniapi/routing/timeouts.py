"""How long an attempt may keep us waiting, from the layers of the configuration.

Each of first, idle and total is looked up by itself, from the most particular layer down:
the provider's entry for the model, the provider's default, the global entry, the global default,
then what a `timeout_policy` says, then the default timeout. So a map that sets `first` alone
inherits the rest. The requested name is looked up before the upstream name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from uniapi.config.bounds import Silence, TimeoutPolicy
from uniapi.config.types import Channel, Config
from uniapi.routing.ask import Ask, Facts, facts, fits

CONNECT = 15.0  # seconds; the seeds' program uses the same


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The limits of one attempt, in seconds.

    Attributes:
        first: before the first token.
        idle: between tokens.
        total: for the whole attempt; None for no limit.
        connect: for the connection to stand, TLS and proxy included.
    """

    first: float
    idle: float
    total: float | None = None
    connect: float = CONNECT


def depends(config: Config, channel: Channel) -> bool:
    """Whether the limits depend on more of a request than the names of its model."""
    own = channel.provider.preferences.timeout_policy
    return own is not None or config.preferences.timeout_policy is not None


def resolve(
    config: Config,
    channel: Channel,
    requested: str,
    ask: Ask | None = None,
    role: str | None = None,
) -> Timeouts:
    """The limits for one channel asked for the model `requested`.

    Args:
        config: the whole configuration.
        channel: who is asked.
        requested: the model's name as the client wrote it.
        ask: the request, for what a `timeout_policy` may match; None is an ordinary one.
        role: the client key's, for the same.
    """
    names = (requested, channel.upstream)
    own = channel.provider.preferences.model_timeout
    shared = config.preferences.model_timeout
    layers = (own.named(*names), own.default, shared.named(*names), shared.default)
    policies = [
        policy
        for policy in (
            config.preferences.timeout_policy,
            channel.provider.preferences.timeout_policy,
        )
        if policy is not None
    ]
    policy = _merged(policies, facts(ask or Ask(requested), channel, role)) if policies else {}
    fallback = config.default_timeout

    def pick(read: Callable[[Silence], float | None], phase: str) -> float | None:
        said = _first(read(layer) for layer in layers if layer is not None)
        return policy.get(phase) if said is None else said

    first = pick(lambda silence: silence.first, "first_byte")
    idle = pick(lambda silence: silence.idle, "idle")
    return Timeouts(
        first=fallback if first is None else first,
        idle=fallback if idle is None else idle,
        total=pick(lambda silence: silence.total, "total"),
        connect=policy.get("connect", CONNECT),
    )


def keepalive(config: Config, channel: Channel, requested: str) -> float | None:
    """Seconds between keep-alive comments for a waiting client; None for none.

    `keepalive_interval`, from the same layers as `model_timeout`.
    """
    names = (requested, channel.upstream)
    own = channel.provider.preferences.keepalive_interval
    shared = config.preferences.keepalive_interval
    return _first((own.named(*names), own.default, shared.named(*names), shared.default))


def _first(values: Iterable[float | None]) -> float | None:
    return next((value for value in values if value is not None), None)


def _merged(policies: list[TimeoutPolicy], known: Facts) -> dict[str, float]:
    """The policies in one: defaults first, then of each the rule with the most matching fields."""
    merged: dict[str, float] = {}
    for policy in policies:
        merged.update(policy.default)
    for policy in policies:
        fitting = [rule for rule in policy.rules if fits(rule.match, known)]
        if fitting:
            merged.update(max(fitting, key=lambda rule: len(rule.match)).timeout)
    return merged
