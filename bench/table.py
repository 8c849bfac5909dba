"""Figures of many rounds, their medians, and how they are shown."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bench.scenarios import DIRECT, TITLES, Figures

_COLUMNS: Final = (
    ("cpu per call", "CPU per call, us", 1e6),
    ("cpu per chunk", "CPU per chunk, us", 1e6),
    ("rate", "a second", 1),
    ("latency p50", "latency p50, ms", 1e3),
    ("latency p99", "latency p99, ms", 1e3),
    ("ttft p50", "first token p50, ms", 1e3),
    ("jitter p99", "jitter p99, ms", 1e3),
    ("added p50", "added p50, ms", 1e3),
    ("added p99", "added p99, ms", 1e3),
    ("start", "start to listening, s", 1),
    ("rss idle", "idle RSS, MB", 1e-6),
    ("rss a stream", "RSS per open stream, KB", 1e-3),
    ("rss after", "RSS after, MB", 1e-6),
    ("plan full", "100 providers x 50 models, 200 clients, us", 1e6),
    ("plan tenth", "a tenth of each, us", 1e6),
    ("plan many keys", "200 keys a provider, us", 1e6),
)


@dataclass(slots=True)
class Table:
    """Figures by scenario, contender and round; seconds and bytes."""

    rows: dict[str, dict[str, list[Figures]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, scenario: str, contender: str, figures: Figures) -> None:
        """One round's."""
        self.rows[scenario][contender].append(figures)

    def values(self, scenario: str, contender: str, name: str) -> list[float]:
        """Of all rounds that have this figure."""
        return [one[name] for one in self._rounds(scenario, contender) if name in one]

    def median(self, scenario: str, contender: str, name: str) -> float | None:
        """Of these."""
        found = self.values(scenario, contender, name)
        return statistics.median(found) if found else None

    def ratios(self, scenario: str, contender: str, base: str, name: str) -> list[float]:
        """One contender's figure by another's of the same round, for every round."""
        pairs = self._pairs(scenario, contender, base, name)
        return [mine / its for mine, its in pairs if its]

    def ratio(self, scenario: str, contender: str, base: str, name: str) -> float | None:
        """The median of these."""
        found = self.ratios(scenario, contender, base, name)
        return statistics.median(found) if found else None

    def added(self, scenario: str, contender: str, base: str, name: str) -> list[float]:
        """What one contender's figure is above another's of the same round, for every round."""
        return [mine - its for mine, its in self._pairs(scenario, contender, base, name)]

    def _pairs(
        self, scenario: str, contender: str, base: str, name: str
    ) -> list[tuple[float, float]]:
        rounds = zip(self._rounds(scenario, contender), self._rounds(scenario, base), strict=False)
        return [(one[name], its[name]) for one, its in rounds if name in one and name in its]

    def _rounds(self, scenario: str, contender: str) -> list[Figures]:
        contenders: Mapping[str, list[Figures]] = self.rows.get(scenario, {})
        return contenders.get(contender, [])

    @property
    def errors(self) -> int:
        """Of all rounds."""
        return sum(
            int(figures.get("errors", 0))
            for contenders in self.rows.values()
            for rounds in contenders.values()
            for figures in rounds
        )

    def plain(self) -> dict[str, dict[str, list[dict[str, float]]]]:
        """Every round's figures, for JSON."""
        return {
            scenario: {one: [dict(figures) for figures in rounds] for one, rounds in row.items()}
            for scenario, row in self.rows.items()
        }

    def lines(self) -> list[str]:
        """The medians in Markdown, a table a scenario; CPU ratios are to the first contender."""
        found: list[str] = []
        for scenario in self.rows:
            found += ["", f"### {scenario}: {TITLES[scenario]}", "", *self._section(scenario)]
        return found[1:]

    def _section(self, scenario: str) -> list[str]:
        contenders = self.rows[scenario]
        shown = [
            (name, title, factor)
            for name, title, factor in _COLUMNS
            if any(self.median(scenario, one, name) is not None for one in contenders)
        ]
        first = next((one for one in contenders if one != DIRECT), DIRECT)
        ratios = any(self.median(scenario, one, "cpu per call") for one in contenders)
        heads = [title for _, title, _ in shown] + (["CPU ratio"] if ratios else []) + ["errors"]
        found = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        for one, rounds in contenders.items():
            cells = [_cell(self.median(scenario, one, name), factor) for name, _, factor in shown]
            if ratios:
                ratio = self.ratio(scenario, one, first, "cpu per call")
                cells.append("" if ratio is None else f"{ratio:.2f}")
            cells.append(str(int(sum(figures.get("errors", 0) for figures in rounds))))
            found.append(f"| {one} | " + " | ".join(cells) + " |")
        return found


def _cell(value: float | None, factor: float) -> str:
    return "" if value is None else figure(value * factor)


def figure(value: float) -> str:
    """Three significant digits, or all before the point; never an exponent."""
    size = abs(value)
    places = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{places}f}"
