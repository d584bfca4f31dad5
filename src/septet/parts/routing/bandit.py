"""Learning who to ask from the answers one got: linear bandits on features, and learners without features."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from septet.core.method import Rng
from septet.core.types import Floats
from septet.parts.learning.rows import Features, dense

WIDEST = 1024
"""Columns that a linear bandit takes: it keeps a square matrix per member."""


@dataclass(frozen=True)
class LinearArms:
    """One ridge regression per member, kept so that one more answer costs d² operations.

    `inverse`: m matrices A⁻¹ (d, d), A = ridge·I + Σ x·xᵀ over the answers of a member; they are apart, so that
    an answer copies one of them, and members that know the same share one. `b` (m, d) = Σ reward·x; `seen`
    (m, d) = Σ x, so that a constant can be taken off all rewards later; `n` (m,) answers.
    """

    inverse: tuple[Floats, ...]
    b: Floats
    seen: Floats
    n: Floats

    @classmethod
    def start(cls, n_members: int, width: int, ridge: float) -> LinearArms:
        """Before any answer."""
        inverse = (np.eye(width) / ridge,) * n_members
        nothing = np.zeros((n_members, width))
        return cls(inverse, nothing, nothing, np.zeros(n_members))

    @classmethod
    def of(cls, x: Features, rewards: Floats, ridge: float, discount: float = 1.0) -> LinearArms:
        """After the rewards (r, m) of questions with features x (r, d), in order; NaN: not asked.

        Equals learning them one by one. Members that answered the same questions share one inverse.
        """
        rows, m = dense(x), rewards.shape[1]
        asked = ~np.isnan(rewards)
        age = asked[::-1].cumsum(axis=0)[::-1] - asked  # answers of the member that came later
        weight = np.where(asked, discount**age, 0.0)  # (r, m)
        start = ridge * discount ** asked.sum(axis=0)  # the ridge fades as well
        inverse: list[Floats] = [np.empty(0)] * m
        patterns, of = np.unique(asked, axis=1, return_inverse=True)
        for i in range(patterns.shape[1]):
            members = np.flatnonzero(of.ravel() == i)
            gram = (rows * weight[:, members[:1]]).T @ rows
            gram[np.diag_indices(len(gram))] += start[members[0]]
            one: Floats = np.asarray(np.linalg.inv(gram), dtype=np.float64)
            for member in members.tolist():
                inverse[member] = one
        known = np.where(asked, rewards, 0.0)
        return cls(
            tuple(inverse), (weight * known).T @ rows, weight.T @ rows, asked.sum(axis=0).astype(np.float64)
        )

    def learn(self, member: int, x: Floats, reward: float, discount: float = 1.0) -> LinearArms:
        """After one more answer: A ← discount·A + x·xᵀ by Sherman and Morrison, b ← discount·b + reward·x."""
        b, seen, n = self.b.copy(), self.seen.copy(), self.n.copy()
        before = self.inverse[member] if discount == 1.0 else self.inverse[member] / discount
        along = before @ x
        step = np.outer(along, along / (1 + x @ along))
        after = np.subtract(before, step, out=step)
        inverse = (*self.inverse[:member], after, *self.inverse[member + 1 :])
        b[member] = discount * b[member] + reward * x
        seen[member] = discount * seen[member] + x
        n[member] += 1
        return replace(self, inverse=inverse, b=b, seen=seen, n=n)

    def weights(self, less: Floats | float = 0.0) -> Floats:
        """(m, d) θ = A⁻¹·b, every reward of a member having been less by `less` (m,)."""
        b = self.b - np.reshape(less, (-1, 1)) * self.seen
        return np.array([inverse @ row for inverse, row in zip(self.inverse, b, strict=True)])

    def mean(self, x: Features, less: Floats | float = 0.0) -> Floats:
        """(n, m) expected rewards θᵀx."""
        expected: Floats = dense(x) @ self.weights(less).T
        return expected

    def width(self, x: Features) -> Floats:
        """(n, m) √(xᵀA⁻¹x): how unsure the expected reward is, in units of a reward's deviation."""
        rows = dense(x)
        apart = {id(inverse): inverse for inverse in self.inverse}  # shared ones are multiplied once
        squares = {key: np.einsum("nd,nd->n", rows @ inverse, rows) for key, inverse in apart.items()}
        found = np.column_stack([squares[id(inverse)] for inverse in self.inverse])
        widths: Floats = np.sqrt(np.maximum(found, 0.0))
        return widths


def upper_confidence(arms: LinearArms, x: Features, alpha: float, less: Floats | float = 0.0) -> Floats:
    """(n, m) θᵀx + alpha·√(xᵀA⁻¹x), the score of disjoint LinUCB (1003.0146, algorithm 1).

    >>> arms = LinearArms.start(2, 2, 1.0).learn(0, np.array([1., 0.]), 1.0)
    >>> upper_confidence(arms, np.array([[1., 0.]]), 1.0).round(4).tolist()
    [[1.2071, 1.0]]
    """
    mean = arms.mean(x, less)
    return mean + alpha * arms.width(x) if alpha else mean


def thompson(arms: LinearArms, x: Features, scale: float, rng: Rng, less: Floats | float = 0.0) -> Floats:
    """(n, m) rewards under one draw of θ ~ N(A⁻¹b, scale²·A⁻¹) per member (1209.3352); all rows share the draw."""
    m, d = arms.b.shape
    draws = rng.standard_normal((m, d, 1))
    theta = arms.weights(less) + scale * (np.linalg.cholesky(np.array(arms.inverse)) @ draws)[:, :, 0]
    rewards: Floats = dense(x) @ theta.T
    return rewards


def reward_inaction(p: Floats, chosen: int, reward: float, rate: float) -> Floats:
    """(m,) the probabilities of a linear reward–inaction automaton after a reward in 0..1 (Narendra, Thathachar).

    p_chosen += rate·reward·(1 − p_chosen), the others shrink by the same share; a reward of 0 changes nothing.

    >>> reward_inaction(np.array([.5, .5]), 0, 1.0, 0.1).tolist()
    [0.55, 0.45]
    """
    step = rate * reward
    moved: Floats = (1 - step) * p + step * np.eye(len(p))[chosen]
    return moved


def moved_value(values: Floats, chosen: int, reward: float, rate: float) -> Floats:
    """(m,) values after Q_chosen ← Q_chosen + rate·(reward − Q_chosen).

    >>> moved_value(np.array([0., 0.]), 1, 1.0, 0.25).tolist()
    [0.0, 0.25]
    """
    after = values.copy()
    after[chosen] += rate * (reward - after[chosen])
    return after
