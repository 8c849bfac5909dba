"""Bars as SVG, by hand: a panel a measure, a bar a contender, each panel on its own scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from bench.table import figure

_WIDTH: Final = 760
_LABELS: Final = 230  # of them for the names
_VALUES: Final = 90  # and for the figures
_BAR: Final = 18
_STEP: Final = 24  # from bar to bar
_HEAD: Final = 34  # of a panel
_SVG: Final = "http://www.w3.org/2000/svg"
_FONT: Final = "font-family='system-ui,sans-serif' font-size='13'"
_INK, _FAINT, _OURS, _THEIRS = "#222", "#666", "#1f77b4", "#b8bfc6"


@dataclass(frozen=True, slots=True)
class Panel:
    """One measure.

    Attributes:
        title: with its unit; less is better.
        bars: contender and value.
    """

    title: str
    bars: tuple[tuple[str, float], ...]


def svg(panels: tuple[Panel, ...], note: str) -> str:
    """The drawing."""
    height = 16 + sum(_HEAD + _STEP * len(panel.bars) + 10 for panel in panels) + 24
    size = f"width='{_WIDTH}' height='{height}'"
    found = [
        f"<svg xmlns='{_SVG}' viewBox='0 0 {_WIDTH} {height}' {size} role='img' {_FONT}>",
        f"<rect width='{_WIDTH}' height='{height}' fill='#fff'/>",
    ]
    y = 16
    for panel in panels:
        title = escape(panel.title)
        found.append(f"<text x='16' y='{y + 16}' font-weight='600' fill='{_INK}'>{title}</text>")
        y += _HEAD
        most = max((value for _, value in panel.bars), default=0.0) or 1.0
        for name, value in panel.bars:
            found += _bar(y, name, value, value / most)
            y += _STEP
        y += 10
    found.append(f"<text x='16' y='{y + 12}' font-size='11' fill='{_FAINT}'>{escape(note)}</text>")
    return "\n".join([*found, "</svg>", ""])


def _bar(y: int, name: str, value: float, share: float) -> list[str]:
    long = max(share * (_WIDTH - _LABELS - _VALUES - 16), 1.0)
    colour = _OURS if name.startswith("uniapi") else _THEIRS
    at, end, middle = _LABELS, _LABELS + long + 6, y + _BAR - 5
    return [
        f"<text x='{at - 8}' y='{middle}' text-anchor='end' fill='{_INK}'>{escape(name)}</text>",
        f"<rect x='{at}' y='{y}' width='{long:.1f}' height='{_BAR}' rx='2' fill='{colour}'/>",
        f"<text x='{end:.1f}' y='{middle}' fill='{_FAINT}'>{figure(value)}</text>",
    ]
