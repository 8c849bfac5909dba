"""Hedging: when a second channel is asked beside a first that is slow, and whether it may be.

One hedge a request, and to another channel only: a provider that is slow is not helped by being
asked the same twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from uniapi.config.bounds import Hedge
from uniapi.config.types import ClientKey, Config
from uniapi.routing.walk import Attempt, Step, Walk
from uniapi.state import State


@dataclass(slots=True)
class Hedging:
    """One request's leave to hedge.

    Attributes:
        rule: when, and for which share of the requests.
        state: the waits that were seen, the budget and the counters.
        key: the digest of the client key whose budget it is.
        stream: whether the answers are streamed: whole ones take as long as they are.
        over: it has been done, or there was nobody to ask.
    """

    rule: Hedge
    state: State
    key: str
    stream: bool
    over: bool = False

    def delay(self, attempt: Attempt) -> float | None:
        """Seconds after its start at which this attempt is slow; None when that is no matter."""
        if self.over or not self.state.budget.has(self.key):
            return None
        if self.rule.percentile is None:
            return self.rule.after
        return self.state.waits.percentile(self._at(attempt), self.rule.percentile)

    def ask(self, walk: Walk, now: float) -> Step | None:
        """The attempt to start beside the slow one; None when there is nobody else."""
        self.over = True
        step = walk.beside(now)
        if step is not None:
            self.state.budget.spend(self.key)
            self.state.counters["hedges"] += 1
        return step

    def waited(self, attempt: Attempt, seconds: float) -> None:
        """An attempt took so long to its first token, or was given up after so long."""
        self.state.waits.add(self._at(attempt), seconds)

    def settled(self, *, won: bool, losers: int) -> None:
        """The race is over: whether the hedge won it, and how many were cancelled."""
        self.state.counters["hedges_won"] += won
        self.state.counters["attempts_cancelled"] += losers

    def _at(self, attempt: Attempt) -> tuple[str, str, bool]:
        return attempt.channel.provider.name, attempt.channel.upstream, self.stream


def hedging_for(config: Config, state: State, key: ClientKey, *, stream: bool) -> Hedging | None:
    """What the configuration allows one request of this key, which counts towards its budget."""
    own = key.preferences.hedge
    rule = config.preferences.hedge if own is None else own
    if rule is None or (rule.after is None and rule.percentile is None) or rule.budget <= 0:
        return None
    state.budget.request(key.id, rule.budget)
    return Hedging(rule, state, key.id, stream)
