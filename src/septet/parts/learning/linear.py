"""Linear models of what each member scores: ridge and logistic regression, one per member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from septet.core.errors import BadParameter, MissingExtra
from septet.core.types import Floats
from septet.parts.learning.adam import sigmoid
from septet.parts.learning.rows import Features, Rows, times


@dataclass(frozen=True)
class Linear:
    """x·weights + bias: `weights` (d, m), `bias` (m,); the bias is NaN for a member of which nothing is known."""

    weights: Floats
    bias: Floats

    def outputs(self, x: Features) -> Floats:
        """(n, m) for x (n, d): predicted scores of a ridge regression, logits of a logistic one."""
        values: Floats = times(x, self.weights) + self.bias
        return values


def fit_ridge(x: Features, y: Floats, *, l2: float = 1.0) -> Linear:
    """Least squares for every member: min Σ (y − x·w − b)² + l2·|w|², over its known rows.

    x (r, d); y (r, m), NaN unknown. The intercept bears no penalty. Members that are known on the same rows
    share one factorisation.

    >>> line = fit_ridge(np.array([[0.], [1.], [2.]]), np.array([[1.], [3.], [np.nan]]), l2=0.0)
    >>> line.outputs(np.array([[2.]])).round(6).tolist()
    [[5.0]]
    """
    _check(x, y)
    known = ~np.isnan(y)
    weights, bias = np.zeros((_width(x), y.shape[1])), np.full(y.shape[1], np.nan)
    patterns, pattern_of = np.unique(known, axis=1, return_inverse=True)
    for i, rows in enumerate(patterns.T):
        if rows.any():
            members = np.flatnonzero(pattern_of.ravel() == i)
            part = x if rows.all() else x[np.flatnonzero(rows)]
            weights[:, members], bias[members] = _ridge(matrix(part), y[rows][:, members], l2)
    return Linear(weights, bias)


def _ridge(x: Any, y: Floats, l2: float) -> tuple[Floats, Floats]:
    n, d = x.shape
    mean_x, mean_y = np.asarray(x.mean(axis=0)).ravel(), y.mean(axis=0)
    gram = x.T @ x
    gram = np.asarray(gram.todense() if hasattr(gram, "todense") else gram) - n * np.outer(mean_x, mean_x)
    moment = np.asarray(x.T @ y) - n * np.outer(mean_x, mean_y)
    gram[np.diag_indices(d)] += l2
    try:
        weights = np.linalg.solve(gram, moment)
    except np.linalg.LinAlgError:  # no penalty, and features that repeat each other
        weights = np.linalg.lstsq(gram, moment, rcond=None)[0]
    return weights, mean_y - mean_x @ weights


def fit_logistic(x: Features, y: Floats, *, l2: float = 1.0, weight: Floats | None = None) -> Linear:
    """Logistic regression for every member: min Σ weight·BCE(σ(x·w + b), y) + l2/2·|w|², all members at once.

    x (r, d); y (r, m) in [0, 1], NaN unknown, soft labels allowed; weight (r, m) or none. The intercept bears
    no penalty. A member with one class only gets a constant: its share of ones with one of each added.
    """
    _check(x, y)
    try:
        from scipy.optimize import minimize
    except ImportError:
        raise MissingExtra("scipy", "fit") from None
    known = ~np.isnan(y)
    target = np.where(known, y, 0.0)
    count, total = known.sum(axis=0), target.sum(axis=0)
    one_class = (total == 0) | (total == count)
    w = np.where(known & ~one_class, 1.0 if weight is None else weight, 0.0)
    rows, d, m = matrix(x), _width(x), y.shape[1]

    def loss(theta: Floats) -> tuple[float, Floats]:
        weights, bias = theta[:-m].reshape(d, m), theta[-m:]
        z = rows @ weights + bias
        value = (w * (np.logaddexp(0, z) - target * z)).sum() + 0.5 * l2 * (weights * weights).sum()
        pull = w * (sigmoid(z) - target)  # (r, m)
        return float(value), np.concatenate([(rows.T @ pull + l2 * weights).ravel(), pull.sum(axis=0)])

    share = (total + 1) / (count + 2)
    start = np.concatenate([np.zeros(d * m), np.log(share / (1 - share))])
    if (~one_class).any():
        start = minimize(
            loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-6}
        ).x
    bias = np.where(count > 0, start[-m:], np.nan)
    return Linear(np.where(one_class, 0.0, start[:-m].reshape(d, m)), bias)


def matrix(x: Features) -> Any:
    """The features as a matrix that multiplies quickly from both sides: dense, or compressed sparse rows."""
    if not isinstance(x, Rows):
        return x
    try:
        from scipy.sparse import csr_matrix
    except ImportError:
        raise MissingExtra("scipy", "fit") from None
    return csr_matrix((x.values, x.columns, x.starts), shape=x.shape)


def _width(x: Features) -> int:
    return int(x.shape[1])


def _check(x: Features, y: Floats) -> None:
    if y.ndim != 2 or len(x) != len(y) or not len(y):
        raise BadParameter("y", y.shape, f"must hold one row for each of the {len(x)} rows of features")
