"""One method, or the bounds, on recorded answers: quality, cost, calibration, and for cascades a curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any, cast

import numpy as np

from septet.bench.after.contenders import Contender, family
from septet.bench.after.embedding import Embeddings
from septet.bench.after.jobs import Job
from septet.bench.after.replay import Replay, Stage
from septet.bench.after.sets import open_answers
from septet.bench.after.swept import curve_of, point
from septet.bench.after.trial import On, prepare
from septet.bench.after.world import Unrecorded, World
from septet.bench.bounds import Bound, best_single, bounds, column_means, single
from septet.bench.curves import aiq, qnc, zero_router
from septet.bench.judged import listed
from septet.bench.metrics import pick_shares
from septet.bench.results import encode, interval
from septet.bench.trials import Trial, weak_and_strong
from septet.core.errors import BadParameter, ConfigError
from septet.core.facets import Family
from septet.core.method import Method, parameters_of
from septet.core.types import Completion, Floats
from septet.parts.answers.vote import outcome, shares, winner
from septet.parts.deferral.value_table import lift
from septet.parts.stats.bootstrap import Resamples
from septet.parts.stats.calibration import auc, brier, ece, reliability, risk_coverage
from septet.parts.stats.intervals import Estimate

PLURALITY = "plurality"
"""The bound that takes the most frequent final answer."""


def measure(job: Job, folder: Path | None = None) -> dict[str, Any]:
    """The facts of a job as JSON; of a method that cannot be replayed, what is `missing` or wrong."""
    on = On.of(open_answers(job.data, job.limit), job.seed)
    if job.contender is None:
        return head_of(on) | bound_facts(on)
    assert isinstance(job.contender, Contender)
    return head_of(on) | _method(job, job.contender, on, Embeddings(folder), list(on.trial.notes))


def head_of(on: On) -> dict[str, Any]:
    """What every job's facts begin with."""
    trial = on.trial
    return {
        "n_train": len(trial.train.queries),
        "n_test": len(trial.index),
        "index": trial.index.tolist(),
        "members": list(trial.test.members),
        "notes": list(trial.notes),
        "priced": trial.priced,
    }


# --- bounds -----------------------------------------------------------------------------------------


def bound_facts(on: On) -> dict[str, Any]:
    """What no method is needed for, or what none can pass."""
    trial = on.alone
    found = [
        *bounds(trial.train.matrix("score"), trial.scores, trial.usd, trial.test.tasks),
        plurality(trial),
    ]
    facts: dict[str, Any] = {
        "bounds": [
            {
                "name": b.name,
                "convention": b.convention,
                "quality": listed(b.quality),
                "usd": listed(b.usd) if trial.priced else None,
                "picks": b.weights.mean(axis=0).tolist(),
            }
            for b in found
        ]
    }
    if trial.priced:
        hull = zero_router(trial.usd.mean(axis=0), trial.scores.mean(axis=0))
        area = _area(trial, hull.usd, hull.quality)
        facts |= {"zero_router": [hull.usd.tolist(), hull.quality.tolist()], "aiq_zero": encode(area)}
    return facts


def plurality(trial: Trial) -> Bound:
    """The most frequent final answer among the members' first ones; ties go to the first member."""
    table = trial.test
    n, m = trial.scores.shape
    said = np.full((n, m), "", dtype=object)
    score = np.zeros((n, m))
    order = np.lexsort((-table.sample, table.member, table.query))  # the first sample is written last
    for row in order.tolist():
        place = int(table.query[row]), int(table.member[row])
        said[place] = outcome(Completion(member="", text=str(table.text[row] or "")))
        score[place] = table.score[row]
    chosen = np.empty(n, dtype=np.int64)
    for q in range(n):
        posterior = shares(said[q].tolist(), np.ones(m))
        chosen[q] = posterior.of.index(winner(posterior))
    weights = np.eye(m)[chosen]
    told = "the most frequent final answer among the members' first ones, the first of equals; everybody is asked"
    return Bound(PLURALITY, told, score[np.arange(n), chosen], trial.usd.sum(axis=1), weights)


def _area(trial: Trial, usd: Floats, quality: Floats) -> float:
    """Mean height of the hull over the costs of single members, or over one to m answers where no cost is known."""
    low, high = trial.span if trial.priced else (1.0, float(len(trial.test.members)))
    return float(aiq(usd, quality, low, high)) if low < high else float("nan")


# --- a method ---------------------------------------------------------------------------------------


def _method(
    job: Job, contender: Contender, on: On, embeddings: Embeddings, notes: list[str]
) -> dict[str, Any]:
    """Its facts. Where its defaults want what is not recorded, it is played in the nearest way that is."""
    tried = contender
    try:
        while True:
            method: Method = tried.make()
            try:
                found = _measured(job, method, on, embeddings, list(notes))
                break
            except Unrecorded as missing:
                other = _nearest(contender, tried, method, on, missing)
                if other is None:
                    return {"missing": missing.ask}
                tried = other
    except (
        ConfigError
    ) as error:  # the method does not go with this pool or this table, or an extra is missing
        return {"missing": str(error)}
    finally:
        embeddings.keep()
    if tried != contender:
        changed = [pair for pair in tried.given if pair not in contender.given]
        said = ", ".join(f"{name} = {value}" for name, value in changed)
        found["notes"].append(f"{said}, as the defaults want what is not recorded")
    return found | {"played": tried.variant, "parameters": _jsonable(asdict(cast("Any", method)))}


def _nearest(
    contender: Contender, tried: Contender, method: Any, on: On, missing: Unrecorded
) -> Contender | None:
    """As many samples as are recorded; else the first other choice of one parameter by which all is recorded.

    What was given stays, and a parameter is changed once.
    """
    given = {name for name, _ in contender.given}
    names = {p.name for p in parameters_of(type(method))} - given
    if missing.samples and "samples" in names and missing.samples < method.samples:
        return _made(tried, "samples", missing.samples)
    names -= {name for name, _ in tried.given}
    for p in parameters_of(type(method)):
        choices = p.rule.removeprefix("one of ").split(", ") if p.rule.startswith("one of ") else []
        for choice in choices if p.name in names else ():
            other = None if choice == getattr(method, p.name) else _made(tried, p.name, choice)
            if other is not None and _plays(other.make(), on):
                return other
    return None


def _made(contender: Contender, name: str, value: Any) -> Contender | None:
    """The contender with one more parameter; None where the method does not allow that value."""
    kept = tuple(pair for pair in contender.given if pair[0] != name)
    other = Contender(contender.name, (*kept, (name, value)))
    try:
        other.make()
    except BadParameter:
        return None
    return other


def _plays(method: Method, on: On) -> bool:
    """Whether all that a method says it needs is recorded, several samples aside."""
    world = World(on.answers, Embeddings())
    try:
        _check(method, _order(method, on.alone, []), world, on.trial)
    except Unrecorded as missing:
        return missing.samples is not None
    return True


def _jsonable(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _measured(job: Job, method: Method, on: On, embeddings: Embeddings, notes: list[str]) -> dict[str, Any]:
    members = _order(method, on.alone, notes)
    world = World(on.answers, embeddings)
    _check(method, members, world, on.trial)
    return judged(Stage(method, members, world), on, job, notes)


def judged(stage: Stage, on: On, job: Job, notes: list[str]) -> dict[str, Any]:
    """Fits what has to be fitted, plays the test questions, and says what came of it."""
    trial, embeddings, method = on.trial, stage.world.embeddings, stage.method
    began = monotonic()
    prepare(stage, trial, job.seed, notes)
    fitted = monotonic() - began - embeddings.seconds
    played = stage.play(on.index, job.seed)
    again = Resamples.of(len(on.index), np.random.default_rng([job.seed, 3]), draws=job.draws)
    # a role that is asked live is not asked ten times more
    swept = family(type(method)) is Family.CASCADE and (stage.world.recorded or not method.roles())
    curve = curve_of(stage, on, job, played) if swept else None
    notes += _told(played, embeddings)
    priced = trial.priced
    points = [] if curve is None else curve["points"]
    at = point(None if curve is None else curve["default"], played, again, priced)
    return {
        "notes": notes,
        "points": [at, *points],
        "quality": listed(played.quality),
        "usd": listed(played.usd) if priced else None,
        "picks": pick_shares(_weights(played, trial)).tolist(),
        "metrics": {
            name: interval(value)
            for name, value in {
                **_against(on, played, again),
                **_spending(played, again),
                **(_cascade(on.alone, played, curve) if curve is not None else {}),
                **_trust(played),
            }.items()
        },
        "calibration": _calibration(played),
        "regrets": [],
        "curve": None if curve is None else {k: curve[k] for k in ("knob", "values", "quality", "cost")},
        "seconds_fit": fitted,
        "seconds_predict": played.seconds,
    }


def _order(method: Method, trial: Trial, notes: list[str]) -> tuple[str, ...]:
    """The members in the order that a method asks for, by what is known from the questions to train on."""
    rule, members = method.card.pool, list(trial.test.members)
    if rule.at_least > len(members):
        raise Unrecorded(f"a pool of {rule.at_least} members")
    score = dict(zip(members, column_means(trial.train.matrix("score")).tolist(), strict=True))
    usd = dict(zip(members, column_means(trial.train.matrix("usd")).tolist(), strict=True))
    if rule.priced and not trial.priced:
        raise Unrecorded("the cost of answers")
    if rule.at_most == 2 and len(members) > 2:
        members = list(weak_and_strong(trial))
        what = "cheapest and the best" if trial.priced else "worst and the best"
        notes.append(
            f"takes two members: the {what} on the questions to train on, {members[0]} and {members[1]}"
        )
    elif rule.at_most is not None and rule.at_most < len(members):
        best = sorted(members, key=lambda m: -score[m])[: rule.at_most]
        members = [m for m in members if m in best]
        notes.append(
            f"takes {rule.at_most} members: the best on the questions to train on, {', '.join(members)}"
        )
    if rule.order == "cost" and trial.priced:
        return tuple(sorted(members, key=lambda m: usd[m]))
    if rule.order in ("cost", "weak-strong"):
        return tuple(sorted(members, key=lambda m: score[m]))
    if rule.order in ("strong-weak", "primary-first") or not method.card.permutes:
        return tuple(sorted(members, key=lambda m: -score[m]))
    return tuple(members)


def _check(method: Method, members: Sequence[str], world: World, trial: Trial) -> None:
    """Finds what is not recorded before anything runs."""
    if method.trainer:
        raise Unrecorded(f"a fit by septet.training.{method.trainer.replace('-', '_')}, with torch")
    samples = world.answers.samples()
    for i, name in enumerate(members):
        lacks = method.needs_of(i, len(members)).missing(world.offers(name))
        if lacks == ["samples"]:
            n = int(samples[world.answers.table.members.index(name)])
            raise Unrecorded(f"several samples of {name}, of which {n} is recorded", n)
        if lacks:
            raise Unrecorded(f"{', '.join(lacks)} of members")
    world.roles(method)


def _weights(played: Replay, trial: Trial) -> Floats:
    """(n, m) a one at the member whose answer was chosen; nothing where it is nobody's."""
    weights = np.zeros(trial.scores.shape)
    known = played.member >= 0
    weights[np.flatnonzero(known), played.member[known]] = 1.0
    return weights


def _told(played: Replay, embeddings: Embeddings) -> list[str]:
    n = len(played.quality)
    why = {
        "unmatched": "texts that are nobody's answer and equal none",
        "abstained": "questions without an answer",
        "failed": "questions on which nobody could answer",
    }
    found = [
        f"{getattr(played, k)} of {n} are {said}, and count 0"
        for k, said in why.items()
        if getattr(played, k)
    ]
    if embeddings.seconds:
        found.append(f"the encoder took {embeddings.seconds:.0f} s beside")
    return found


# --- metrics ----------------------------------------------------------------------------------------


def _against(on: On, played: Replay, again: Resamples) -> dict[str, Estimate]:
    """Paired differences to random, plurality and oracle."""
    trial = on.alone
    held = {b.name: b for b in bounds(trial.train.matrix("score"), trial.scores, trial.usd, trial.test.tasks)}
    held[PLURALITY] = plurality(trial)
    return {
        f"− {name}": again.difference(played.quality, held[name].quality)
        for name in ("random", PLURALITY, "oracle")
    }


def _spending(played: Replay, again: Resamples) -> dict[str, Estimate | float]:
    """Answers and judgements per question, USD of judges, seconds."""
    found: dict[str, Estimate | float] = {"answers": again.mean(played.answers)}
    if played.judgements.any():
        found |= {"judgements": again.mean(played.judgements), "USD of judges": again.mean(played.judges_usd)}
    if played.embedded.any():
        found["texts embedded"] = again.mean(played.embedded)
    found["s/question"] = played.seconds / len(played.quality)
    if played.waited.any():
        found["s of models"] = again.mean(played.waited)
    return found


def _cascade(trial: Trial, played: Replay, curve: Mapping[str, Any]) -> dict[str, float]:
    """ΔIBC between the cheapest member and the best, and the area of the sweep beside that of single members."""
    cost = np.array([played.usd.mean(), *curve["cost"]])
    quality = np.array([played.quality.mean(), *curve["quality"]])
    means, prices_ = trial.scores.mean(axis=0), trial.usd.mean(axis=0)
    weak, strong = int(prices_.argmin()), best_single(trial.train.matrix("score"))
    found = {
        "ΔIBC %": lift(
            float(quality[0]),
            float(cost[0]),
            (float(means[weak]), float(prices_[weak])),
            (float(means[strong]), float(prices_[strong])),
        ),
        "AIQ": _area(trial, cost, quality),
        "AIQ of the zero router": _area(trial, prices_, means),
        "peak": float(quality.max()),
    }
    if trial.priced:
        alone = single(strong, trial.scores)
        best = float((alone * trial.usd).sum(axis=1).mean()), float(means[strong])
        found["QNC"] = float(qnc(cost, quality, *best))
    return {k: v for k, v in found.items() if not np.isnan(v)}


def _trust(played: Replay) -> dict[str, float]:
    """What the confidence of verdicts says about the scores of what was chosen."""
    known = ~np.isnan(played.confidence)
    if known.mean() < 0.5 or known.sum() < 2:
        return {}
    confidence, quality = played.confidence[known], played.quality[known]
    found: dict[str, float] = {}
    if confidence.min() >= 0 and confidence.max() <= 1:
        found |= {"ECE": ece(confidence, quality), "Brier": brier(confidence, quality)}
    right = (quality >= 0.5).astype(np.float64)
    if 0 < right.mean() < 1:
        found["AUC"] = float(auc(confidence, right))
    kept = risk_coverage(confidence, quality)
    return found | {
        "AURC": float(kept.mean()),
        "quality at 80 %": float(1 - kept[max(0, round(0.8 * len(kept)) - 1)]),
        "quality at 50 %": float(1 - kept[max(0, round(0.5 * len(kept)) - 1)]),
    }


def _calibration(played: Replay) -> list[dict[str, Any]]:
    known = played.confidence[~np.isnan(played.confidence)]
    if not len(known) or known.min() < 0 or known.max() > 1:
        return []
    bins = reliability(played.confidence, played.quality)
    columns = (bins.predicted.tolist(), bins.observed.tolist(), bins.count.astype(int).tolist())
    return [{"predicted": p, "observed": o, "count": n} for p, o, n in zip(*columns, strict=True)]
