"""A network that learns which of k classes is right, from rows that say what everybody answered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from septet.core.types import Floats
from septet.parts.learning.adam import Adam, batches, softmax
from septet.parts.learning.mlp import Mlp, untrained


def fit_combiner(
    x: Floats,
    gold: NDArray[np.int64],
    n_classes: int,
    rng: np.random.Generator,
    *,
    hidden: int = 100,
    epochs: int = 300,
    patience: int = 30,
    rate: float = 1e-3,
    batch: int = 64,
) -> Mlp:
    """Two hidden layers and a softmax, fitted by Adam to the classes `gold` (r,) of x (r, d) by cross-entropy.

    A tenth of the rows is held out: the weights with the least loss there are kept, and the fit stops when it has not
    fallen for `patience` passes. With fewer than ten rows the loss is that of the rows themselves.
    """
    net = untrained((x.shape[1], hidden, hidden, n_classes), rng)
    shuffled = rng.permutation(len(x))
    out, rest = shuffled[: len(x) // 10], shuffled[len(x) // 10 :]
    checked = out if len(out) else rest
    target = np.eye(n_classes)[gold]
    step = Adam([net.theta], rate=rate)
    best, least, since = net.theta.copy(), np.inf, 0
    for _ in range(epochs):
        for part in batches(len(rest), batch, rng):
            rows = rest[part]
            inside = net.activations(x[rows])
            step.step([net.gradient(inside, (softmax(inside[-1]) - target[rows]) / len(rows))])
        p = softmax(net.outputs(x[checked]))[np.arange(len(checked)), gold[checked]]
        loss = float(-np.log(np.maximum(p, 1e-12)).mean())
        since = 0 if loss < least else since + 1
        if loss < least:
            best, least = net.theta.copy(), loss
        if since >= patience:
            break
    return Mlp(net.sizes, best)
