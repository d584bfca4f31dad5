"""A small network that says from the first member's outputs what the second would add."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from septet.core.errors import BadParameter
from septet.core.method import Rng
from septet.core.types import Floats
from septet.parts.deferral.post_hoc import threshold_for_cost, threshold_for_share
from septet.parts.learning.mlp import Mlp, fit_mlp


@dataclass(frozen=True)
class Gain:
    """g(x) of inputs (n, d), standardised by `center` and `scale` (d,)."""

    center: Floats
    scale: Floats
    net: Mlp

    def of(self, x: Floats) -> Floats:
        """(n,) what is expected for inputs x (n, d)."""
        found: Floats = self.net.outputs((x - self.center) / self.scale)[:, 0]
        return found


def fit_gain(x: Floats, target: Floats, hidden: tuple[int, ...], epochs: int, rng: Rng) -> Gain:
    """Fits g to target (n,) by mean squared error; rows whose target is NaN are left out."""
    known = ~(np.isnan(target) | np.isnan(x).any(axis=1))
    if not known.any():
        raise BadParameter(
            "table", len(target), "must hold questions of which both members' scores are known"
        )
    center, spread = x[known].mean(axis=0), x[known].std(axis=0)
    scale = np.where(spread > 1e-9, spread, 1.0)
    rows = (x[known] - center) / scale
    net = fit_mlp(rows, target[known][:, None], rng, hidden=hidden, batch=64, epochs=epochs)
    return Gain(center, scale, net)


def refuse_both(method: str, share: float | None, budget: float | None) -> None:
    """A share and a budget would contradict each other."""
    if share is not None and budget is not None:
        raise BadParameter(
            f"{method}.budget_usd", budget, f"must not stand beside defer_share = {share}; drop one"
        )


def threshold_of(
    urgency: Floats, costs: Floats, unit: str, share: float | None, budget: float | None, least: float
) -> float:
    """The threshold on urgency (n,) that a share or a budget asks for, else `least`; costs (n, 2) in `unit`.

    A budget may be kept by asking on less often, so with it the threshold is at least `least`.
    """
    if share is not None:
        return threshold_for_share(urgency, share)
    if budget is None:
        return least
    if unit != "usd":
        raise BadParameter("budget_usd", budget, "needs outcomes that give cost_usd for every answer")
    return max(least, threshold_for_cost(urgency, costs[:, 0], costs[:, 1], budget))
