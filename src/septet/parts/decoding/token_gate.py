"""A small network on a member's hidden state that says, at every token, whether something is so.

What is learned is labels of positions: (n, d) hidden states and (n,) labels in {0, 1}. numpy alone fits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from septet.core.errors import BadParameter, RunError
from septet.core.method import Rng
from septet.core.types import Floats
from septet.parts.learning.adam import Adam, batches, sigmoid, spread
from septet.parts.learning.mlp import Mlp
from septet.parts.stats.bootstrap import Resamples
from septet.parts.stats.calibration import auc

EPS = 1e-5
"""Added to variances, as in batch normalisation (1502.03167)."""

SHARES = (0.7, 0.15)
"""Shares of the questions that are learned from and that end the fit; the others only judge it."""


@dataclass(frozen=True)
class Report:
    """How well a gate tells positions apart. `positions` and `ones`: how many labels there were, and how many
    of them 1; `epochs`: after how many the kept weights were reached. Of the questions that were neither learned
    from nor ended the fit, `judged` positions: `fitted` (3,) the area under the ROC curve with its 95 % interval
    over questions, `untrained` (3,) that of the same network before its first step. A constant has .5; NaN where
    only one label occurs."""

    positions: int
    ones: int
    epochs: int
    judged: int
    fitted: Floats
    untrained: Floats


@dataclass(frozen=True)
class Gate:
    """c = sigmoid(network(h)) for a hidden state h (d,): the network (d, …, 1), its normalisations folded into its
    weights, and how well it does.

    >>> from septet.core.state import pack, unpack
    >>> gate = Gate(Mlp((1, 1), np.array([0.0, np.log(0.94 / 0.06)])), None)
    >>> round(gate.chance(np.array([7.0])), 6)
    0.94
    """

    network: Mlp
    report: Report | None

    def chance(self, hidden: Floats | None) -> float:
        """c, in 0..1. A RunError where the state is missing or has another length than what was learned from."""
        width = self.network.sizes[0]
        if hidden is None or hidden.shape != (width,):
            got = "none" if hidden is None else f"one of shape {hidden.shape}"
            raise RunError(
                f"the gate was fitted to hidden states of length {width} and was given {got}: fit it again on this"
                " member"
            )
        return float(sigmoid(self.network.outputs(single(hidden[None, :])))[0, 0])


@dataclass(frozen=True)
class Course:
    """How a gate is learned: Adam's `rate`, `batch` positions a step, at most `epochs` passes, of which `patience`
    may pass without a lower held-out loss; `dropout`: the chance that a unit is left out of a step."""

    rate: float
    batch: int
    epochs: int
    patience: int
    dropout: float = 0.0


def fit_gate(
    x: Floats, y: Floats, groups: Sequence[int], hidden: Sequence[int], course: Course, rng: Rng
) -> Gate:
    """Learns y (n,) in {0, 1} from x (n, d) by binary cross-entropy; `groups` (n,) says which question a position
    is of, and no question is on two sides. `hidden`: units of each layer between, each normalised over its batch
    (1502.03167), rectified and dropped out. Fewer than three questions raise a BadParameter."""
    names = np.unique(np.asarray(groups))
    if len(names) < 3:
        raise BadParameter("questions", len(names), "with labelled positions must be at least three")
    order = rng.permutation(names)
    first = min(max(1, round(SHARES[0] * len(names))), len(names) - 2)
    second = min(first + max(1, round(SHARES[1] * len(names))), len(names) - 1)
    learn, stop, judge = (np.isin(groups, part) for part in np.split(order, [first, second]))
    rows, labels = single(x), single(y)
    network = _Normed.before((x.shape[1], *hidden, 1), rng)
    untrained = network.folded(rows[learn])
    best, kept, kept_at, since = _loss(untrained, rows[stop], labels[stop]), untrained, 0, 0
    optimizer = Adam(network.weights, rate=course.rate)
    learned = rows[learn]
    for epoch in range(1, course.epochs + 1):
        for part in batches(len(learned), course.batch, rng):
            if len(part) > 1:  # a batch of one has no variance
                optimizer.step(network.gradients(learned[part], labels[learn][part], course.dropout, rng))
        now = network.folded(learned)
        loss, since = _loss(now, rows[stop], labels[stop]), since + 1
        if loss < best:
            best, kept, kept_at, since = loss, now, epoch, 0
        if since >= course.patience:
            break
    again = Resamples.of(int(judge.sum()), rng, groups=np.asarray(groups)[judge].tolist())

    def area(of: Mlp) -> Floats:
        score = np.asarray(of.outputs(rows[judge])[:, 0], dtype=np.float64)
        truth = y[judge].astype(np.float64)
        drawn = auc(score, truth, counts=again.counts.astype(np.float64))
        found = again.estimate(float(auc(score, truth)), drawn)
        return np.array([found.value, found.low, found.high])

    report = Report(len(y), int(y.sum()), kept_at, int(judge.sum()), area(kept), area(untrained))
    return Gate(kept, report)


def single(x: Any) -> Floats:
    """The same numbers in single precision: half the memory and twice the speed, and a gate needs no more."""
    found: Any = np.asarray(x, dtype=np.float32)
    return found  # type: ignore[no-any-return]


def _loss(network: Mlp, x: Floats, y: Floats) -> float:
    """The mean binary cross-entropy of y (n,) in nats."""
    z = network.outputs(x)[:, 0]
    return float(np.mean(np.logaddexp(0, z) - y * z))


class _Normed:
    """The network while it learns, float32. `weights`, in order: scale and shift (b,) and weights (a, b) of each
    hidden layer, then weights (b, 1) and bias (1,) of the output."""

    def __init__(self, weights: list[Floats]) -> None:
        self.weights = weights

    @classmethod
    def before(cls, sizes: Sequence[int], rng: Rng) -> _Normed:
        """Before the first step: weights uniform within ±1/√inputs, scales 1, shifts and bias 0."""
        parts: list[Floats] = []
        for a, b in pairwise(sizes[:-1]):
            parts += [np.ones(b), np.zeros(b), spread((a, b), a, rng)]
        last = spread((sizes[-2], 1), sizes[-2], rng)
        return cls([single(w) for w in (*parts, last, np.zeros(1))])

    @property
    def layers(self) -> list[tuple[Floats, Floats, Floats]]:
        """Scale, shift and weights of each hidden layer."""
        w = self.weights[:-2]
        return list(zip(w[::3], w[1::3], w[2::3], strict=True))

    def folded(self, x: Floats) -> Mlp:
        """The same network with its normalisations over x (n, d) as plain weights and biases."""
        sizes, parts, inside = [x.shape[1]], list[Floats](), x
        for scale, shift, weights in self.layers:
            z = inside @ weights
            factor = scale / np.sqrt(z.var(axis=0) + EPS)
            bias = shift - z.mean(axis=0) * factor
            inside = np.maximum(z * factor + bias, 0.0)
            parts += [(weights * factor).ravel(), bias]
            sizes.append(len(scale))
        return Mlp((*sizes, 1), np.concatenate([*parts, self.weights[-2].ravel(), self.weights[-1]]))

    def gradients(self, x: Floats, y: Floats, dropout: float, rng: Rng) -> list[Floats]:
        """Of the mean binary cross-entropy of a batch x (n, d), y (n,), in the order of `weights`."""
        inside, seen = x, []
        for scale, shift, weights in self.layers:
            z = inside @ weights
            width = np.sqrt(z.var(axis=0) + EPS)
            unit = (z - z.mean(axis=0)) / width
            kept = (rng.random(unit.shape, dtype=np.float32) >= dropout) / np.float32(1 - dropout)
            open_ = (unit * scale + shift > 0) * kept
            seen.append((inside, unit, width, open_))
            inside = (unit * scale + shift) * open_
        last, bias = self.weights[-2:]
        pull = ((sigmoid((inside @ last + bias)[:, 0]) - y) / len(y))[:, None]
        found: list[Floats] = [inside.T @ pull, pull.sum(axis=0)]
        pull = pull @ last.T
        for (scale, _, weights), (below, unit, width, open_) in zip(
            self.layers[::-1], seen[::-1], strict=True
        ):
            pull = pull * open_
            slopes = [(pull * unit).sum(axis=0), pull.sum(axis=0)]
            pull = pull * scale
            pull = (pull - pull.mean(axis=0) - unit * (pull * unit).mean(axis=0)) / width
            found = [*slopes, below.T @ pull, *found]
            pull = pull @ weights.T
        return found
