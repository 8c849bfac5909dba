"""Where limits are counted: at the moment an attempt is handed out.

A key without room gives way to the next, a channel without keys to the next channel. A nested
client key counts a request once, whatever its channels: with the first attempt behind it.
"""

from __future__ import annotations

from math import inf

from uniapi.config.types import Config
from uniapi.routing import limits
from uniapi.routing.limits import Claim, Denial
from uniapi.routing.place import Place
from uniapi.state import State


class Admission:
    """The limits that one request's attempts have met. Not shared between requests."""

    def __init__(self, config: Config, state: State, model: str) -> None:
        """`model` is the name the client asked for."""
        self._config = config
        self._state = state
        self._model = model
        self._entered: set[str] = set()  # nested keys that have counted this request
        self._denials: list[Denial] = []

    @property
    def soonest(self) -> Denial | None:
        """Of the limits that had no room, the one that has room first; None: none was met."""
        return min(self._denials, key=lambda denial: denial.wait or inf, default=None)

    def admits(self, place: Place, now: float, start: float) -> bool:
        """Count an attempt in its limits, with the first key that has room; False: none has."""
        entry = self._entry(place)
        denial = limits.check(self._state, entry, 0, now)
        while denial is None:
            claims = (*entry, *limits.of_channel(place.slot.channel, place.key))
            denial = limits.take(self._state, claims, 0, now, start)
            if denial is None:
                self._entered.update(place.slot.via)
                return True
            place.refused.add(place.turn)
            if place.pass_key():
                denial = None  # the next key may have room
        self._denials.append(denial)
        return False

    def _entry(self, place: Place) -> tuple[Claim, ...]:
        """The limits of the nested keys that lead to a channel and were not passed yet."""
        inner = (one for one in place.slot.via if one not in self._entered)
        keys = (self._config.keys_by_id[one] for one in inner)
        return tuple(claim for key in keys for claim in limits.of_nested(key, self._model))
