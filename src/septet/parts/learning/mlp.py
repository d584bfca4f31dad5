"""A small neural network of what each member scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from septet.core.types import Floats
from septet.parts.learning.adam import Adam, batches, sigmoid
from septet.parts.learning.rows import Features, dense

_PATIENCE, _TOLERANCE = 10, 1e-4
"""The fit stops when the loss has not fallen by the tolerance for this many passes."""


@dataclass(frozen=True)
class Mlp:
    """Layers of rectified linear units: `sizes` (inputs, hidden …, outputs), and `theta`, the weights and
    the biases of all layers one after another. A member of which nothing is known has a bias of NaN."""

    sizes: tuple[int, ...]
    theta: Floats

    def layers(self) -> list[tuple[Floats, Floats]]:
        """Weights (a, b) and biases (b,) of each layer: views of `theta`."""
        found, place = [], 0
        for a, b in pairwise(self.sizes):
            weights = self.theta[place : place + a * b].reshape(a, b)
            found.append((weights, self.theta[place + a * b : place + a * b + b]))
            place += a * b + b
        return found

    def activations(self, x: Floats) -> list[Floats]:
        """The inputs of every layer, then the outputs (n, m), which pass no unit."""
        found, layers = [x], self.layers()
        for i, (weights, bias) in enumerate(layers):
            z = found[-1] @ weights + bias
            found.append(z if i == len(layers) - 1 else np.maximum(z, 0.0))
        return found

    def outputs(self, x: Features) -> Floats:
        """(n, m) for x (n, d): predicted scores after a fit with "mse", logits after one with "bce"."""
        return self.activations(dense(x))[-1]

    def gradient(self, activations: Sequence[Floats], pull: Floats) -> Floats:
        """The gradient of `theta`, where `pull` (n, m) is that of the outputs."""
        found: list[Floats] = []
        for (weights, _), inputs in zip(self.layers()[::-1], activations[-2::-1], strict=True):
            found = [(inputs.T @ pull).ravel(), pull.sum(axis=0), *found]
            pull = (pull @ weights.T) * (inputs > 0)
        return np.concatenate(found)


def untrained(sizes: Sequence[int], rng: np.random.Generator) -> Mlp:
    """The network before its first step: weights uniform within ±√(6 / (inputs + outputs)), biases 0."""
    parts = []
    for a, b in pairwise(sizes):
        width = np.sqrt(6 / (a + b))
        parts += [rng.uniform(-width, width, a * b), np.zeros(b)]
    return Mlp(tuple(sizes), np.concatenate(parts))


def fit_mlp(
    x: Features,
    y: Floats,
    rng: np.random.Generator,
    *,
    hidden: Sequence[int] = (100,),
    loss: Literal["mse", "bce"] = "mse",
    rate: float = 1e-3,
    decay: float = 1e-4,
    batch: int = 200,
    epochs: int = 200,
) -> Mlp:
    """Fits one network with an output per member; x (r, d), y (r, m) with NaN unknown, which pulls nothing.

    The defaults are those of scikit-learn's MLPRegressor, which cannot bear unknown scores.
    """
    rows = dense(x)
    net = untrained((rows.shape[1], *hidden, y.shape[1]), rng)
    known = ~np.isnan(y)
    target = np.where(known, y, 0.0)
    step = Adam([net.theta], rate=rate, decay=decay / max(len(rows), 1))
    best, since = np.inf, 0
    for _ in range(epochs):
        total = 0.0
        for part in batches(len(rows), batch, rng):
            inside = net.activations(rows[part])
            z, n = inside[-1], max(int(known[part].sum()), 1)
            predicted = z if loss == "mse" else sigmoid(z)
            error = np.where(known[part], predicted - target[part], 0.0)
            total += float(_loss(z, target[part], error, known[part], loss))
            step.step([net.gradient(inside, error / n)])
        mean = total / max(int(known.sum()), 1)
        since = 0 if mean < best - _TOLERANCE else since + 1
        best = min(best, mean)
        if since > _PATIENCE:
            break
    net.layers()[-1][1][~known.any(axis=0)] = np.nan
    return net


def _loss(z: Floats, y: Floats, error: Floats, known: Floats, loss: str) -> Floats:
    each = 0.5 * error * error if loss == "mse" else np.logaddexp(0, z) - y * z
    return np.asarray(np.where(known, each, 0.0).sum())
