"""The numbers by which routers are compared, from weights over members and recorded outcomes.

Weights, scores and usd are (n, m) over questions and members; quality and usd (n,) are what a router realised
(`engine.offline.realised`). NaN is unknown and left out of means. Areas and curves are in `bench.curves`, bounds in
`bench.bounds`, intervals in `parts.stats.bootstrap`, Brier, ECE and AUC in `parts.stats.calibration`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from septet.bench.bounds import column_means
from septet.core.errors import UnknownName
from septet.core.types import Floats
from septet.engine.offline import realised

ARENA_DEAREST, ARENA_CHEAPEST, ARENA_BETA = 200.0, 0.0044, 0.1
"""USD per 1,000 questions at which RouterArena's cost score is 0 and 1, and the weight of cost (arXiv 2510.00202)."""

REFERENCE: Mapping[str, float] = {
    "arc": 0.852,
    "hellaswag": 0.953,
    "mmlu": 0.864,
    "truthfulqa": 0.669,
    "winogrande": 0.875,
    "gsm8k": 0.92,
    "ifeval": 0.7689,
    "bbh": 0.8303,
    "gpqa": 0.397,
    "math": 0.4,
    "musr": 0.699,
    "mmlu-pro": 0.637,
}
"""Scores of RouterEval's reference model per benchmark (arXiv 2503.10657, from its code)."""

MEANING: Mapping[str, str] = {
    "AIQ": "mean height of the hull over the shared range of cost",
    "AIQ of the zero router": "the same of random mixtures of single members",
    "AUDC": "mean height of the deferral curve over the shared range of cost",
    "QNC": "least cost at the best single member's quality ÷ its cost; ∞ if never reached",
    "peak": "highest mean quality over the sweep of λ",
    "APGR": "area under the recovered gap over the share of strong calls; random .5",
    "CPT(50 %)": "share of strong calls that recovers half of the gap; random .5",
    "CPT(80 %)": "share of strong calls that recovers 80 % of the gap; random .8",
    "RouterArena": "harmonic mean of accuracy and log cost, accuracy weighing ten times as much",
    "Gain@R": "mean over tasks ÷ that of random − 1",
    "Gain@B": "mean over tasks ÷ that of the best single member − 1",
    "Gap@O": "1 − mean over tasks ÷ that of the oracle",
    "PerfGain": "peak ÷ the best single member − 1",
    "CostSave": "1 − QNC",
    "ParetoDist": "mean distance to the front of all routers; both axes scaled to [0, 1]",
    "V_R": "mean ÷ reference model of the benchmark",
    "V_B": "mean ÷ best single member on test",
    "E_p": "entropy of softmax(predicted quality) in bits",
    "entropy of picks": "entropy of the shares of members in bits",
    "RCI": "routing collapse: share of questions on which the dearest is asked in vain, or a best one missed",
    "regret": "mean of the best score − the chosen one's",
    "AUC": "chance that a right answer was predicted better than a wrong one",
    "Brier": "mean of (predicted − observed)²",
    "ECE": "mean of |predicted − observed| over ten bins",
    "spread": "standard deviation of the routing score",
    "− random": "quality less that of a member drawn at random; paired",
    "− plurality": "quality less that of the members' most frequent final answer; paired",
    "− oracle": "quality less that of the best member of each question; paired",
    "answers": "answers of members per question, every sample counted",
    "judgements": "judgements per question",
    "texts embedded": "texts that the encoder read per question",
    "USD of judges": "what the judges cost per question",
    "s of models": "seconds per question of members and roles, one after the other",
    "s/question": "seconds of computing per question, without members, judges and encoder",
    "ΔIBC %": "quality bought per unit of cost, against the line from the cheapest member to the best",
    "AURC": "mean loss among the most confident answers, over all coverages",
    "quality at 80 %": "quality of the 80 % most confident answers",
    "quality at 50 %": "quality of the more confident half",
}
"""What the metrics of a `RouterResult` mean, by their names."""


def arena_score(quality: float, usd_per_1k: float) -> float:
    """RouterArena's score (arXiv 2510.00202): S = (1 + β)·A·C / (β·A + C), A being the accuracy in [0, 1].

    C = (log2 200 − log2 usd_per_1k) / (log2 200 − log2 0.0044), β = 0.1. Negative above 200 USD per 1,000
    questions; NaN for a cost that is unknown or not above 0, which has no logarithm.

    >>> round(arena_score(.6688, .15), 4)
    0.669
    """
    if not usd_per_1k > 0:
        return float("nan")
    wide = np.log2(ARENA_DEAREST) - np.log2(ARENA_CHEAPEST)
    cheap = (np.log2(ARENA_DEAREST) - np.log2(usd_per_1k)) / wide
    return float((1 + ARENA_BETA) * quality * cheap / (ARENA_BETA * quality + cheap))


def task_mean(quality: Floats, tasks: Sequence[str]) -> float:
    """AvgAcc of LLMRouterBench (arXiv 2601.07206): the mean over tasks of the mean quality (n,) in each."""
    of = np.asarray(tasks)
    known = ~np.isnan(quality)
    means = [quality[known & (of == task)].mean() for task in np.unique(of[known])]
    return float(np.mean(means)) if means else float("nan")


def gain(value: float, over: float) -> float:
    """value / over − 1: Gain@R over random, Gain@B and PerfGain over the best single member (arXiv 2601.07206)."""
    return value / over - 1 if over else float("nan")


def gap(value: float, oracle: float) -> float:
    """1 − value / oracle: Gap@O (arXiv 2601.07206)."""
    return 1 - value / oracle if oracle else float("nan")


def v_r(quality: float, benchmark: str) -> float:
    """V_R: quality ÷ that of RouterEval's reference model on the benchmark (arXiv 2503.10657)."""
    if benchmark not in REFERENCE:
        raise UnknownName("benchmark", benchmark, REFERENCE)
    return quality / REFERENCE[benchmark]


def v_b(quality: float, best: float) -> float:
    """V_B: quality ÷ that of the best single member of the pool, chosen on test (arXiv 2503.10657)."""
    return quality / best if best else float("nan")


def score_entropy(q: Floats) -> float:
    """E_p in bits: the mean entropy of softmax(q), q (n, m) being predicted scores (arXiv 2503.10657, its code).

    log2 m means no preference. The softmax squashes scores in [0, 1], so it compares within one kind of router.
    """
    rows = q[~np.isnan(q).all(axis=1)]
    if not len(rows):
        return float("nan")
    score = np.where(np.isnan(rows), -np.inf, rows)
    score = np.exp(score - score.max(axis=1, keepdims=True))
    return float(entropy(score / score.sum(axis=1, keepdims=True)).mean())


def entropy(p: Floats) -> Floats:
    """(…) entropy in bits of distributions p (…, m); of `pick_shares` it says how many members are in use."""
    surprise = np.log2(p, out=np.zeros_like(p, dtype=np.float64), where=p > 0)
    bits: Floats = np.asarray(-(p * surprise).sum(axis=-1))
    return bits + 0.0  # no minus zero


def pick_shares(weights: Floats) -> Floats:
    """(m,) share of the questions that each member gets, from weights (n, m)."""
    shares: Floats = weights.mean(axis=0)
    return shares


def collapse_index(weights: Floats, scores: Floats, usd: Floats) -> float:
    """RCI (arXiv 2602.03478, from ORBIT's code): the share of questions that are routed as in a collapse.

    0 for a question if a best member is chosen that is not the dearest, or if only the dearest is best and it is
    chosen; else 1. The dearest is the member with the highest mean usd (n, m); it is expected over the weights.
    Questions without a known score are left out.
    """
    asked = ~np.isnan(scores).all(axis=1)
    price = column_means(usd)
    if np.isnan(price).all() or not asked.any():
        return float("nan")
    dearest = int(np.nanargmax(price))
    best = scores[asked] == np.fmax.reduce(scores[asked], axis=1, keepdims=True)
    right = best.astype(np.float64)
    right[:, dearest] = best[:, dearest] & (best.sum(axis=1) == 1)
    return float(1 - (weights[asked] * right).sum(axis=1).mean())


def regrets(weights: Floats, scores: Floats, usd: Floats | None = None, prefer: float = 0.0) -> Floats:
    """(n,) max over members of u − expected u of the weights, u = scores − prefer·usd; NaN where unknown."""
    net = scores if prefer == 0 or usd is None else scores - prefer * usd
    found: Floats = np.fmax.reduce(net, axis=1) - realised(weights, net)
    return found


def score_spread(q: Floats) -> float:
    """The standard deviation of the routing score over questions, root mean square over members, of q (n, m).

    Each question's mean is taken off first, as it does not decide. For two members with q = [1 − p, p] it is the
    deviation of p: where it is near 0, a threshold on p means nothing (arXiv 2602.03478).
    """
    known = ~np.isnan(q)
    per_query = np.where(known, q, 0.0).sum(axis=1, keepdims=True) / np.maximum(
        known.sum(axis=1, keepdims=True), 1
    )
    centred = q - per_query
    variance = column_means((centred - column_means(centred)) ** 2)
    return float(np.sqrt(variance[~np.isnan(variance)].mean())) if known.any() else float("nan")
