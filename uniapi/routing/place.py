"""What one request has been through with one channel of its plan."""

from __future__ import annotations

from dataclasses import dataclass, field

from uniapi.config.types import Secret
from uniapi.errors import Failure
from uniapi.routing.plan import Slot

WINDOW = 1.5  # seconds in which a channel gets at most two attempts


@dataclass(slots=True)
class Place:
    """One channel of a walk.

    Attributes:
        slot: the channel and its keys.
        starts: when its attempts began.
        turn: the index of the key whose turn it is.
        refused: the keys that were refused, by index.
        dead: those of them that will not do a moment later either.
        retried: it had its second chance after a failure that may pass.
        waited: it had its wait for a Retry-After.
        trying: this request is the one that tries it after its rest.
        yielded: it let the others go first, because another request is trying it.
        ready: when a Retry-After lets it be asked again.
        last: how its latest attempt failed; None while one is under way.
    """

    slot: Slot
    starts: list[float] = field(default_factory=list)
    turn: int = 0
    refused: set[int] = field(default_factory=set)
    dead: set[int] = field(default_factory=set)
    retried: bool = False
    waited: bool = False
    trying: bool = False
    yielded: bool = False
    ready: float = 0.0
    last: Failure | None = None

    @property
    def key(self) -> Secret | None:
        """The key whose turn it is."""
        return self.slot.keys[self.turn]

    @property
    def at(self) -> tuple[str, str]:
        """Provider and upstream model."""
        return (self.slot.channel.provider.name, self.slot.channel.upstream)

    def pass_key(self) -> bool:
        """Give the turn to the next key not refused; False when there is none."""
        count = len(self.slot.keys)
        for step in range(1, count + 1):
            turn = (self.turn + step) % count
            if turn not in self.refused:
                self.turn = turn
                return True
        return False

    def free_at(self) -> float:
        """When another attempt would not be a third within the window."""
        return self.starts[-2] + WINDOW if len(self.starts) > 1 else 0.0
