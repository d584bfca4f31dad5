"""Clusters of questions: k-means at the fit, the nearest centroid or a few of them when asked."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from septet.core.errors import MissingExtra
from septet.core.types import Floats
from septet.parts.learning.rows import Features, Rows, times
from septet.parts.routing.smoothed import Index, nearest


@dataclass(frozen=True)
class Clusters:
    """`centroids` (g, d), the means of their questions' rows: not of length one."""

    centroids: Floats

    @classmethod
    def of(
        cls, x: Features, n_clusters: int, rng: np.random.Generator, n_init: int = 10
    ) -> tuple[Clusters, Index]:
        """At most n_clusters clusters of rows x (r, d), and the cluster (r,) of each row; empty ones are left out.

        The best of n_init runs of k-means++ (scikit-learn), seeded by rng.
        """
        try:
            from sklearn.cluster import KMeans
            from sklearn.exceptions import ConvergenceWarning
            from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
        except ImportError:
            raise MissingExtra("scikit-learn", "fit") from None
        means = KMeans(min(n_clusters, len(x)), n_init=n_init, random_state=int(rng.integers(2**31)))
        # one thread: the order of the sums, and with it the clusters, are the same on every machine
        with threadpool_limits(1), warnings.catch_warnings():
            # fewer distinct questions than clusters leave some empty
            warnings.simplefilter("ignore", ConvergenceWarning)
            label = means.fit_predict(_matrix(x))
        kept, label = np.unique(label, return_inverse=True)
        return cls(np.asarray(means.cluster_centers_, dtype=np.float64)[kept]), label

    def __len__(self) -> int:
        return len(self.centroids)

    def nearest(self, x: Features) -> Index:
        """(n,) the centroid at the least Euclidean distance; of equal ones the first."""
        square = (self.centroids**2).sum(axis=1)
        found: Index = (square - 2 * times(x, self.centroids.T)).argmin(axis=1)
        return found

    def soft(self, x: Features, top_k: int, beta: float) -> tuple[Index, Floats]:
        """The top_k nearest clusters (n, top_k) and their weights softmax(−β·d) with d = 1 − c·x.

        The distance of the Avengers code (2505.19797), whose centroids keep their length.
        """
        inner = times(x, self.centroids.T)
        groups = nearest(inner, top_k)
        if groups.shape[1] == 1:  # alone it has all the weight
            return groups, np.ones(groups.shape)
        return groups, softmax(beta * (np.take_along_axis(inner, groups, axis=1) - 1))


def softmax(z: Floats) -> Floats:
    """Rows (n, k) of exp(z) that add up to one.

    >>> softmax(np.array([[-0.9, -1.8]])).round(3)
    array([[0.711, 0.289]])
    """
    e = np.exp(z - z.max(axis=1, keepdims=True))
    shares: Floats = e / e.sum(axis=1, keepdims=True)
    return shares


def _matrix(x: Features) -> NDArray[np.float64] | Any:
    """What scikit-learn reads: dense, or a sparse matrix of the same numbers."""
    if not isinstance(x, Rows):
        return np.asarray(x, dtype=np.float64)
    from scipy.sparse import csr_matrix

    return csr_matrix((x.values, x.columns, x.starts), shape=x.shape)


def learned_map(
    x: Features, values: Floats, table: Floats, start: Floats, *, ridge: float, steps: int
) -> tuple[Floats, Floats]:
    """Weights (d, g) and biases (g,) of the soft membership Φ(x) = softmax(x·W + b) that explains outcomes best.

    Minimises, by L-BFGS from `start` (d, g) and biases of zero, the mean cross-entropy (BCE) between known
    values (r, m) in 0..1 and Φ(x)·table, table (g, m) being each member's mean in each cluster, plus
    ridge·‖W − start‖²/2 (UniRoute's LearnedMap, 2502.08773, with a linear map).
    """
    try:
        from scipy.optimize import minimize
    except ImportError:
        raise MissingExtra("scikit-learn", "fit") from None
    matrix, known = _matrix(x), ~np.isnan(values)
    n_cells, target = max(1, int(known.sum())), np.where(known, values, 0.0)
    d, g = start.shape

    def loss(theta: Floats) -> tuple[float, Floats]:
        w, b = theta[: d * g].reshape(d, g), theta[d * g :]
        phi = softmax(np.asarray(matrix @ w) + b)
        p = np.clip(phi @ table, 1e-6, 1 - 1e-6)  # (r, m)
        entropy = -(target * np.log(p) + (1 - target) * np.log1p(-p))
        slope = np.where(known, (p - target) / (p * (1 - p)), 0.0) @ table.T / n_cells  # ∂/∂Φ, (r, g)
        z = phi * (slope - (phi * slope).sum(axis=1, keepdims=True))
        moved = w - start
        gradient = np.concatenate([(np.asarray(matrix.T @ z) + ridge * moved).ravel(), z.sum(axis=0)])
        return float(entropy[known].sum() / n_cells + ridge * (moved**2).sum() / 2), gradient

    begin = np.concatenate([start.ravel(), np.zeros(g)])
    theta = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": steps}).x
    return theta[: d * g].reshape(d, g), theta[d * g :]
