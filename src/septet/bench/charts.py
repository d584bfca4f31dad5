"""Charts as SVG text: cost–quality curves, interval bars, shares, reliability. No library, no script.

Colours are CSS classes (`c0` … `c9`, defined in page.css for light and dark), so a chart fits either. Every mark
has a <title>, which a browser shows on hover. All text that comes from outside is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Literal

from septet.bench.results import Span

N_COLOURS = 10
"""Colours told apart; a further series has the same colour with a dashed line."""

Shape = Literal["triangle", "down", "ring", "cross", "diamond", "square"]
"""Told apart without colour; in the order in which they are given to bounds."""


@dataclass(frozen=True)
class Vertex:
    """A point of a curve in data units, and what it says when hovered over."""

    x: Span
    y: Span
    title: str


@dataclass(frozen=True)
class Series:
    """A curve: its CSS class, by which a legend can hide it, its colour number, and its points, the setting
    that is reported first; the line goes through them by cost."""

    css: str
    colour: int
    points: tuple[Vertex, ...]


@dataclass(frozen=True)
class Mark:
    """A bound, drawn in the colour of text: a shape at a point."""

    css: str
    shape: Shape
    point: Vertex


# --- scales ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """From data to pixels along one axis; logarithmic where costs differ by more than a factor of eight."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, *, log: bool = False) -> Scale:
        """A scale that holds all values that are numbers, with a margin of a twentieth on both sides."""
        known = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
        low, high = min(known), max(known)
        if log and low > 0 and high / low > 8:
            margin = (high / low) ** 0.05
            return cls(low / margin, high * margin, start, end, log=True)
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
        return cls(low - margin if low != 0 or not log else 0.0, high + margin, start, end)

    def __call__(self, value: float) -> float:
        """The pixel of a value; one outside is put on the edge."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round numbers inside, at most nine or so."""
        if not self.log:
            return _round_steps(self.low, self.high)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in ((1, 2, 5), (1, 3), (1,)):
            found = [s * 10.0**p for p in powers for s in steps if self.low <= s * 10.0**p <= self.high]
            if len(found) <= 8:
                break
        return found


def _round_steps(low: float, high: float) -> list[float]:
    rough = (high - low) / 8
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(s * size for s in (1, 2, 2.5, 5, 10) if s * size >= rough * 0.999)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step) + 1)]


# --- cost against quality --------------------------------------------------------------------------

_WIDTH, _HEIGHT = 820.0, 460.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 16.0, 14.0, 46.0


def cost_quality(
    series: Sequence[Series],
    marks: Sequence[Mark],
    *,
    line: Sequence[Vertex] = (),
    level: tuple[float, str] | None = None,
    money: Callable[[float], str],
) -> str:
    """Curves of quality over cost, bounds as marks, one dashed `line` (the zero router) and a named `level`.

    Marks far above or below all curves, as an oracle is, are put on the edge with an arrow, so that the curves
    keep their room.
    """
    on = [p for s in series for p in s.points] + list(line)
    near = _near([m.point for m in marks], on)
    across = Scale.over(
        (p.x.value for p in [*on, *(m.point for m in marks)]), _LEFT, _WIDTH - _RIGHT, log=True
    )
    heights = [p.y.value for p in on + near] + ([level[0]] if level else [])
    up = Scale.over(heights, _HEIGHT - _BOTTOM, _TOP)
    parts = [_axes(across, up, money)]
    if level is not None:
        parts.append(_level(level, up))
    if line:
        path = _path((across(x), up(y)) for x, y in _straight(line))
        parts.append(f'<g class="zero"><path d="{path}"/>{_dots(line, across, up, 3)}</g>')
    parts += [_series(s, across, up) for s in series]
    parts += [_mark(m, across, up) for m in marks if _known(m.point)]
    label = "Mean quality over mean cost of each router"
    return (
        f'<svg class="curves" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _straight(line: Sequence[Vertex], steps: int = 24) -> list[tuple[float, float]]:
    """Points along straight lines in data units, which are bent on a logarithmic axis."""
    found = [(line[0].x.value, line[0].y.value)]
    for a, b in pairwise(line):
        shares = [k / steps for k in range(1, steps + 1)]
        found += [
            (a.x.value + t * (b.x.value - a.x.value), a.y.value + t * (b.y.value - a.y.value)) for t in shares
        ]
    return found


def _near(marks: Sequence[Vertex], on: Sequence[Vertex]) -> list[Vertex]:
    """The marks within half the curves' height of them: those for which the axis makes room."""
    heights = [p.y.value for p in on if _known(p)]
    known = [p for p in marks if _known(p)]
    if not heights:
        return known
    top = max(heights) + 0.5 * (max(heights) - min(heights))
    bottom = min(heights) - 0.5 * (max(heights) - min(heights))
    return [p for p in known if bottom <= p.y.value <= top]


def _known(p: Vertex) -> bool:
    return math.isfinite(p.x.value) and math.isfinite(p.y.value)


def _axes(across: Scale, up: Scale, money: Callable[[float], str]) -> str:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for tick in up.ticks():
        y = up(tick)
        parts.append(f'<line x1="{_LEFT:g}" x2="{right:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8:g}" y="{y + 4:.1f}" text-anchor="end">{tick:.3g}</text>')
    for tick in across.ticks():
        x = across(tick)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP:g}" y2="{bottom:g}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 18:g}" text-anchor="middle">{escape(money(tick))}</text>'
        )
    scale = ", logarithmic" if across.log else ""
    parts.append(
        f'<text class="axis" x="{(right + _LEFT) / 2:g}" y="{_HEIGHT - 8:g}" text-anchor="middle">'
        f"USD per 1,000 questions{scale}</text>"
    )
    middle = (bottom + _TOP) / 2
    parts.append(
        f'<text class="axis" x="14" y="{middle:g}" text-anchor="middle" '
        f'transform="rotate(-90 14 {middle:g})">mean quality</text>'
    )
    return f'<g class="axes">{"".join(parts)}</g>'


def _level(level: tuple[float, str], up: Scale) -> str:
    y = up(level[0])
    return (
        f'<g class="level"><line x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT + 6:g}" y="{y - 5:.1f}">{escape(level[1])}</text></g>'
    )


def _series(s: Series, across: Scale, up: Scale) -> str:
    points = [p for p in s.points if _known(p)]
    if not points:
        return ""
    by_cost = sorted(points, key=lambda p: p.x.value)
    upper = [(across(p.x.value), up(p.y.high)) for p in by_cost if math.isfinite(p.y.high)]
    lower = [(across(p.x.value), up(p.y.low)) for p in reversed(by_cost) if math.isfinite(p.y.low)]
    band = f'<path class="band" d="{_path(upper + lower)}Z"/>' if upper and lower else ""
    path = _path((across(p.x.value), up(p.y.value)) for p in by_cost)
    dashed = " dashed" if s.colour >= N_COLOURS else ""
    return (
        f'<g class="series {s.css} c{s.colour % N_COLOURS}{dashed}">{band}<path class="line" d="{path}"/>'
        f"{_dots(points, across, up, 2.6)}</g>"
    )


def _dots(points: Sequence[Vertex], across: Scale, up: Scale, radius: float) -> str:
    """Circles, of those within about three pixels only one; the first, which is the one reported, is larger."""
    seen: set[tuple[int, int]] = set()
    parts = []
    for p in points:
        x, y = across(p.x.value), up(p.y.value)
        if (place := (round(x / 3), round(y / 3))) in seen:
            continue
        r = radius if seen else radius + 1.4
        seen.add(place)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:g}"><title>{escape(p.title)}</title></circle>')
    return "".join(parts)


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


_SHAPES: dict[Shape, str] = {
    "triangle": "M0-7L7 6H-7Z",
    "down": "M0 7L7-6H-7Z",
    "ring": "M-6 0A6 6 0 1 1 6 0A6 6 0 1 1-6 0ZM-2.5 0A2.5 2.5 0 1 0 2.5 0A2.5 2.5 0 1 0-2.5 0Z",
    "cross": "M-6-2H-2V-6H2V-2H6V2H2V6H-2V2H-6Z",
    "diamond": "M0-7L7 0L0 7L-7 0Z",
    "square": "M-5-5H5V5H-5Z",
}


def _mark(m: Mark, across: Scale, up: Scale) -> str:
    x, y = across(m.point.x.value), up(m.point.y.value)
    side = (m.point.y.value > up.high) - (m.point.y.value < up.low)  # 1 above, −1 below, 0 inside
    arrow = f'<path class="beyond" d="M-4 {-11 * side}L0 {-16 * side}L4 {-11 * side}"/>' if side else ""
    y += 16 * side
    title = m.point.title + (f" ({'above' if side > 0 else 'below'} the range of this chart)" if side else "")
    return (
        f'<g class="mark {m.css}" transform="translate({x:.1f} {y:.1f})">'
        f'<path d="{_SHAPES[m.shape]}"/>{arrow}<title>{escape(title)}</title></g>'
    )


def sample(colour: int, shape: Shape | None = None) -> str:
    """A small sample for a legend: a line in the colour, or a shape."""
    if shape is not None:
        return f'<svg class="sample mark" viewBox="-9 -9 18 18"><path d="{_SHAPES[shape]}"/></svg>'
    dashed = " dashed" if colour >= N_COLOURS else ""
    return (
        f'<svg class="sample series c{colour % N_COLOURS}{dashed}" viewBox="0 0 24 10">'
        '<path class="line" d="M1 5H23"/></svg>'
    )


# --- small charts ----------------------------------------------------------------------------------


def interval_bar(span: Span, scale: Scale, level: float, *, strong: bool) -> str:
    """A dot and its interval on a scale shared by the rows of a table, with a line at `level`."""
    if not math.isfinite(span.value):
        return ""
    parts = []
    if math.isfinite(level):
        parts.append(f'<line class="at" x1="{scale(level):.1f}" x2="{scale(level):.1f}" y1="0" y2="18"/>')
    if math.isfinite(span.low) and math.isfinite(span.high):
        parts.append(
            f'<line class="reach" x1="{scale(span.low):.1f}" x2="{scale(span.high):.1f}" y1="9" y2="9"/>'
        )
    parts.append(f'<circle cx="{scale(span.value):.1f}" cy="9" r="3.5"/>')
    kind = "strong" if strong else "faint"
    return f'<svg class="bar {kind}" viewBox="0 0 {scale.end + scale.start:g} 18">{"".join(parts)}</svg>'


def shares(parts: Sequence[tuple[str, float, int | None]]) -> str:
    """A bar of shares that add up to one: (name, share, colour number, or None for the rest in grey)."""
    drawn, at = [], 0.0
    for name, share, colour in parts:
        if share > 0:
            css = "rest" if colour is None else f"c{colour % N_COLOURS}"
            drawn.append(
                f'<g class="{css}"><rect x="{10 * at:.3f}" width="{10 * share:.3f}" height="20"/>'
                f"<title>{escape(name)}: {100 * share:.1f} %</title></g>"
            )
        at += share
    return f'<svg class="shares" viewBox="0 0 10 20" preserveAspectRatio="none" role="img">{"".join(drawn)}</svg>'


def reliability(bins: Sequence[tuple[float, float, int]]) -> str:
    """Observed over predicted quality: (predicted, observed, count) per bin; area by count; diagonal = calibrated."""
    size, pad = 150.0, 14.0
    scale = Scale(0.0, 1.0, pad, size - pad)
    flip = Scale(0.0, 1.0, size - pad, pad)
    most = max((count for _, _, count in bins), default=1)
    dots = "".join(
        f'<circle cx="{scale(p):.1f}" cy="{flip(o):.1f}" r="{max(1.5, 7.5 * math.sqrt(count / most)):.1f}">'
        f"<title>predicted {p:.3f}, observed {o:.3f}, {count:,} answers</title></circle>"
        for p, o, count in bins
    )
    line = _path((scale(p), flip(o)) for p, o, _ in bins) if bins else ""
    return (
        f'<svg class="reliability c0" viewBox="0 0 {size:g} {size:g}" role="img">'
        f'<rect x="{pad:g}" y="{pad:g}" width="{size - 2 * pad:g}" height="{size - 2 * pad:g}"/>'
        f'<path class="diagonal" d="M{pad:g} {size - pad:g}L{size - pad:g} {pad:g}"/>'
        f'<path class="line" d="{line}"/>{dots}</svg>'
    )
