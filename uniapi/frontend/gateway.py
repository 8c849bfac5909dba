"""What the routes share: the configuration of the moment, and what outlives it."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from uniapi.config.types import Config
from uniapi.state import State
from uniapi.upstream.client import Client
from uniapi.upstream.discovery import Discovery


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
    """

    config: Config
    state: State
    client: Client
    rng: Random = field(default_factory=Random)
    draining: bool = False
    discovery: Discovery = field(init=False)

    def __post_init__(self) -> None:
        """Discovery reads the configuration of the moment."""
        self.discovery = Discovery(self.client, self.state, lambda: self.config)
