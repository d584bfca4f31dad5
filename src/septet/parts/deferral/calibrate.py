"""From a raw confidence to the probability of being right: isotonic, Platt, a table of bins, and a bounded risk.

Each is a frozen value with `.p(raw)`, which keeps shape; an unknown raw value (NaN) has an unknown probability.
They are fitted to raw (n,) and score (n,) in 0..1, which need not be 0 or 1; pairs with a NaN are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np

from septet.core.errors import BadParameter
from septet.core.types import Floats

CalibratorKind: TypeAlias = Literal["isotonic", "platt", "table"]


class Calibrator(Protocol):
    """What has learned what a raw confidence is worth."""

    def p(self, raw: Floats) -> Floats:
        """(…,) the expected score of answers with raw confidence (…,)."""


# --- isotonic ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Isotonic:
    """A rising staircase with ramps: expected scores `y` (k,) at raw values `x` (k,), straight in between."""

    x: Floats
    y: Floats

    def p(self, raw: Floats) -> Floats:
        """The height at each raw value; outside of what was seen, that of the nearer end."""
        return np.where(np.isnan(raw), np.nan, np.interp(raw, self.x, self.y))

    @classmethod
    def fit(cls, raw: Floats, score: Floats) -> Isotonic:
        """The rising sequence with the least squared error, by pooling neighbours that fall.

        >>> fitted = Isotonic.fit(np.array([.1, .2, .3, .4]), np.array([0., 1., 0., 1.]))
        >>> fitted.p(np.array([.05, .2, .3, .35, 9.])).round(9).tolist()  # 1, 0 → ½, ½
        [0.0, 0.5, 0.5, 0.75, 1.0]
        """
        x, y = _known(raw, score)
        at, place, count = np.unique(x, return_inverse=True, return_counts=True)
        means = np.bincount(place, weights=y) / count
        value: list[float] = []
        weight: list[float] = []
        width: list[int] = []  # how many raw values each block holds
        for mean, n in zip(means.tolist(), count.tolist(), strict=True):
            value.append(mean)
            weight.append(n)
            width.append(1)
            while len(value) > 1 and value[-2] >= value[-1]:
                total = weight[-2] + weight[-1]
                value[-2:] = [(value[-2] * weight[-2] + value[-1] * weight[-1]) / total]
                weight[-2:], width[-2:] = [total], [width[-2] + width[-1]]
        heights = np.repeat(value, width)
        ends = np.zeros(len(at), dtype=bool)  # only the ends of a level matter: the line between them is flat
        last = np.cumsum(width) - 1
        ends[last] = ends[last - np.array(width) + 1] = True
        return cls(at[ends], heights[ends])


# --- Platt ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Platt:
    """p = 1 / (1 + e^−(slope·raw + bias))."""

    slope: float
    bias: float

    def p(self, raw: Floats) -> Floats:
        """The height of the curve."""
        z = self.slope * np.asarray(raw, dtype=np.float64) + self.bias
        return np.asarray(0.5 * (1 + np.tanh(0.5 * z)))

    @classmethod
    def fit(cls, raw: Floats, score: Floats) -> Platt:
        """Maximum likelihood with Platt's targets, (N₊ + 1)/(N₊ + 2) for right and 1/(N₋ + 2) for wrong, so that it
        is finite where right and wrong are separable. A raw value that never varies gets slope 0.

        >>> fitted = Platt.fit(np.array([-1., 1.]), np.array([0., 1.]))  # targets 1/3, 2/3: σ(slope) = 2/3
        >>> round(fitted.slope, 6), abs(round(fitted.bias, 6))
        (0.693147, 0.0)
        """
        x, y = _known(raw, score)
        high, low = (y.sum() + 1) / (y.sum() + 2), 1 / ((1 - y).sum() + 2)
        target = y * high + (1 - y) * low
        center, spread = float(x.mean()), float(x.std())
        if spread < 1e-12:
            mean = float(target.mean())
            return cls(0.0, float(np.log(mean / (1 - mean))))
        rows = np.column_stack([(x - center) / spread, np.ones(len(x))])
        w = np.zeros(2)
        for _ in range(100):
            p = 0.5 * (1 + np.tanh(0.5 * (rows @ w)))
            slope = rows.T @ (p - target)
            bend = rows.T @ (rows * (p * (1 - p))[:, None]) + 1e-9 * np.eye(2)
            step = np.linalg.solve(bend, slope)
            w = w - step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
            if np.abs(step).max() < 1e-10:
                break
        return cls(float(w[0] / spread), float(w[1] - w[0] * center / spread))


# --- a table of bins -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Binned:
    """Bins of raw values, `edges` (b − 1,) between them, an edge belonging to the bin above; `mean` (b,) scores
    and `count` (b,) of what was seen in each."""

    edges: Floats
    mean: Floats
    count: Floats

    def bins(self, raw: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """(…,) the bin of each raw value; that of an unknown one means nothing."""
        return np.searchsorted(self.edges, raw, side="right")

    def p(self, raw: Floats) -> Floats:
        """The mean score of the bin."""
        return np.where(np.isnan(raw), np.nan, self.mean[self.bins(raw)])

    @classmethod
    def fit(
        cls,
        raw: Floats,
        score: Floats,
        *,
        bins: int = 8,
        by: Literal["width", "count"] = "width",
        prior: float = 1.0,
    ) -> Binned:
        """Bins of equal width over [0, 1], or of about equally many; each mean is pulled to the mean of all by `prior`
        further observations, so that an empty bin has it.

        >>> table = Binned.fit(np.array([.1, .1, .9]), np.array([0., 1., 1.]), bins=2)  # all: 2/3
        >>> table.p(np.array([.2, .5])).round(4).tolist()  # (1 + 2/3)/3, (1 + 2/3)/2
        [0.5556, 0.8333]
        """
        x, y = _known(raw, score)
        if by == "width":
            edges = np.linspace(0, 1, bins + 1)[1:-1]
        else:
            edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)[1:-1], method="higher"))
        place = np.searchsorted(edges, x, side="right")
        count = np.bincount(place, minlength=len(edges) + 1).astype(np.float64)
        total = np.bincount(place, weights=y, minlength=len(edges) + 1)
        if prior <= 0 and not count.all():
            raise BadParameter("prior", prior, "must be above 0 where a bin is empty")
        return cls(edges, (total + prior * y.mean()) / (count + prior), count)


# --- whichever of them ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibration:
    """One of the three, whichever was asked for: what a method with a choice keeps in its state."""

    isotonic: Isotonic | None = None
    platt: Platt | None = None
    table: Binned | None = None

    def p(self, raw: Floats) -> Floats:
        """What the fitted one says."""
        found = self.isotonic or self.platt or self.table
        if found is None:
            raise BadParameter("calibration", None, "must have been fitted")
        return found.p(raw)

    @classmethod
    def fit(cls, kind: CalibratorKind, raw: Floats, score: Floats) -> Calibration:
        """Fits the one of that name, a table with bins of about equally many."""
        if kind == "isotonic":
            return cls(isotonic=Isotonic.fit(raw, score))
        if kind == "platt":
            return cls(platt=Platt.fit(raw, score))
        return cls(table=Binned.fit(raw, score, by="count"))


# --- a bounded risk ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RiskControl:
    """Conformal risk control (2208.02814): the risk of accepting what is at or above a threshold, with a bound
    that holds in expectation over calibration and new questions, if they are exchangeable.

    `at` (k,) rising thresholds; `bound` (k,) falling: n/(n + 1)·R̂ + 1/(n + 1) at each, where R̂ is the mean over n
    questions of the loss of what is accepted, and 0 for what is not.
    """

    at: Floats
    bound: Floats
    n: int

    @property
    def least(self) -> float:
        """The smallest bound that n questions can give, 1/(n + 1): nothing is accepted below it."""
        return 1 / (self.n + 1)

    def p(self, raw: Floats) -> Floats:
        """(…,) one minus the bound on the risk of accepting this raw value and all above it."""
        place = np.searchsorted(self.at, raw, side="left")
        return np.where(np.isnan(raw), np.nan, 1 - np.append(self.bound, self.least)[place])

    def threshold(self, alpha: float) -> float:
        """The lowest threshold with a bound of at most alpha; infinity where there is none: accept nothing.

        >>> control = RiskControl.fit(np.array([.2, .5, .6, .9]), np.array([1., 1., 0., 0.]))
        >>> control.threshold(0.4), control.threshold(0.2), control.threshold(0.1)
        (0.5, 0.6, inf)
        """
        fits = np.flatnonzero(self.bound <= alpha + 1e-12)
        if len(fits):
            return float(self.at[fits[0]])
        # what is surer than anything seen has risk 0 in the sample
        return float(np.nextafter(self.at[-1], np.inf)) if self.least <= alpha + 1e-12 else float("inf")

    @classmethod
    def fit(cls, raw: Floats, loss: Floats) -> RiskControl:
        """raw (n,) and loss (n,) in 0..1 of accepting each; a loss outside is refused, for the bound would not hold."""
        x, y = _known(raw, loss)
        if y.min() < 0 or y.max() > 1:
            raise BadParameter("loss", [float(y.min()), float(y.max())], "must be in [0, 1]")
        at, place = np.unique(x, return_inverse=True)
        each = np.bincount(place, weights=y)
        risk = each[::-1].cumsum()[::-1] / len(x)
        return cls(at, len(x) / (len(x) + 1) * risk + 1 / (len(x) + 1), len(x))


def _known(raw: Floats, score: Floats) -> tuple[Floats, Floats]:
    """The pairs (n,) of which both are known."""
    x, y = np.asarray(raw, dtype=np.float64).ravel(), np.asarray(score, dtype=np.float64).ravel()
    if x.shape != y.shape:
        raise BadParameter("score", y.shape, f"must be paired with the raw confidence, of shape {x.shape}")
    both = ~(np.isnan(x) | np.isnan(y))
    if not both.any():
        raise BadParameter("raw", len(x), "must hold at least one confidence with a score")
    return x[both], y[both]
