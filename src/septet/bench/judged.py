"""What decisions on recorded outcomes come to: operating points, metrics with intervals, picks, regrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from septet.bench import metrics
from septet.bench.curves import aiq, apgr, audc, call_curve, cost_save, cpt, peak, qnc
from septet.bench.jobs import Job
from septet.bench.results import encode, interval
from septet.bench.trials import Trial
from septet.core.types import Floats
from septet.engine.offline import realised
from septet.parts.stats.bootstrap import Resamples
from septet.parts.stats.calibration import auc, brier, ece, reliability
from septet.parts.stats.intervals import Estimate

WORST = 12
"""Questions kept with their excerpt, those with the largest regret."""

EXCERPT = 400
"""Characters of such a question."""

_SWEEPS = 200
"""Resamples of whole call curves, whose points are as many as the questions."""


def judged(
    job: Job, on: Trial, whole: Trial, prefers: Sequence[float], q: Floats, weights: Floats
) -> dict[str, Any]:
    """Points, picks, metrics and regrets, from predictions (n, m) and weights (l, n, m').

    `on` is what the router saw, m members; `whole` the trial with all m' members, which it is held against.
    """
    again = Resamples.of(len(on.index), np.random.default_rng([job.seed, 3]), draws=job.draws)
    quality = realised(weights, whole.scores)  # (l, n)
    usd = realised(weights, whole.usd) if on.priced else np.full(quality.shape, np.nan)
    drawn = again.means(quality.T), again.means(usd.T)  # (draws, l) each
    points = [
        {
            "prefer": encode(prefer),
            "quality": _interval(again, float(quality[i].mean()), drawn[0][:, i]),
            "usd": _interval(again, float(usd[i].mean()), drawn[1][:, i]),
        }
        for i, prefer in enumerate(prefers)
    ]
    return {
        "points": points,
        "quality": listed(quality[0]),
        "usd": listed(usd[0]) if on.priced else None,
        "picks": metrics.pick_shares(weights[0]).tolist(),
        "metrics": {
            name: interval(value)
            for name, value in {
                **_choices(whole, weights[0], quality[0], again),
                **(_costs(whole, weights[0], quality, usd, drawn, again) if on.priced else {}),
                **_predictions(on, q, again),
            }.items()
        },
        "calibration": _calibration(q, on.scores),
        "regrets": _regrets(whole, weights[0]),
    }


def _choices(on: Trial, weights: Floats, quality: Floats, again: Resamples) -> dict[str, Estimate | float]:
    """What weights (n, m) and what they realised (n,) at λ = 0 say."""
    return {
        "regret": again.mean(metrics.regrets(weights, on.scores)),
        "V_B": metrics.v_b(float(quality.mean()), float(on.scores.mean(axis=0).max())),
        "entropy of picks": float(metrics.entropy(metrics.pick_shares(weights))),
        **_task_gains(on, quality),
    }


def _costs(
    on: Trial,
    weights: Floats,
    quality: Floats,
    usd: Floats,
    drawn: tuple[Floats, Floats],
    again: Resamples,
) -> dict[str, Estimate | float]:
    """What the sweep of prices says: quality and usd (l, n), their means in resamples (draws, l) each."""
    means, cost = quality.mean(axis=1), usd.mean(axis=1)
    low, high = on.span
    single = int(on.scores.mean(axis=0).argmax())
    best = float(on.usd[:, single].mean()), float(on.scores[:, single].mean())
    drawn_best = again.means(on.usd[:, single]), again.means(on.scores[:, single])
    return {
        "AIQ": again.estimate(float(aiq(cost, means, low, high)), aiq(drawn[1], drawn[0], low, high)),
        "AUDC": again.estimate(float(audc(cost, means, low, high)), audc(drawn[1], drawn[0], low, high)),
        "peak": again.estimate(float(peak(means)), peak(drawn[0])),
        "QNC": again.estimate(float(qnc(cost, means, *best)), qnc(drawn[1], drawn[0], *drawn_best)),
        "CostSave": float(cost_save(cost, means, *best)),
        "PerfGain": metrics.gain(float(peak(means)), best[1]),
        "RCI": metrics.collapse_index(weights, on.scores, on.usd),
        "RouterArena": metrics.arena_score(float(means[0]), 1000 * float(cost[0])),
    }


def _predictions(on: Trial, q: Floats, again: Resamples) -> dict[str, Estimate | float]:
    """What predicted quality (n, m) says about scores; left out where it is not defined."""
    found: dict[str, Estimate | float] = {}
    known = ~np.isnan(q)
    if known.all():
        found |= {"spread": metrics.score_spread(q), "E_p": metrics.score_entropy(q)}
        if q.shape[1] == 2:
            found |= _calls(q[:, 1] - q[:, 0], on, again)
    right = (on.scores >= 0.5).astype(np.float64)
    if known.any() and 0 < right[known].mean() < 1:
        found["AUC"] = float(auc(q[known], right[known]))
    if known.any() and q[known].min() >= 0 and q[known].max() <= 1:
        found |= {"Brier": brier(q, on.scores), "ECE": ece(q, on.scores)}
    return found


def _task_gains(on: Trial, quality: Floats) -> dict[str, float]:
    """Gain@R, Gain@B and Gap@O over the mean of tasks; the best single member is that of the test."""
    tasks = on.test.tasks
    value = metrics.task_mean(quality, tasks)
    each = [metrics.task_mean(column, tasks) for column in on.scores.T]
    return {
        "Gain@R": metrics.gain(value, float(np.mean(each))),
        "Gain@B": metrics.gain(value, max(each)),
        "Gap@O": metrics.gap(value, metrics.task_mean(on.scores.max(axis=1), tasks)),
    }


def _calls(score: Floats, on: Trial, again: Resamples) -> dict[str, Estimate]:
    """APGR and CPT of a score (n,) by which questions go to the second of two members."""
    weak, strong = on.scores[:, 0], on.scores[:, 1]
    curve = call_curve(score, weak, strong)
    drawn = call_curve(score, weak, strong, counts=again.counts[:_SWEEPS].astype(np.float64))
    found = {"APGR": again.estimate(float(apgr(curve.shares, curve.pgr)), apgr(drawn.shares, drawn.pgr))}
    for name, level in (("CPT(50 %)", 0.5), ("CPT(80 %)", 0.8)):
        one, many = cpt(curve.shares, curve.pgr, level), cpt(drawn.shares, drawn.pgr, level)
        found[name] = again.estimate(float(one), many)
    return found


def _calibration(q: Floats, scores: Floats) -> Sequence[Mapping[str, Any]]:
    """Ten bins of predicted quality; none where it is not on the scale of scores."""
    known = q[~np.isnan(q)]
    if not len(known) or known.min() < 0 or known.max() > 1:
        return []
    bins = reliability(q, scores)
    columns = (bins.predicted.tolist(), bins.observed.tolist(), bins.count.astype(int).tolist())
    return [{"predicted": p, "observed": o, "count": n} for p, o, n in zip(*columns, strict=True)]


def _regrets(on: Trial, weights: Floats) -> Sequence[Mapping[str, Any]]:
    """The questions with the largest regret, the first of equals first."""
    regret = metrics.regrets(weights, on.scores)
    found = []
    for i in np.argsort(-regret, kind="stable")[:WORST].tolist():
        if regret[i] <= 0:
            break
        chosen, top = int(weights[i].argmax()), int(on.scores[i].argmax())
        found.append(
            {
                "question": on.test.questions[i][:EXCERPT],
                "task": on.test.tasks[i],
                "chosen": on.test.members[chosen],
                "best": on.test.members[top],
                "score_chosen": float(on.scores[i, chosen]),
                "score_best": float(on.scores[i, top]),
                "regret": float(regret[i]),
            }
        )
    return found


def _interval(again: Resamples, value: float, drawn: Floats) -> Any:
    return interval(again.estimate(value, drawn))


def listed(values: Floats) -> list[Any]:
    """Numbers as JSON can hold them, to six digits.

    >>> listed(np.array([1 / 3, np.nan]))
    [0.333333, None]
    """
    return [encode(float(f"{v:.6g}")) for v in values.tolist()]
