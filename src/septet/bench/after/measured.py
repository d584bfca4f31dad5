"""One method, or the bounds, on recorded answers: quality, cost, calibration, and for cascades a curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from septet.bench.after.contenders import Contender, family
from septet.bench.after.embedding import Embeddings
from septet.bench.after.jobs import Job
from septet.bench.after.replay import Replay, Stage
from septet.bench.after.sets import Answers, open_answers
from septet.bench.after.world import Unrecorded, World
from septet.bench.bounds import Bound, best_single, bounds, column_means, single
from septet.bench.curves import aiq, qnc, zero_router
from septet.bench.judged import listed
from septet.bench.metrics import pick_shares
from septet.bench.replayed import FEW, prices
from septet.bench.results import encode, interval
from septet.bench.splits import splits
from septet.bench.trials import Trial, trial_of, weak_and_strong
from septet.core.errors import BadParameter, ConfigError
from septet.core.facets import Family
from septet.core.method import Method, parameters_of
from septet.core.table import Table
from septet.core.types import Completion, Floats
from septet.parts.answers.vote import outcome, shares, winner
from septet.parts.deferral.value_table import lift
from septet.parts.stats.bootstrap import Resamples
from septet.parts.stats.calibration import auc, brier, ece, reliability
from septet.parts.stats.intervals import Estimate

PLURALITY = "plurality"
"""The bound that takes the most frequent final answer."""

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of a cascade that has one threshold."""

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of a cascade that is fitted for a share of questions to be passed on, or of a budget."""

PROBED = 40
"""Questions on which is seen whether a cascade reads the price of cost."""


@dataclass(frozen=True, eq=False)
class On:
    """What a job is measured on: the answers, the trial with all of them, and that of members `alone`.

    `index` (n,) are the places of the test questions in the table.
    """

    answers: Answers
    trial: Trial
    alone: Trial

    @property
    def index(self) -> NDArray[np.int64]:
        return self.trial.index

    @classmethod
    def of(cls, answers: Answers, seed: int) -> On:
        """The own split of some answers; where cost is not known, every answer costs 1."""
        split = splits(answers.table, "own", [seed])[0]
        found = trial_of(answers.recorded, split)
        alone = trial_of(replace(answers.recorded, table=answers.alone()), split)
        if not found.priced:
            table = answers.table
            numbers = {**table.numbers, "usd": np.ones(len(table))}
            recorded = replace(answers.recorded, table=replace(table, numbers=numbers))
            answers = replace(answers, recorded=recorded)
        return cls(answers, found, alone)


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
    curve = _curve(stage, on, job, played) if swept else None
    notes += _told(played, embeddings)
    priced = trial.priced
    points = [] if curve is None else curve["points"]
    at = _point(None if curve is None else curve["default"], played, again, priced)
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


def prepare(stage: Stage, trial: Trial, seed: int, notes: list[str]) -> None:
    """The state before the first question: fitted, where the method cannot serve without."""
    method = stage.method
    stage.state = method.begin(stage.members)
    if not method.card.trained or stage.state is not None:
        return
    if method.card.labels == "none":
        unmarked = _without_scores(trial.test)
        notes.append("fitted without labels on the test questions' own answers")
        stage.fit(unmarked.of_members(stage.members), np.random.default_rng([seed, 0]))
    else:
        stage.fit(trial.train.of_members(stage.members), np.random.default_rng([seed, 0]))


def _without_scores(table: Table) -> Table:
    return replace(table, numbers={**table.numbers, "score": np.full(len(table), np.nan)})


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


def risk_coverage(confidence: Floats, quality: Floats) -> Floats:
    """(n,) mean loss 1 − quality among the 1, 2, … n most confident answers; equally confident ones share theirs.

    Its mean is AURC (arXiv 1805.08206); a confidence that says nothing has the mean loss everywhere.

    >>> risk_coverage(np.array([.9, .5, .5]), np.array([1., 0., 1.])).round(3).tolist()
    [0.0, 0.25, 0.333]
    """
    values, group = np.unique(-confidence, return_inverse=True)
    count = np.bincount(group, minlength=len(values))
    loss = (np.bincount(group, 1 - quality, len(values)) / count)[np.sort(group)]
    found: Floats = np.cumsum(loss) / np.arange(1, len(loss) + 1)
    return found


def _calibration(played: Replay) -> list[dict[str, Any]]:
    known = played.confidence[~np.isnan(played.confidence)]
    if not len(known) or known.min() < 0 or known.max() > 1:
        return []
    bins = reliability(played.confidence, played.quality)
    columns = (bins.predicted.tolist(), bins.observed.tolist(), bins.count.astype(int).tolist())
    return [{"predicted": p, "observed": o, "count": n} for p, o, n in zip(*columns, strict=True)]


# --- the curve of a cascade -------------------------------------------------------------------------


def _curve(stage: Stage, on: On, job: Job, played: Replay) -> dict[str, Any] | None:
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
        except ConfigError:  # a value that this method or this table does not allow
            continue
        values.append(encode(value))
        points.append(_point(value if knob == "prefer" else None, found, again, on.trial.priced))
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


def _point(prefer: float | None, played: Replay, again: Resamples, priced: bool) -> dict[str, Any]:
    return {
        "prefer": None if prefer is None else encode(prefer),
        "quality": interval(again.mean(played.quality)),
        "usd": interval(again.mean(played.usd) if priced else np.nan),
    }
