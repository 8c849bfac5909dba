"""What the routes share: the configuration of the moment, and what outlives it."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from time import time

from uniapi.config.types import Config
from uniapi.frontend.answer import Answer
from uniapi.state import State
from uniapi.stats.budgets import Budgets
from uniapi.stats.ledger import Ledger
from uniapi.stats.metrics import Metrics
from uniapi.stats.reader import Reader
from uniapi.stats.recent import Recent
from uniapi.upstream.client import Client
from uniapi.upstream.credentials import Credentials
from uniapi.upstream.discovery import Discovery
from uniapi.upstream.media import Fetcher


@dataclass(slots=True)
class Gateway:
    """One running gateway.

    Attributes:
        config: swapped whole on reload; a request takes it once and keeps it.
        state: cursors, cooldowns, discovered models.
        client: the connections to providers.
        rng: where jitter and draws come from.
        discovery: what providers serve, when the config does not say.
        draining: the process is on its way out.
        fetcher: for media that requests point to.
        credentials: short-lived tokens.
        ledger: is told of every request that is over.
        metrics: what a scraper reads.
        recent: how channels did lately.
        budgets: what client keys have cost; `run` adds what the statistics file knows of it.
        reader: of the statistics file; None when there is none.
        live: the requests being served, and when they came, on trio's clock; by their `id()`.
    """

    config: Config
    state: State
    client: Client
    rng: Random = field(default_factory=Random)
    draining: bool = False
    fetcher: Fetcher = field(default_factory=Fetcher)
    ledger: Ledger = field(default_factory=Ledger)
    metrics: Metrics = field(default_factory=Metrics)
    recent: Recent = field(default_factory=Recent)
    reader: Reader | None = None
    live: dict[int, tuple[Answer, float]] = field(default_factory=dict)
    budgets: Budgets = field(init=False)
    credentials: Credentials = field(init=False)
    discovery: Discovery = field(init=False)

    def __post_init__(self) -> None:
        """Discovery reads the configuration of the moment; who counts is told of every request."""
        self.budgets = Budgets(self.state.spent, time())
        self.budgets.follow(self.config)
        self.ledger.listeners += [self.metrics.note, self.recent.note, self.budgets.note]
        self.credentials = Credentials(self.client)
        self.discovery = Discovery(self.client, self.credentials, self.state, lambda: self.config)
