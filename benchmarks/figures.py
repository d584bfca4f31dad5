"""What a benchmark reports: figures with what is aimed at beside them, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One measured number: the median of `n` samples and their range. `aim` is the most it should be.

    `judged` says which of the three is held against the aim: the median, or the worst sample.
    """

    what: str
    value: float
    low: float
    high: float
    n: int
    unit: str = ""
    aim: float | None = None
    judged: str = "median"

    @property
    def met(self) -> bool | None:
        """Whether the aim is reached; None where nothing is aimed at."""
        if self.aim is None:
            return None
        return (self.high if self.judged == "worst" else self.value) <= self.aim


def figure(
    what: str, samples: Sequence[float], *, unit: str = "", aim: float | None = None, judged: str = "median"
) -> Figure:
    """The figure of some samples.

    >>> figure("time ÷ forwards", [1.02, 1.01, 1.06], aim=1.05)
    Figure(what='time ÷ forwards', value=1.02, low=1.01, high=1.06, n=3, unit='', aim=1.05, judged='median')
    """
    return Figure(what, median(samples), min(samples), max(samples), len(samples), unit, aim, judged)


@dataclass(frozen=True)
class Section:
    """A table of figures: `setting` says in one line what was run, `notes` what the reader has to know."""

    name: str
    setting: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """The table as it is printed."""
        rows = [("", "median", "min", "max", "aim", "")] + [_row(f) for f in self.figures]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [f"{self.name}: {self.setting}"]
        for what, *numbers, verdict in rows:
            cells = [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=False)]
            lines.append("  ".join(["", what.ljust(widths[0]), *cells, verdict]).rstrip())
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def json(self) -> dict[str, Any]:
        """The same for a file."""
        figures = [{**asdict(f), "met": f.met} for f in self.figures]
        return {"setting": self.setting, "figures": figures, "notes": self.notes, **self.details}


def _row(f: Figure) -> tuple[str, ...]:
    what = f"{f.what}, {f.unit}" if f.unit else f.what
    one = f.n == 1
    aim = "" if f.aim is None else f"{'worst ' if f.judged == 'worst' else ''}≤ {f.aim:g}"
    verdict = {None: "", True: "met", False: "missed"}[f.met]
    return what, _short(f.value), "" if one else _short(f.low), "" if one else _short(f.high), aim, verdict


def _short(x: float) -> str:
    """Three decimals for ratios, fewer for large numbers."""
    return f"{x:.3f}" if abs(x) < 10 else f"{x:.1f}" if abs(x) < 1000 else f"{x:.0f}"


@dataclass(frozen=True)
class Setting:
    """What is measured, and how much of it. `quick`: a few pieces and samples, to see that it runs."""

    config: Path
    ensemble: str
    quick: bool = False

    @property
    def samples(self) -> int:
        """How many fresh processes a start is measured in."""
        return 2 if self.quick else 7
