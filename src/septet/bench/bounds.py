"""What needs no router, and what none can pass: the rows that every table of routers must hold.

Scores and usd are (n, m) over questions and members; NaN is unknown. A bound is a set of weights over members, so
its quality, cost and pick shares are realised like a router's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from septet.core.errors import BadParameter
from septet.core.types import Floats
from septet.engine.offline import realised

Unsolvable = Literal["free", "cheapest"]
"""What the oracle pays for a question that no member answers with a score above 0. "free": nothing, as RouterBench
counts (arXiv 2403.12031). "cheapest": the cheapest member, as LLMRouterBench counts (arXiv 2601.07206)."""


@dataclass(frozen=True)
class Bound:
    """A bound on one split: per question its quality (n,), usd (n,) and weights (n, m), with its convention."""

    name: str
    convention: str
    quality: Floats
    usd: Floats
    weights: Floats


def bounds(
    train: Floats,
    scores: Floats,
    usd: Floats,
    tasks: Sequence[str],
    *,
    unsolvable: Unsolvable = "cheapest",
) -> tuple[Bound, ...]:
    """All bounds of one split, in the order of a table: train (r, m) scores; scores and usd (n, m) of the test.

    "best single (train)", "best single (test)", "random", "task oracle", "oracle". The zero router, which is a
    curve and not a point, is `curves.zero_router(column_means(usd), column_means(scores))`.
    """
    _check(scores, usd, tasks)
    honest, lucky = best_single(train), best_single(scores)
    kinds = (
        ("best single (train)", "the member with the best mean score on train", single(honest, scores)),
        (
            "best single (test)",
            "the member with the best mean score on these questions",
            single(lucky, scores),
        ),
        ("random", "each member with equal probability", random(scores)),
        (
            "task oracle",
            "in each task the member that is best in it on these questions",
            task_oracle(scores, tasks),
        ),
    )
    found = [Bound(n, how, realised(w, scores), realised(w, usd), w) for n, how, w in kinds]
    return (*found, _oracle(scores, usd, unsolvable))


def best_single(scores: Floats) -> int:
    """The member with the best mean of its known scores (n, m); ties go to the first, an unseen one is never it."""
    means = column_means(scores)
    if np.isnan(means).all():
        raise BadParameter("scores", scores.shape, "must hold at least one known score")
    return int(np.nanargmax(means))


def single(member: int, scores: Floats) -> Floats:
    """(n, m) weights of always asking one member."""
    weights = np.zeros(scores.shape)
    weights[:, member] = 1.0
    return weights


def random(scores: Floats) -> Floats:
    """(n, m) weights of drawing each member whose score is known with equal probability."""
    known = ~np.isnan(scores)
    known |= ~known.any(axis=1, keepdims=True)
    weights: Floats = known / known.sum(axis=1, keepdims=True)
    return weights


def task_oracle(scores: Floats, tasks: Sequence[str]) -> Floats:
    """(n, m) weights of asking, in each task, the member that is best in it on these very questions.

    arXiv 2601.07206 calls it the data-set oracle: what perfect classification of tasks is worth.
    """
    weights = np.zeros(scores.shape)
    of = np.asarray(tasks)
    for task in np.unique(of):
        means = column_means(scores[of == task])
        weights[of == task, np.where(np.isnan(means), -np.inf, means).argmax()] = 1.0
    return weights


def oracle(scores: Floats, usd: Floats) -> Floats:
    """(n, m) weights of asking the best member of each question, the cheapest one on ties.

    Ties between unknown costs go to the first member.
    """
    top = np.fmax.reduce(scores, axis=1, keepdims=True)
    price = np.where(np.isnan(usd), np.inf, usd)
    among = scores == top
    least = np.where(among, price, np.inf).min(axis=1, keepdims=True)
    weights: Floats = np.eye(scores.shape[1])[(among & (price == least)).argmax(axis=1)]
    return weights


def column_means(outcome: Floats) -> Floats:
    """(m,) means of what is known of outcomes (n, m); NaN for a member of which nothing is."""
    known = ~np.isnan(outcome)
    with np.errstate(invalid="ignore"):
        means: Floats = np.where(known, outcome, 0.0).sum(axis=0) / known.sum(axis=0)
    return means


def _oracle(scores: Floats, usd: Floats, unsolvable: Unsolvable) -> Bound:
    weights = oracle(scores, usd)
    quality, spent = realised(weights, scores), realised(weights, usd)
    paid = "costs the cheapest member"
    if unsolvable == "free":
        paid = "costs nothing"
        spent = np.where(quality <= 0, 0.0, spent)
    told = f"the best member of each question, the cheapest on ties; a question that nobody solves {paid}"
    return Bound("oracle", told, quality, spent, weights)


def _check(scores: Floats, usd: Floats, tasks: Sequence[str]) -> None:
    if scores.shape != usd.shape:
        raise BadParameter("usd", usd.shape, f"must be of the shape of the scores, {scores.shape}")
    if len(tasks) != len(scores):
        raise BadParameter("tasks", len(tasks), f"must name a task for each of {len(scores)} questions")
