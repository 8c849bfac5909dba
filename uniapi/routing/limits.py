"""Rate limits: who is counted with whom, whether one more fits, and what is said when not.

A client key's limit and the whole server's are one bucket for all models in the scalar form, and
one bucket a model in the map form. A provider's limit counts per key and upstream model in either
form, for that is how providers meter. Names no rule leads to share one bucket, so that a client
cannot fill the memory with them, nor get past a limit by inventing some.

`take` looks at every limit first and counts only when all of them have room: what is refused is
not counted anywhere. Nothing here awaits, so nobody comes between the look and the count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from uniapi.buckets import Bucket, Scope
from uniapi.config.bounds import RateLimit, RateLimits, Unit, Window
from uniapi.config.types import Channel, ClientKey, Config, Secret
from uniapi.errors import ApiError
from uniapi.routing.ask import Ask
from uniapi.routing.match import expand
from uniapi.state import State

_UNITS: Final = {
    1.0: "s",
    60.0: "min",
    3600.0: "h",
    86_400.0: "d",
    30 * 86_400.0: "month",
    365 * 86_400.0: "year",
}
_LONGEST_NAME: Final = 100  # letters of a model's name in a message; the client chose it


@dataclass(slots=True)
class LimitReached(ApiError):  # noqa: N818 - an answer, as its parent is
    """The answer to a request that a rate limit refused.

    Attributes:
        limit: which limit, for the log.
    """

    limit: str = ""


@dataclass(frozen=True, slots=True)
class Denial:
    """A limit that has no room.

    Attributes:
        limit: which one, for a person: `15/min of this key for gpt-4o`.
        wait: seconds until it has room, more than 0; None when the request by itself is too large.
    """

    limit: str
    wait: float | None

    @property
    def why(self) -> str:
        """For a list of reasons."""
        if self.wait is None:
            return f"larger than {self.limit}"
        return f"{self.limit} is used up for another {self.wait:.1f} s"

    @property
    def status(self) -> int:
        """429 for what passes, 413 for what does not."""
        return 413 if self.wait is None else 429

    def error(self, detail: str = "") -> LimitReached:
        """The answer to the client; `detail` says more than the limit itself does."""
        if self.wait is None:
            said = detail or f"the request is larger than {self.limit}"
            return LimitReached(413, said, "request_too_large", limit=self.limit)
        seconds = math.ceil(self.wait)
        return LimitReached(
            429,
            f"rate limit reached: {detail or self.limit}; try again in {seconds} s",
            "rate_limit_exceeded",
            headers=((b"retry-after", str(seconds).encode()),),
            limit=self.limit,
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """A rate limit that a request has to pass, and where it is counted.

    Attributes:
        bucket: with whom it is counted.
        limit: the windows and the cap on one request.
        whose: for a person: `of this key for gpt-4o`.
    """

    bucket: Bucket
    limit: RateLimit
    whose: str


def of_client(config: Config, state: State, key: ClientKey, model: str) -> tuple[Claim, ...]:
    """What a request has to pass before anybody is asked: the key's limit and the server's."""
    given = (
        (key.preferences.rate_limit, Scope.CLIENT, key.id, "of this key"),
        (config.preferences.rate_limit, Scope.SERVER, "", "of this server"),
    )
    if all(limits is None for limits, *_ in given):
        return ()
    by_name = any(limits is not None and limits.per_model for limits, *_ in given)
    known = model if by_name and expand(config, state, key, model) else ""
    claims = (
        _claim(limits, model, Bucket(scope, owner, model=known), whose)
        for limits, scope, owner, whose in given
    )
    return tuple(claim for claim in claims if claim is not None)


def of_nested(key: ClientKey, model: str) -> tuple[Claim, ...]:
    """What a request has to pass to go on through another client key; the key has the model."""
    bucket = Bucket(Scope.CLIENT, key.id, model=model)
    claim = _claim(key.preferences.rate_limit, model, bucket, f"of the nested key {key.id}")
    return () if claim is None else (claim,)


def of_channel(channel: Channel, key: Secret | None) -> tuple[Claim, ...]:
    """What an attempt on a channel with one of its keys has to pass."""
    limits = channel.provider.preferences.api_key_rate_limit
    rule = None if limits is None else limits.rules.get(channel.upstream, channel.name)
    if rule is None:
        return ()
    digest = "" if key is None else key.digest
    bucket = Bucket(Scope.PROVIDER, channel.provider.name, digest, channel.upstream)
    return (Claim(bucket, rule, f"of {'a key of ' if digest else ''}{channel.label}"),)


def _claim(limits: RateLimits | None, model: str, bucket: Bucket, whose: str) -> Claim | None:
    rule = None if limits is None else limits.rules.get(model)
    if limits is None or rule is None:
        return None
    if not limits.per_model:
        return Claim(bucket._replace(model=""), rule, whose)
    return Claim(bucket, rule, f"{whose} for {model[:_LONGEST_NAME]}")


def check(state: State, claims: Sequence[Claim], tokens: int, now: float) -> Denial | None:
    """The limit that keeps one more request out the longest; None when there is room in all.

    A window of tokens has room until it is full: the request that crosses its number is let in,
    because what an answer costs is only known after it.

    Args:
        state: what was used so far.
        claims: the limits; all of them hold.
        tokens: how many the request itself is thought to have, for `N/tpr`.
        now: the time.
    """
    worst: Denial | None = None
    for claim in claims:
        most = claim.limit.tokens_per_request
        if most is not None and tokens > most:
            return Denial(f"{most}/tpr {claim.whose}", None)
        meter = state.buckets.get(claim.bucket)
        if meter is None:
            continue
        for window in claim.limit.windows:
            wait = meter.wait(window, now)
            if wait > (0.0 if worst is None or worst.wait is None else worst.wait):
                worst = Denial(f"{written(window)} {claim.whose}", wait)
    return worst


def take(
    state: State,
    claims: Sequence[Claim],
    tokens: int,
    now: float,
    start: float | None = None,
) -> Denial | None:
    """Count one request in all the limits, unless one of them has no room.

    Args:
        state: counts.
        claims: the limits.
        tokens: as for `check`.
        now: the time.
        start: when the request begins, if that is later.

    Returns:
        None when it was counted; else nothing was.
    """
    denial = check(state, claims, tokens, now)
    if denial is None:
        begin = now if start is None else start
        for claim in claims:
            _add(state, claim, Unit.REQUESTS, 1, now, begin)
    return denial


def spend(state: State, claims: Sequence[Claim], tokens: int, now: float) -> None:
    """Count the tokens of an answer in the windows that count tokens."""
    if tokens > 0:
        for claim in claims:
            _add(state, claim, Unit.TOKENS, tokens, now, now)


def _add(state: State, claim: Claim, unit: Unit, amount: int, now: float, start: float) -> None:
    windows = claim.limit.windows
    if any(window.unit is unit for window in windows):
        state.buckets.count(claim.bucket, windows, unit, amount, now, start)


def left(state: State, claim: Claim, now: float) -> Iterator[tuple[Window, int]]:
    """What is left in each window of a limit."""
    meter = state.buckets.get(claim.bucket)
    for window in claim.limit.windows:
        yield window, window.limit if meter is None else meter.left(window, now)


def admit(config: Config, state: State, key: ClientKey, ask: Ask, now: float) -> Denial | None:
    """Count a client's request in the limits of its key and of the server, if they have room."""
    return take(state, of_client(config, state, key, ask.model), ask.tokens, now)


def written(window: Window) -> str:
    """A window as the configuration has it: `15/min`, `100000 tokens/min`."""
    unit = _UNITS.get(window.seconds, f"{window.seconds:g} s")
    return f"{window.limit}{' tokens' if window.unit is Unit.TOKENS else ''}/{unit}"
