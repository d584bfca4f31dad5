"""What the outputs of a linear head or of a fine-tuned encoder are fitted to; the loss says what an output means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import MissingExtra
from septet.core.method import Rng
from septet.core.types import Floats
from septet.parts.learning.rows import Features, Rows

Loss: TypeAlias = Literal["bce", "kl", "mse", "ce"]


@dataclass(frozen=True)
class Targets:
    """What c outputs should say about r questions.

    `y` (r, c), NaN unknown; `weight` (r, c) ≥ 0, how much each counts. With z (r, c) the raw outputs:

    - "bce": y in 0..1, p = sigmoid(z); Σ_c mean over r of w·(−y·ln p − (1 − y)·ln(1 − p)), the mean by weight.
    - "mse": p = z; Σ_c mean over r of w·(y − p)².
    - "ce": rows of y add up to 1, p = softmax(z); mean over r of −Σ_c w·y·ln p.
    - "kl": the same less the entropy of y, KL(y ‖ p); its gradient, so its minimum, is that of "ce".

    An unknown y counts nothing; of a softmax it takes no part.
    """

    y: Floats
    weight: Floats
    loss: Loss

    @classmethod
    def even(cls, y: Floats, loss: Loss) -> Targets:
        """Targets that all count alike."""
        return cls(y, np.ones_like(y), loss)

    def only(self, keep: NDArray[np.bool_]) -> Targets:
        """The rows where `keep` (r,) is true."""
        return Targets(self.y[keep], self.weight[keep], self.loss)


def activated(z: Floats, loss: str) -> Floats:
    """(n, c) what raw outputs z (n, c) mean: sigmoid, softmax over the known ones, or z itself.

    >>> activated(np.array([[0., np.nan, 0.]]), "ce").tolist()
    [[0.5, nan, 0.5]]
    """
    if loss == "mse":
        return z
    if loss == "bce":
        p: Floats = 0.5 * (1.0 + np.tanh(0.5 * z))  # sigmoid without overflow
        return p
    known = ~np.isnan(z)
    p = np.exp(_log_softmax(np.where(known, z, -np.inf)))
    return np.where(known, p, np.nan)


def held_out(n_rows: int, share: float, rng: Rng) -> NDArray[np.bool_]:
    """(r,) true for the questions that are kept from a fit: a share of them, at least one, never all."""
    n_kept = min(max(1, round(share * n_rows)), n_rows - 1) if share > 0 else 0
    kept = np.zeros(n_rows, dtype=bool)
    kept[rng.permutation(n_rows)[:n_kept]] = True
    return kept


def loss_of(z: Floats, targets: Targets) -> tuple[float, Floats]:
    """The loss of raw outputs z (r, c) on targets, and its gradient (r, c); as `Targets` states it."""
    known = ~np.isnan(targets.y)
    y = np.where(known, targets.y, 0.0)
    weight = np.where(known, targets.weight, 0.0)
    if targets.loss in ("bce", "mse"):
        total = weight.sum(axis=0)
        share = weight / np.where(total > 0, total, 1.0)
        if targets.loss == "mse":
            return float((share * (z - y) ** 2).sum()), 2 * share * (z - y)
        p = activated(z, "bce")
        return float((share * (np.logaddexp(0, z) - y * z)).sum()), share * (p - y)
    rows = max(int(known.any(axis=1).sum()), 1)
    logp = _log_softmax(np.where(known, z, -np.inf))
    wanted = weight * y / rows
    value = -(wanted * np.where(known, logp, 0.0)).sum()
    if targets.loss == "kl":
        value += (wanted * np.log(np.where(y > 0, y, 1.0))).sum()
    return float(value), wanted.sum(axis=1, keepdims=True) * np.exp(logp) - wanted


def fit_head(x: Features, targets: Targets, l2: float, steps: int = 500) -> tuple[Floats, Floats]:
    """Weights (d, c) and bias (c,) of least loss + l2/2·‖weights‖², by L-BFGS from zero; x is (r, d).

    The problem is convex, so where it starts does not matter. An output without a known target has weights
    0 and a bias of NaN.
    """
    try:
        from scipy.optimize import minimize
        from scipy.sparse import csr_matrix
    except ImportError:
        raise MissingExtra("scipy", "fit") from None
    rows = csr_matrix((x.values, x.columns, x.starts), shape=x.shape) if isinstance(x, Rows) else x
    d, c = rows.shape[1], targets.y.shape[1]

    def objective(flat: Floats) -> tuple[float, Floats]:
        w, b = flat[: d * c].reshape(d, c), flat[d * c :]
        value, slope = loss_of(rows @ w + b, targets)
        inner = rows.T @ slope + l2 * w
        return value + 0.5 * l2 * float((w * w).sum()), np.concatenate([inner.ravel(), slope.sum(axis=0)])

    found = minimize(
        objective, np.zeros(d * c + c), jac=True, method="L-BFGS-B", options={"maxiter": steps}
    ).x
    seen = ~np.isnan(targets.y).all(axis=0)
    weights = np.where(seen, found[: d * c].reshape(d, c), 0.0)
    return weights, np.where(seen, found[d * c :], np.nan)


def _log_softmax(z: Floats) -> Floats:
    """(r, c) log of softmax per row, −∞ staying −∞; a row of nothing else is −∞."""
    top = z.max(axis=1, keepdims=True)
    shifted = z - np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        logp: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.where(np.isneginf(z), -np.inf, logp)
