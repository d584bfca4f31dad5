"""The state of a chain whose thresholds were learned without labels."""

from __future__ import annotations

from dataclasses import dataclass

from septet.core.types import Floats


@dataclass(frozen=True)
class Thresholds:
    """`at` (n_members − 1,): the confidence from which each member but the last is believed, above 1: it is skipped.
    On the questions of the fit: `disagreement` with the last member and mean `cost`; `bound` on the cost of a new
    question; both in `unit`."""

    at: Floats
    disagreement: float
    cost: float
    bound: float
    unit: str

    def chain(self) -> tuple[int, ...]:
        """The members that are asked, in order."""
        return (*(i for i, t in enumerate(self.at.tolist()) if t <= 1), len(self.at))
