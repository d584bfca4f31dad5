"""The price of cost that keeps a budget, and what a router is then expected to score and to spend.

Both come from outcomes that the judged router was not fitted on: it is fitted once per fold on the other
folds, decides for the questions of that fold, and the recorded outcomes say what that was worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import ConfigError
from septet.core.method import Method, Rng
from septet.core.money import Price
from septet.core.types import Floats
from septet.engine.offline import Predicted, decided, predicted, realised
from septet.parts.learning.features import Featurizer
from septet.parts.learning.rows import Features
from septet.parts.routing.plan import Router
from septet.parts.routing.records import Fitted, Known
from septet.parts.stats.intervals import Estimate, bootstrap_mean

FOLDS = 5

_STEPS = 33
"""Prices of cost that are tried at once."""

_ROUNDS = 4
"""How often the interval between two of them is searched more finely."""


@dataclass(frozen=True)
class Forecast:
    """What is expected per request at a price of cost: mean quality and USD with 95 % intervals of the mean,
    the spread of single requests (standard deviations), and how often each member answers."""

    prefer: float
    quality: Estimate
    usd: Estimate
    quality_spread: float
    usd_spread: float
    shares: dict[str, float]

    def json(self) -> dict[str, Any]:
        """For the state's provenance; USD per 1000 requests."""
        return {
            "prefer": self.prefer,
            "n": self.quality.n,
            "folds": FOLDS,
            "quality": self.quality.value,
            "quality_95": [self.quality.low, self.quality.high],
            "quality_spread": self.quality_spread,
            "usd_per_1k": 1000 * self.usd.value,
            "usd_per_1k_95": [1000 * self.usd.low, 1000 * self.usd.high],
            "usd_spread": self.usd_spread,
            "shares": self.shares,
        }


@dataclass(frozen=True)
class _Fold:
    index: NDArray[np.int64]
    state: Any
    view: Predicted


def priced_router(method: Method) -> Router:
    """The method, if it is a router that is fitted on questions and decides by a price of cost; else an error."""
    if (
        not isinstance(method, Router)
        or type(method).learn is Router.learn
        or not issubclass(method.state_type or type, Fitted)
    ):
        raise ConfigError(f"{method.name} has no price of cost that could be set to keep a budget")
    if getattr(method, "trainer", ""):
        raise ConfigError(
            f"a budget is calibrated by fitting {FOLDS} times, which is not done where an encoder is trained;"
            " state `prefer` in the requests instead"
        )
    return method


class CrossFitted:
    """A router fitted `FOLDS` times; it decides for each known question without having seen its outcomes.

    `x` (r, d) are the questions' embeddings where a role makes them; else each fold fits its own featurizer.
    Questions of one group, if the outcomes have groups, are in one fold.
    """

    def __init__(
        self, router: Router, known: Known, x: Features | None, prices: Sequence[Price | None], seed: int
    ) -> None:
        self.router, self.known, self.rng = router, known, np.random.default_rng(seed)
        self.usd = recorded_usd(known, prices)
        self.folds = [self._fold(index, x, prices) for index in folds(known, self.rng)]

    def _fold(self, index: NDArray[np.int64], x: Features | None, prices: Sequence[Price | None]) -> _Fold:
        router, known = self.router, self.known
        rest = np.setdiff1d(np.arange(len(known)), index)
        seen, new = known.only(rest.tolist()), known.only(index.tolist())
        if x is None:
            featurizer = Featurizer.of(router.features, seen.questions, seen.tasks)
            x_seen = featurizer.rows(seen.questions, seen.tasks)
            x_new = featurizer.rows(new.questions, new.tasks)
        else:
            featurizer, x_seen, x_new = Featurizer.unused(), x[rest], x[index]
        state = router.learn(seen, featurizer, x_seen, self.rng)
        return _Fold(index, state, predicted(router, state, x_new, known.members, prices))

    def weights(self, prefer: Sequence[float]) -> Floats:
        """(l, r, m) weights over members at each of l prices of cost."""
        found = np.zeros((len(prefer), len(self.known), len(self.known.members)))
        for fold in self.folds:
            found[:, fold.index] = decided(self.router, fold.state, fold.view, prefer, self.rng)
        return found

    def spend(self, prefer: Sequence[float]) -> Floats:
        """(l,) mean USD of a request at each of l prices of cost, as recorded."""
        mean: Floats = realised(self.weights(prefer), self.usd).mean(axis=1)
        return mean

    def prefer_for(self, usd: float) -> float:
        """The smallest price of cost at which a request costs at most `usd` on average."""
        if self.spend([0.0])[0] <= usd:
            return 0.0
        typical = float(self.usd.mean())
        low, tried = 0.0, np.geomspace(1e-5, 1e5, _STEPS) / typical
        for _ in range(_ROUNDS):
            within = self.spend(tried.tolist()) <= usd
            if not within.any():
                cheapest = float(self.spend([float("inf")])[0])
                if cheapest > usd or low:
                    raise ConfigError(
                        f"a budget of ${1000 * usd:.4g} per 1000 requests cannot be kept: the cheapest choices"
                        f" of {self.router.name} cost ${1000 * cheapest:.4g}"
                    )
                return float("inf")
            first = int(within.argmax())
            low, high = (float(tried[first - 1]) if first else low), float(tried[first])
            tried = np.geomspace(low, high, _STEPS)[1:] if low else np.linspace(0.0, high, _STEPS)[1:]
        return high

    def forecast(self, prefer: float) -> Forecast:
        """What is expected at a price of cost."""
        weights = self.weights([prefer])[0]
        quality, usd = realised(weights, self.known.scores), realised(weights, self.usd)
        shares = weights.mean(axis=0).tolist()
        return Forecast(
            prefer,
            bootstrap_mean(quality, np.random.default_rng(0)),
            bootstrap_mean(usd, np.random.default_rng(0)),
            float(np.nanstd(quality)),
            float(np.nanstd(usd)),
            dict(zip(self.known.members, shares, strict=True)),
        )


def folds(known: Known, rng: Rng) -> list[NDArray[np.int64]]:
    """The questions (r,) in up to `FOLDS` parts of like size; one group stays in one part."""
    group = [g or f"question {i}" for i, g in enumerate(known.groups)]
    names = list(dict.fromkeys(group))
    if len(names) < FOLDS:  # too few groups to hold any out: questions are dealt singly
        group = [f"question {i}" for i in range(len(known))]
        names = list(dict.fromkeys(group))
    if len(names) < 2:
        raise ConfigError("a budget needs at least two questions with a score to be calibrated on")
    fold_of = {names[j]: i % FOLDS for i, j in enumerate(rng.permutation(len(names)).tolist())}
    of = np.array([fold_of[g] for g in group])
    return [np.flatnonzero(of == i) for i in range(FOLDS) if (of == i).any()]


def recorded_usd(known: Known, prices: Sequence[Price | None]) -> Floats:
    """(r, m) USD of every answer: as recorded, else by the member's price, else the member's mean."""
    usd = known.usd.copy()
    means = known.spending.expected_usd(prices)
    for i, price in enumerate(prices):
        unknown = np.isnan(usd[:, i])
        if price is not None and unknown.any():
            tokens = (
                known.prompt_tokens[unknown, i] * price.usd_per_mtok_in
                + known.completion_tokens[unknown, i] * price.usd_per_mtok_out
            ) / 1e6
            usd[unknown, i] = tokens + price.usd_per_second * np.nan_to_num(known.seconds[unknown, i])
        usd[np.isnan(usd[:, i]), i] = means[i]
    blind = [name for name, column in zip(known.members, usd.T, strict=True) if np.isnan(column).any()]
    if blind:
        raise ConfigError(
            f"a budget needs to know what answers cost, and nothing says it for {', '.join(blind)}:"
            " record cost_usd, or give the member a price and record its tokens"
        )
    return usd
