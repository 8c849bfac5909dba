"""What a scraper reads: counters and histograms of requests that are over, and gauges of others.

They live in memory and start at nothing with the process, as the format expects: whoever scrapes
keeps the history. A label is a name from the configuration, a name a provider listed or a word of
the code, never what a client sent, and a family has `MOST` label sets at most: a scrape cannot
grow with what strangers do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from uniapi.config.types import Config
from uniapi.stats.families import Counts, Family, Histograms, Read, Reading
from uniapi.stats.record import Attempted, Record

MOST: Final = 2_000  # label sets of a family: 100 channels with 20 outcomes
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

# Seconds to a first token: hosted models take 0.2 to 3, reasoning ones up to a minute; 10, 30, 60
# and 100 (the default) are where people set `model_timeout`.
FIRST: Final = (0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 100.0)
# Seconds of a whole answer: errors and small answers below 1, most below 30, long streams minutes.
WHOLE: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


class Metrics:
    """All the numbers of one process. For the event loop's thread only."""

    def __init__(self, most: int = MOST) -> None:
        """`most` label sets a family; beyond, `other`."""
        self._most = most
        channel = ("provider", "model")
        self.requests = Counts(
            "uniapi_requests_total",
            "Requests that are over, by route, HTTP status (none: the client left before there was "
            "one) and how they ended.",
            ("endpoint", "status", "outcome"),
            most,
        )
        self.attempts = Counts(
            "uniapi_attempts_total",
            "Calls to providers that are over, by how they ended and what they were made for: "
            "turn, hedge or rescue.",
            (*channel, "outcome", "why"),
            most,
        )
        self.tokens = Counts(
            "uniapi_tokens_total",
            "Tokens of answers as the providers counted them, under whoever finished the answer.",
            (*channel, "kind"),
            most,
        )
        self.cost = Counts(
            "uniapi_cost_dollars_total",
            "US dollars by the configuration's model_price, under whoever finished the answer.",
            channel,
            most,
        )
        self.limited = Counts(
            "uniapi_rate_limited_total",
            "Requests refused by a rate limit, by the digest of the client's key.",
            ("key",),
            most,
        )
        self.first = Histograms(
            "uniapi_attempt_first_token_seconds",
            "Time from a call's beginning to its first token.",
            ("provider",),
            FIRST,
            most,
        )
        self.whole = Histograms(
            "uniapi_attempt_duration_seconds",
            "Time from a call's beginning to its end.",
            ("provider",),
            WHOLE,
            most,
        )
        self.request_first = Histograms(
            "uniapi_request_first_token_seconds",
            "Time from a request's first byte to its first token, failed attempts included.",
            ("endpoint",),
            FIRST,
            most,
        )
        self.request_whole = Histograms(
            "uniapi_request_duration_seconds",
            "Time from a request's first byte to its answer's last.",
            ("endpoint",),
            WHOLE,
            most,
        )
        self._own: tuple[Counts | Histograms, ...] = (
            self.requests, self.request_first, self.request_whole, self.attempts, self.first,
            self.whole, self.tokens, self.cost, self.limited,
        )  # fmt: skip
        self._names = {family.name for family in self._own}
        self._read: dict[str, Read] = {}

    def note(self, record: Record) -> None:
        """A request is over: what a `Ledger` calls."""
        endpoint = record.endpoint
        self.requests.add((endpoint, record.status or "none", record.outcome))
        self.request_whole.add((endpoint,), record.seconds)
        if record.first is not None:
            self.request_first.add((endpoint,), record.first)
        if record.limit:
            self.limited.add((record.key,))
        for attempt in record.attempts:
            self._note_attempt(attempt)
        at = record.provider, record.upstream
        if record.total:
            self.tokens.add((*at, "prompt"), record.prompt)
            self.tokens.add((*at, "completion"), record.completion)
        if record.cost:
            if not record.provider and record.attempts:  # the client left the last one
                at = record.attempts[-1].provider, record.attempts[-1].upstream
            self.cost.add(at, record.cost)

    def _note_attempt(self, attempt: Attempted) -> None:
        provider = attempt.provider
        why = attempt.why or "turn"
        self.attempts.add((provider, attempt.upstream, attempt.outcome, why))
        self.whole.add((provider,), attempt.seconds)
        if attempt.first is not None:
            self.first.add((provider,), attempt.first)

    def follow(self, config: Config) -> None:
        """Make room for this configuration's names, in families that former ones have filled."""
        by_provider = (self.attempts, self.first, self.whole, self.tokens, self.cost)
        for family in by_provider:
            family.keep(config.providers_by_name)
        self.limited.keep(config.keys_by_id)

    def gauge(
        self, name: str, told: str, read: Callable[[], Reading], labels: Sequence[str] = ()
    ) -> None:
        """Show a number that goes up and down; another of the same name takes its place.

        Args:
            name: `uniapi_` and words, with the unit last.
            told: what it is, for a person.
            read: gives it when somebody looks; must not wait. What it raises is logged, and the
                family is left out.
            labels: names of the labels, in the order of the keys `read` gives.

        Raises:
            ValueError: not a name, or one of the families kept here.
        """
        self._register(name, told, "gauge", read, labels)

    def counter(
        self, name: str, told: str, read: Callable[[], Reading], labels: Sequence[str] = ()
    ) -> None:
        """As `gauge`, for what only grows; the name ends in `_total`."""
        self._register(name, told, "counter", read, labels)

    def _register(
        self,
        name: str,
        told: str,
        kind: str,
        read: Callable[[], Reading],
        labels: Sequence[str],
    ) -> None:
        if not all(_NAME.fullmatch(one) for one in (name, *labels)) or name in self._names:
            raise ValueError(f"{name}: not a name for a metric here")
        self._read[name] = Read((name, told, kind), tuple(labels), read, self._most)

    def value(self, name: str) -> Reading:
        """What a gauge or counter registered here says now; None when there is none."""
        found = self._read.get(name)
        return None if found is None else found.reading()

    def render(self) -> str:
        """Everything, in Prometheus' text format 0.0.4."""
        families: tuple[Family, ...] = (*self._own, *self._read.values())
        return "\n".join([*(line for family in families for line in family.lines()), ""])
