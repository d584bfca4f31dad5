"""Questions and members as vectors whose product is a score: factorisation with features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from septet.core.errors import BadParameter
from septet.core.types import Floats
from septet.parts.learning.adam import Adam, batches, by_name, sigmoid, softmax, spread
from septet.parts.learning.rows import Features, dense, times

Loss: TypeAlias = Literal["bce", "pairwise", "infonce", "irt"]


@dataclass(frozen=True)
class Bilinear:
    """z(x, m) = ⟨f(x), v_m⟩ + c_m − b(x), with f(x) = x·weights + bias.

    `weights` (d, k), `bias` (k,), `arms` v (m, k), `offset` c (m,), `difficulty` (d,) with b(x) = x·difficulty.
    With `positive`, f passes a softplus, so that more of any v_m never lowers z (item-response theory).
    """

    weights: Floats
    bias: Floats
    arms: Floats
    offset: Floats
    difficulty: Floats
    positive: bool = False

    def factors(self, x: Features) -> Floats:
        """(n, k) f(x), for x (n, d)."""
        f = times(x, self.weights) + self.bias
        return np.logaddexp(0.0, f) if self.positive else f

    def outputs(self, x: Features) -> Floats:
        """(n, m) z, for x (n, d)."""
        z: Floats = self.factors(x) @ self.arms.T + self.offset - times(x, self.difficulty[:, None])
        return z

    def wins(self, x: Features, a: int, b: int) -> Floats:
        """(n,) probability that member a beats member b, σ(z_a − z_b)."""
        z = self.outputs(x)
        return sigmoid(z[:, a] - z[:, b])


def fit_bilinear(
    x: Features,
    y: Floats,
    names: Sequence[str],
    rng: np.random.Generator,
    *,
    loss: Loss,
    size: int,
    rate: float,
    batch: int,
    epochs: int,
    decay: float = 0.0,
    noise: float = 0.0,
) -> Bilinear:
    """Fits the factors by Adam; x (r, d), scores y (r, m) in [0, 1] with NaN unknown, `names` (m,).

    "bce": y is the chance that z is to be right, σ(z). "irt": the same, with f positive and a difficulty.
    "pairwise": Bradley–Terry, σ(z_a − z_b) for every pair of a question whose scores differ; there v_m is of
    length one, times a weight per factor, and there are neither offsets nor biases (2406.18665, released code).
    "infonce": the softmax of z over the known members is to be y, divided by its sum.
    `batch` counts questions; `noise` is the deviation of what is added to the features while fitting.
    """
    rows, m = dense(x), len(names)
    target = _target(y, loss)
    used = np.flatnonzero(_informative(target, loss))
    if not len(used):
        raise BadParameter("table", len(y), f"must hold questions that teach something under {loss!r}")
    d = rows.shape[1]
    paired = loss == "pairwise"
    w, bias = spread((d, size), d, rng), np.zeros(size)
    raw, scale = by_name(names, size, rng), np.ones(size)
    if not paired:
        raw *= 1 / np.sqrt(size)
    offset, difficulty, level = np.zeros(m), np.zeros(d), np.zeros(1)
    trained = {
        "pairwise": [w, raw, scale],
        "bce": [w, bias, raw, offset],
        "infonce": [w, bias, raw, offset],
        "irt": [w, bias, raw, difficulty, level],
    }[loss]
    step = Adam(trained, rate=rate, decay=decay)
    for _ in range(epochs):
        for part in batches(len(used), batch, rng):
            here = rows[used[part]]
            if noise:
                here = here + noise * rng.standard_normal(here.shape)
            arms, length = raw, np.ones((m, 1))
            if paired:
                length = np.linalg.norm(raw, axis=1, keepdims=True)
                arms = raw / length * scale
            f = here @ w + bias
            factors = np.logaddexp(0.0, f) if loss == "irt" else f
            z = factors @ arms.T + offset + level - (here @ difficulty)[:, None]
            pull = pull_of(z, target[used[part]], loss)
            on_arms, on_f = pull.T @ factors, pull @ arms
            if loss == "irt":
                on_f = on_f * sigmoid(f)
            found = {id(w): here.T @ on_f, id(bias): on_f.sum(axis=0), id(offset): pull.sum(axis=0)}
            found |= {id(difficulty): -here.T @ pull.sum(axis=1), id(level): np.array([pull.sum()])}
            if paired:
                unit = raw / length
                found[id(scale)] = (on_arms * unit).sum(axis=0)
                on_unit = on_arms * scale
                on_arms = (on_unit - unit * (unit * on_unit).sum(axis=1, keepdims=True)) / length
            found[id(raw)] = on_arms
            step.step([found[id(part_of)] for part_of in trained])
    arms = raw / np.linalg.norm(raw, axis=1, keepdims=True) * scale if paired else raw
    unknown = np.isnan(y).all(axis=0)
    return Bilinear(
        w, bias, arms, np.where(unknown, np.nan, offset + level), difficulty, positive=loss == "irt"
    )


def pull_of(z: Floats, y: Floats, loss: Loss) -> Floats:
    """(n, m) the gradient of the mean loss with respect to z (n, m); y (n, m), NaN unknown.

    The mean is over known scores, over decided pairs, or over questions.

    >>> pull_of(np.zeros((1, 2)), np.array([[1.0, 0.0]]), "pairwise").tolist()
    [[-0.5, 0.5]]
    """
    known = ~np.isnan(y)
    pull: Floats
    if loss in ("bce", "irt"):
        pull = np.where(known, sigmoid(z) - np.where(known, y, 0.0), 0.0) / max(int(known.sum()), 1)
        return pull
    if loss == "pairwise":
        with np.errstate(invalid="ignore"):
            first_won = y[:, :, None] > y[:, None, :]  # (n, m, m), false where unknown
        lost = np.where(first_won, sigmoid(z[:, None, :] - z[:, :, None]), 0.0)
        pull = (lost.sum(axis=1) - lost.sum(axis=2)) / max(int(first_won.sum()), 1)
        return pull
    p = np.nan_to_num(softmax(np.where(known, z, -np.inf)))
    pull = np.where(known, p - np.where(known, y, 0.0), 0.0) / len(z)
    return pull


def _target(y: Floats, loss: Loss) -> Floats:
    if loss != "infonce":
        return y
    total = np.nansum(y, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: Floats = np.where(total > 0, y / total, np.nan)
    return shares


def _informative(y: Floats, loss: Loss) -> Floats:
    """(r,) whether a question teaches: any known score; for pairs, two that differ."""
    known = ~np.isnan(y)
    if loss != "pairwise":
        return np.asarray(known.any(axis=1))
    low = np.where(known, y, np.inf).min(axis=1)
    return np.asarray(known.any(axis=1) & (np.where(known, y, -np.inf).max(axis=1) > low))
