"""Item-response theory on features: how able each member is, and what a question asks of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from septet.core.types import Floats
from septet.parts.learning.adam import Adam, batches, by_name, sigmoid, softmax, spread
from septet.parts.learning.bilinear import Bilinear, fit_bilinear, pull_of
from septet.parts.learning.rows import Features, dense

MAX_DISCRIMINATION = 9.0
"""The largest scalar discrimination of a question; from a re-implementation of 2506.01048."""


def passes(n_rows: int, per_step: int, epochs: int, steps: int) -> int:
    """Passes over n rows, `per_step` at a time: `epochs`, or as many more as make `steps` steps.

    >>> passes(5000, 50, 10, 150), passes(233, 85, 10, 150)
    (10, 50)
    """
    in_one_pass = max(1, -(-n_rows // per_step))
    return max(epochs, -(-steps // in_one_pass))


def fit_mirt(
    x: Features,
    y: Floats,
    names: Sequence[str],
    rng: np.random.Generator,
    *,
    size: int = 25,
    rate: float = 1e-3,
    batch: int = 512,
    epochs: int = 10,
    steps: int = 0,
) -> Bilinear:
    """Multidimensional: P(right) = σ(a(x)ᵀθ_m − b(x)), a = softplus(x·W + w₀) ≥ 0 (n, size), b = x·w_b − b₀.

    `size` = 1 is the two-parameter model of one ability. x (r, d), y (r, m) NaN unknown; `batch` counts scores;
    there are at least `steps` steps.
    """
    per_step = max(1, round(batch / len(names)))
    epochs = passes(len(y), per_step, epochs, steps)
    return fit_bilinear(x, y, names, rng, loss="irt", size=size, rate=rate, batch=per_step, epochs=epochs)


@dataclass(frozen=True)
class NeuralIrt:
    """P(right) = σ(monotone network of d(x)·(z_m − h(x)) ⊙ r(x)), over k abilities (2506.01048).

    Difficulty h = σ(x·`difficulty` + …) (n, k); ability z = σ(`ability`) (m, k); discrimination
    d = 9·σ(x·`discrimination` + …) (n, 1); relevance r = softmax(x·`relevance` + …) (n, k). The network has one
    layer of tanh with weights `inner` (k, h) ≥ 0 and `outer` (h,) ≥ 0, so more ability never lowers P.
    """

    difficulty: Floats
    difficulty_bias: Floats
    discrimination: Floats
    discrimination_bias: Floats
    relevance: Floats
    relevance_bias: Floats
    ability: Floats
    inner: Floats
    inner_bias: Floats
    outer: Floats
    outer_bias: Floats

    def parts(self) -> list[Floats]:
        """All weights, in declared order."""
        return [getattr(self, name) for name in self.__dataclass_fields__]

    def outputs(self, x: Features) -> Floats:
        """(n, m) logits for x (n, d)."""
        rows = dense(x)
        blocks = [self._forward(rows[i : i + 512])[0] for i in range(0, len(rows), 512)]
        return np.concatenate(blocks) if blocks else np.empty((0, len(self.ability)))

    def _forward(self, x: Floats) -> tuple[Floats, tuple[Floats, ...]]:
        h = sigmoid(x @ self.difficulty + self.difficulty_bias)
        d = MAX_DISCRIMINATION * sigmoid(x @ self.discrimination + self.discrimination_bias)  # (n, 1)
        r = softmax(x @ self.relevance + self.relevance_bias)
        z = sigmoid(self.ability)
        gap = z[None] - h[:, None]  # (n, m, k)
        u = gap * (d * r)[:, None]
        t = np.tanh(u @ self.inner + self.inner_bias)  # (n, m, hidden)
        return t @ self.outer + self.outer_bias, (h, d, r, z, gap, u, t)

    def step(self, x: Floats, y: Floats, keep: Floats) -> list[Floats]:
        """The gradient of the mean BCE of scores y (n, m), part by part; `keep` (h,) scales hidden units."""
        _, (h, d, r, z, gap, u, t) = self._forward(x)
        kept = t * keep
        pull = pull_of(kept @ self.outer + self.outer_bias, y, "bce")
        on_t = pull[..., None] * self.outer * keep * (1 - t * t)
        on_u = on_t @ self.inner.T  # (n, m, k)
        on_scale = (on_u * gap).sum(axis=1)  # (n, k), of d·r
        on_gap = on_u * (d * r)[:, None]
        on_h = -on_gap.sum(axis=1) * h * (1 - h)
        on_d = (on_scale * r).sum(axis=1, keepdims=True) * d * (1 - d / MAX_DISCRIMINATION)
        on_r = on_scale * d
        on_r = r * (on_r - (on_r * r).sum(axis=1, keepdims=True))
        flat, hidden = u.reshape(-1, u.shape[-1]), on_t.reshape(-1, on_t.shape[-1])
        return [
            x.T @ on_h,
            on_h.sum(axis=0),
            x.T @ on_d,
            on_d.sum(axis=0),
            x.T @ on_r,
            on_r.sum(axis=0),
            on_gap.sum(axis=0) * z * (1 - z),
            flat.T @ hidden,
            hidden.sum(axis=0),
            np.einsum("nm,nmh->h", pull, kept),
            np.array([pull.sum()]),
        ]


def fit_nirt(
    x: Features,
    y: Floats,
    names: Sequence[str],
    rng: np.random.Generator,
    *,
    size: int = 25,
    hidden: int = 64,
    rate: float = 1e-3,
    batch: int = 512,
    epochs: int = 10,
    steps: int = 0,
    dropout: float = 0.5,
) -> NeuralIrt:
    """Fits the network by Adam, in at least `steps` steps; after each, weights that must not be negative are
    set to zero if they are."""
    rows = dense(x)
    d = rows.shape[1]
    net = NeuralIrt(
        spread((d, size), d, rng),
        np.zeros(size),
        spread((d, 1), d, rng),
        np.zeros(1),
        spread((d, size), d, rng),
        np.zeros(size),
        by_name(names, size, rng),
        np.abs(spread((size, hidden), size, rng)),
        np.zeros(hidden),
        np.abs(spread((hidden,), hidden, rng)),
        np.zeros(1),
    )
    step, per_step = Adam(net.parts(), rate=rate), max(1, round(batch / len(names)))
    for _ in range(passes(len(rows), per_step, epochs, steps)):
        for part in batches(len(rows), per_step, rng):
            keep = (rng.random(hidden) >= dropout) / (1 - dropout)
            step.step(net.step(rows[part], y[part], keep))
            for weights in (net.inner, net.outer):
                np.maximum(weights, 0.0, out=weights)
    net.ability[np.isnan(y).all(axis=0)] = np.nan
    return net
