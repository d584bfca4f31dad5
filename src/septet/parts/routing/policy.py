"""Identity vectors of members, and a policy over them that is told what cost is worth (2502.02743)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import DTypeLike, NDArray

from septet.core.types import Floats
from septet.parts.learning.adam import Adam, batches, by_name, sigmoid, softmax, spread
from septet.parts.learning.bilinear import pull_of
from septet.parts.learning.linear import fit_logistic
from septet.parts.learning.mlp import Mlp, untrained

PASSES = 100
"""More steps than this many passes over few questions only learn them by heart."""


@dataclass(frozen=True)
class Identities:
    """Who the members are: I_m ∼ N(`mean`, e^(2·`log_sd`)), both (m, k), seen through two heads.

    u(x) = x·`weights` + `bias` (n, k) is shared; f = (u ⊙ `score`)·I + `level` is the logit of being right,
    g = (u ⊙ `pair`)·I, with σ(g_a − g_b) the chance that a beats b. `platt` (2,): p̄ = σ(platt₀·f + platt₁).
    """

    weights: Floats
    bias: Floats
    mean: Floats
    log_sd: Floats
    score: Floats
    pair: Floats
    level: Floats
    platt: Floats

    def logits(self, x: Floats) -> Floats:
        """(n, m) f, at the mean identities."""
        f: Floats = ((x @ self.weights + self.bias) * self.score) @ self.mean.T + self.level
        return f

    def calibrated(self, x: Floats) -> Floats:
        """(n, m) p̄, the calibrated chance of being right."""
        return sigmoid(self.platt[0] * self.logits(x) + self.platt[1])


def kl_to_standard(mean: Floats, log_sd: Floats) -> float:
    """KL(N(mean, e^(2·log_sd)) ‖ N(0, 1)), summed over all entries.

    >>> kl_to_standard(np.zeros(3), np.zeros(3))
    0.0
    """
    return float(0.5 * (mean * mean + np.exp(2 * log_sd) - 1 - 2 * log_sd).sum())


def binarised(y: Floats) -> Floats:
    """Scores (r, m) as 0 and 1: above the cut for which the share of ones is nearest to the mean score."""
    known = y[~np.isnan(y)]
    cuts = np.unique(known)
    share = 1 - np.searchsorted(np.sort(known), cuts, side="right") / max(len(known), 1)  # P(y > cut)
    cut = cuts[np.abs(share - known.mean()).argmin()]
    return np.where(np.isnan(y), np.nan, (y > cut).astype(np.float64))


def fit_identities(
    x: Floats,
    y: Floats,
    names: Sequence[str],
    rng: np.random.Generator,
    *,
    size: int = 16,
    kl: float = 1e-3,
    rate: float = 1e-3,
    batch: int = 256,
    epochs: int = 10,
    cooling: float = 0.95,
) -> Identities:
    """Stage one: BCE of scores + BCE of pairs + kl·KL; x (r, d), y (r, m). `cooling` is per pass over the rows."""
    right, d, m = binarised(y), x.shape[1], len(names)
    w, bias, mean = spread((d, size), d, rng), np.zeros(size), by_name(names, size, rng)
    log_sd, score, pair, level = np.full((m, size), -2.0), np.ones(size), np.ones(size), np.zeros(1)
    step = Adam([w, bias, mean, log_sd, score, pair, level], rate=rate)
    for _ in range(epochs):
        for part in batches(len(x), batch, rng):
            noise = by_name(names, size, rng) * np.exp(log_sd)
            arms, u = mean + noise, x[part] @ w + bias
            on_f = pull_of((u * score) @ arms.T + level, right[part], "bce")
            on_g = pull_of((u * pair) @ arms.T, y[part], "pairwise")
            on_arms = on_f.T @ (u * score) + on_g.T @ (u * pair)
            on_u = (on_f @ arms) * score + (on_g @ arms) * pair
            step.step(
                [
                    x[part].T @ on_u,
                    on_u.sum(axis=0),
                    on_arms + kl * mean,
                    on_arms * noise + kl * (np.exp(2 * log_sd) - 1),
                    (u * (on_f @ arms)).sum(axis=0),
                    (u * (on_g @ arms)).sum(axis=0),
                    np.array([on_f.sum()]),
                ]
            )
        step.rate *= cooling
    found = Identities(w, bias, mean, log_sd, score, pair, level, np.array([1.0, 0.0]))
    known = ~np.isnan(right)
    line = fit_logistic(found.logits(x)[known][:, None], right[known][:, None], l2=1e-6)
    return Identities(w, bias, mean, log_sd, score, pair, level, np.array([line.weights[0, 0], line.bias[0]]))


@dataclass(frozen=True)
class Policy:
    """π(m | x, C, w) = softmax_m I_mᵀ h(x, C, w), for identities I (m, k) and a price w of cost.

    The context C holds (I_m, c̄_m, p̂_m) of every member; `element` turns each into a vector, their mean is
    joined to the features and to w, and `head` makes h (n, k) of it. So it does not matter how members are
    ordered, nor how many they are. `element` has one layer, so that its inputs can be multiplied apart.
    """

    element: Mlp
    head: Mlp

    def logits(self, x: Floats, p: Floats, w: Floats, arms: Floats, cost: Floats) -> Floats:
        """(n, m) for x (n, d), p̂ (n, m), w (n,), I (m, k) and relative cost (m,)."""
        return self.forward(x, p, w, arms, cost).logits

    def forward(self, x: Floats, p: Floats, w: Floats, arms: Floats, cost: Floats) -> Pass:
        """The logits, with what their gradient needs."""
        ((weights, bias),) = self.element.layers()
        # of (I_m, c̄_m, p̂_m) only p̂ differs from query to query: the rest is multiplied once per member
        alike = arms @ weights[:-2] + cost[:, None] * weights[-2] + bias  # (m, hidden)
        each = p[:, :, None] * weights[-1]
        each += alike
        np.maximum(each, 0.0, out=each)
        inside = self.head.activations(
            np.concatenate([x, each.mean(axis=1), w[:, None].astype(x.dtype)], axis=1)
        )
        return Pass(inside[-1] @ arms.T, each, inside, p, arms, cost)

    def gradient(self, made: Pass, pull: Floats) -> list[Floats]:
        """Gradients of both networks, where `pull` (n, m) is that of the logits."""
        on_h = pull.astype(made.logits.dtype, copy=False) @ made.arms
        (first, _), (last, _) = self.head.layers()
        n_pooled, m = self.element.sizes[-1], len(made.arms)
        on_hidden = (on_h @ last.T) * (made.inside[1] > 0)
        on_pooled = on_hidden @ first[-1 - n_pooled : -1].T  # the inputs are x, what was pooled, and w
        on_each = (made.each > 0) * (on_pooled / m)[:, None]  # (n, m, hidden)
        on_member = on_each.sum(axis=0)
        on_element = [
            (made.arms.T @ on_member).ravel(),
            made.cost @ on_member,
            made.p.reshape(-1) @ on_each.reshape(-1, n_pooled),
            on_member.sum(axis=0),
        ]
        return [np.concatenate(on_element), self.head.gradient(made.inside, on_h)]


@dataclass(frozen=True)
class Pass:
    """Logits (n, m), with what they were made of: vectors of members `each` (n, m, hidden), the activations
    `inside` of the head, predictions p (n, m), identities (m, k) and costs (m,)."""

    logits: Floats
    each: Floats
    inside: list[Floats]
    p: Floats
    arms: Floats
    cost: Floats


def untrained_policy(d: int, size: int, hidden: int, rng: np.random.Generator) -> Policy:
    """The policy before its first step, for features (n, d) and identities (m, size)."""
    return Policy(untrained((size + 2, hidden), rng), untrained((d + hidden + 1, hidden, size), rng))


def in_precision(policy: Policy, precision: DTypeLike) -> Policy:
    """The same policy with weights of this precision: single for the fit, which takes half the time, else double."""
    element, head = (replace(net, theta=net.theta.astype(precision)) for net in (policy.element, policy.head))
    return Policy(element, head)


def target(p: Floats, cost: Floats, w: Floats) -> NDArray[np.int64]:
    """(n,) the member that p/max p − w·cost/max cost is largest for; p (n, m), cost (m,), w (n,).

    >>> target(np.array([[0.9, 0.6]] * 2), np.array([10.0, 1.0]), np.array([0.37, 0.371])).tolist()
    [0, 1]
    """
    gain = p / np.nanmax(p, axis=1, keepdims=True) - w[:, None] * cost / cost.max()
    return np.asarray(np.where(np.isnan(gain), -np.inf, gain).argmax(axis=1))


@dataclass(frozen=True)
class World:
    """What a policy learns from: features x (r, d), calibrated and plain predictions, `p` and `raw` (r, m),
    recorded scores y (r, m) with NaN unknown, names (m,), identities (m, k), costs (m,), the largest of them 1."""

    x: Floats
    p: Floats
    raw: Floats
    y: Floats
    names: Sequence[str]
    arms: Floats
    cost: Floats

    def in_precision(self, precision: DTypeLike) -> World:
        """The same numbers in this precision, which is then that of every step."""
        numbers = {n: getattr(self, n).astype(precision) for n in ("x", "p", "raw", "y", "arms", "cost")}
        return replace(self, **numbers)


def enough(steps: int, batch: int, n: int) -> int:
    """As many of the steps as draw every one of n questions `PASSES` times on average, and no more.

    >>> enough(500, 256, 10_000), enough(500, 256, 60)
    (500, 100)
    """
    return min(steps, max(1, PASSES * n // min(batch, n)))


def pretrain(
    policy: Policy,
    world: World,
    rng: np.random.Generator,
    *,
    rate: float,
    batch: int,
    steps: int,
    w_max: float,
) -> None:
    """Stage two: cross-entropy towards `target` at prices w ∼ U(0, w_max); the policy is changed in place."""
    step = Adam([policy.element.theta, policy.head.theta], rate=rate)
    for _ in range(enough(steps, batch, len(world.x))):
        rows = rng.integers(0, len(world.x), min(batch, len(world.x)))
        w = rng.uniform(0, w_max, len(rows))
        made = policy.forward(world.x[rows], world.raw[rows], w, world.arms, world.cost)
        pull = softmax(made.logits)
        pull[np.arange(len(rows)), target(world.p[rows], world.cost, w)] -= 1
        step.step(policy.gradient(made, pull / len(rows)))


@dataclass(frozen=True)
class Ppo:
    """The constants of stage three; clip, epochs, value weight, entropy and mix-up as in a re-implementation."""

    rate: float = 1e-3
    batch: int = 256
    steps: int = 500
    w_max: float = 2.0
    clip: float = 0.2
    epochs: int = 4
    value: float = 0.5
    entropy: float = 0.01
    mixup: float = 0.2


def improve(
    policy: Policy, world: World, near: NDArray[np.int64], rng: np.random.Generator, how: Ppo
) -> None:
    """Stage three: clipped policy gradient on episodes of one step; the policy is changed in place.

    The reward is a vector, (score, −cost), its baseline V (n, 2) a network that does not see w; the advantage
    of w is (1, w)·(r − V). With mix-up, a question is blended with its nearest one, `near` (r,).
    """
    d, m = world.x.shape[1], len(world.arms)
    place = np.argsort(np.argsort(world.names))  # draws do not depend on the order of members
    critic = untrained((d + 2, policy.head.sizes[1], 2), rng)
    critic = replace(critic, theta=critic.theta.astype(policy.head.theta.dtype))
    step = Adam([policy.element.theta, policy.head.theta, critic.theta], rate=how.rate)

    def seen(x: Floats, p: Floats) -> Floats:
        return np.concatenate([x, p.mean(axis=1)[:, None], p.max(axis=1)[:, None]], axis=1)

    def play(rows: NDArray[np.int64], w: Floats) -> tuple[Floats, ...]:
        """Drawn members, their old probabilities, advantages, and rewards (n, 2)."""
        logits = policy.logits(world.x[rows], world.raw[rows], w, world.arms, world.cost)
        p = softmax(np.where(np.isnan(world.y[rows]), -np.inf, logits))
        with np.errstate(divide="ignore"):  # the largest of log p + Gumbel noise is a draw from p
            drawn = (np.log(p) + rng.gumbel(size=p.shape)[:, place]).argmax(axis=1)
        at = np.arange(len(rows))
        reward = np.column_stack([world.y[rows, drawn], -world.cost[drawn]])
        baseline = critic.activations(seen(world.x[rows], world.raw[rows]))[-1]
        gain = ((reward - baseline) * np.column_stack([np.ones(len(rows)), w])).sum(axis=1)
        return drawn, p[at, drawn], gain, reward

    for _ in range(enough(how.steps, how.batch, len(world.x))):
        rows = rng.integers(0, len(world.x), min(how.batch, len(world.x)))
        w = rng.uniform(0, how.w_max, len(rows))
        share = np.ones(len(rows))
        drawn, old, gain, reward = play(rows, w)
        x, raw, dominant = world.x[rows], world.raw[rows], rows
        if how.mixup:
            other = near[rows]
            w_other = rng.uniform(0, how.w_max, len(rows))
            drawn_other, old_other, gain_other, reward_other = play(other, w_other)
            share = rng.beta(how.mixup, how.mixup, len(rows))
            mine, column = share >= 0.5, share[:, None]
            own, others = (s.astype(x.dtype) for s in (column, 1 - column))
            x, raw = own * x + others * world.x[other], own * raw + others * world.raw[other]
            old, gain = share * old + (1 - share) * old_other, share * gain + (1 - share) * gain_other
            reward = column * reward + (1 - column) * reward_other
            drawn, w = np.where(mine, drawn, drawn_other), np.where(mine, w, w_other)
            dominant = np.where(mine, rows, other)
        unknown, at = np.isnan(world.y[dominant]), np.arange(len(rows))
        chosen = np.eye(m)[drawn]
        for _ in range(how.epochs):
            made = policy.forward(x, raw, w, world.arms, world.cost)
            p = softmax(np.where(unknown, -np.inf, made.logits))
            ratio = p[at, drawn] / np.maximum(old, 1e-8)
            clipped = np.where(gain > 0, ratio > 1 + how.clip, ratio < 1 - how.clip)
            surprise = np.log(np.maximum(p, 1e-12))
            chaos = -(p * surprise).sum(axis=1, keepdims=True)
            pull = -np.where(clipped, 0.0, gain * ratio)[:, None] * (chosen - p)
            pull += how.entropy * p * (surprise + chaos)
            inside = critic.activations(seen(x, raw))
            on_value = (how.value * 2 * (inside[-1] - reward) / len(rows)).astype(x.dtype, copy=False)
            step.step([*policy.gradient(made, pull / len(rows)), critic.gradient(inside, on_value)])
