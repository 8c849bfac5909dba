"""What a restart must not forget: windows of a day and longer, and how long channels take.

The file's clock is the world's and the state's is trio's, which begins anew with the process:
what was taken an hour ago is put an hour before now, on whatever clock that is. What the file has
from the future, because the machine's clock was set back, was taken now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from uniapi.buckets import LONG, Bucket, Scope, Taking
from uniapi.config.bounds import RateLimits, Unit, Window
from uniapi.config.types import Config
from uniapi.state import State
from uniapi.stats.schema import DAY
from uniapi.stats.store import STEPS, Step, Store, Taken

READING: Final = 1.5  # seconds; the gateway does not serve before
_WAITS: Final = 5000  # attempts that tell how long channels take; 100 a channel are used


@dataclass(frozen=True, slots=True)
class Memory:
    """What the file remembers.

    Attributes:
        taken: by long windows, each in the order of time.
        waits: provider, its model, whether streamed, seconds to the first token; oldest first.
        whole: there was time to read it all.
    """

    taken: Sequence[tuple[Step, Taken]]
    waits: Sequence[tuple[str, str, bool, float]]
    whole: bool


def recall(store: Store, now: float) -> Memory:
    """Read it; blocks, for at most about `READING` seconds.

    Args:
        store: open.
        now: unix seconds.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    taken, whole = store.taken(READING)
    return Memory(taken, store.waits(now - DAY, _WAITS), whole)


def restore(memory: Memory, state: State, config: Config, now: float, unix: float) -> int:
    """Put what is remembered into the state, as far as the configuration still asks for it.

    Args:
        memory: from `recall`.
        state: of a gateway that has served nobody yet.
        config: says which buckets and windows there are.
        now: on trio's clock.
        unix: the same moment, unix seconds.

    Returns:
        How many windows go on where they were.
    """
    asked = dict(_windows(config))
    windows = set()
    for step, taken in memory.taken:
        window = Window(0, step.window, Unit(step.unit))
        if taken.last + step.window <= unix or window not in asked.get(_owner(step), ()):
            continue
        bucket = Bucket(Scope(step.scope), step.owner, step.key, step.model)
        at = now - max(0.0, unix - taken.last)
        state.buckets.metered(bucket).add((window,), window.unit, taken.amount, at, at)
        windows.add((bucket, window))
    names = config.providers_by_name
    for provider, model, stream, seconds in memory.waits:
        if provider in names:
            state.waits.add((provider, model, stream), seconds)
    return len(windows)


def add_up(taking: Taking, unix: float, steps: dict[Step, Taken]) -> None:
    """Add something taken to what is to be written.

    Args:
        taking: what a window has counted.
        unix: from when it counts, unix seconds.
        steps: what is to be written.
    """
    bucket, unit, seconds, amount, _ = taking
    number = int(unix // (seconds / STEPS))
    scope, owner, key, model = bucket
    step = Step(scope.value, owner, key, model, unit.value, seconds, number)
    before = steps.get(step)
    if before is None:
        steps[step] = Taken(unix, amount)
    else:
        before.last = max(before.last, unix)
        before.amount += amount


def _owner(step: Step) -> tuple[str, str, str]:
    return step.scope, step.owner, step.key


def _windows(config: Config) -> Iterator[tuple[tuple[str, str, str], frozenset[Window]]]:
    """Whose requests are counted in which long windows, by their lengths: limits are 0."""
    yield (Scope.SERVER, "", ""), _long(config.preferences.rate_limit)
    for key in config.keys:
        yield (Scope.CLIENT, key.id, ""), _long(key.preferences.rate_limit)
    for provider in config.providers:
        long = _long(provider.preferences.api_key_rate_limit)
        for digest in {key.digest for key in provider.keys} or {""}:
            yield (Scope.PROVIDER, provider.name, digest), long


def _long(limits: RateLimits | None) -> frozenset[Window]:
    if limits is None:
        return frozenset()
    rules = [rule for _, rule in limits.rules.entries]
    if limits.rules.default is not None:
        rules.append(limits.rules.default)
    return frozenset(
        Window(0, window.seconds, window.unit)
        for rule in rules
        for window in rule.windows
        if window.seconds >= LONG
    )
