"""The curve of a cascade: its operating points as the knob that it has is turned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from septet.bench.after.jobs import Job
from septet.bench.after.replay import Replay, Stage
from septet.bench.after.trial import On, prepare
from septet.bench.replayed import FEW, prices
from septet.bench.results import encode, interval
from septet.core.errors import BadParameter
from septet.core.method import parameters_of
from septet.parts.stats.bootstrap import Resamples

PROBED = 40
"""Questions on which is seen whether a cascade reads the price of cost."""

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of a cascade that is fitted for a share of questions to be passed on, or of a budget."""

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of a cascade that has one threshold."""


def curve_of(stage: Stage, on: On, job: Job, played: Replay) -> dict[str, Any] | None:
    """Operating points of a cascade, by the knob that it has; None where it has none.

    A threshold of its own, the request's price of cost where the method reads it, or what it is fitted for.
    """
    knob, tried = _knob(stage, on, job)
    if not knob:
        return None
    again = Resamples.of(len(on.index), np.random.default_rng([job.seed, 3]), draws=job.draws)
    values, points, quality, cost = [], [], [], []
    for value in tried:
        try:
            found = _at(stage, on, job, knob, value)
        except BadParameter:  # a value that this method or this table does not allow
            continue
        values.append(encode(value))
        points.append(point(value if knob == "prefer" else None, found, again, on.trial.priced))
        quality.append(float(found.quality.mean()))
        cost.append(float(found.usd.mean()))
    default = 0.0 if knob == "prefer" else None
    return {
        "knob": knob,
        "default": default,
        "values": values,
        "points": points,
        "quality": quality,
        "cost": cost,
    }


def _knob(stage: Stage, on: On, job: Job) -> tuple[str, Sequence[float]]:
    """The name of the knob, and the values to try."""
    named = {p.name for p in parameters_of(type(stage.method))}
    if "threshold" in named:
        return "threshold", THRESHOLDS
    probe = on.index[:PROBED]
    free, dear = (_stage(stage).play(probe, job.seed, prefer=p) for p in (0.0, np.inf))
    if (free.usd != dear.usd).any() or (free.member != dear.member).any():
        costs = on.alone.costs if on.trial.priced else np.array([1.0, 2.0])
        return "prefer", prices(costs, FEW)[1:]
    for name in ("defer_share", "budget_share"):
        if name in named:
            return name, SHARES
    if "budget_usd" in named:
        means = on.alone.usd.mean(axis=0)
        low, high = float(means.min()), float(means.max() if on.trial.priced else len(means))
        return "budget_usd", np.geomspace(low, high, len(SHARES)).tolist() if low < high else []
    return "", ()


def _at(stage: Stage, on: On, job: Job, knob: str, value: float) -> Replay:
    """The replay at one value of the knob; a parameter that the fit reads is fitted for."""
    if knob == "prefer":
        return _stage(stage).play(on.index, job.seed, prefer=value)
    given = {p.name: getattr(stage.method, p.name) for p in parameters_of(type(stage.method))}
    other = Stage(type(stage.method)(**{**given, knob: value}), stage.members, stage.world)
    if knob == "threshold" and stage.method.card.trained and other.method.begin(stage.members) is None:
        other.state = stage.state
    else:
        prepare(other, on.trial, job.seed, [])
    return other.play(on.index, job.seed)


def _stage(stage: Stage) -> Stage:
    """The same at its start, for another replay."""
    fresh = Stage(stage.method, stage.members, stage.world)
    begun = stage.method.begin(stage.members)
    fresh.state = stage.state if begun is None else begun
    return fresh


def point(prefer: float | None, played: Replay, again: Resamples, priced: bool) -> dict[str, Any]:
    return {
        "prefer": None if prefer is None else encode(prefer),
        "quality": interval(again.mean(played.quality)),
        "usd": interval(again.mean(played.usd) if priced else np.nan),
    }
