"""Routers on recorded outcomes: one router, or the bounds, on one split; nobody is asked, no house is opened."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from septet.bench.bounds import bounds
from septet.bench.curves import aiq, zero_router
from septet.bench.featured import Featured, Recalled, featured
from septet.bench.jobs import Job
from septet.bench.judged import judged, listed
from septet.bench.reference import CONVENTION, REFERENCE, reference_knn
from septet.bench.results import encode
from septet.bench.trials import Trial, trial, weak_and_strong
from septet.core.caps import Caps
from septet.core.errors import BadParameter
from septet.core.method import Rng, Seat, SeatPool
from septet.core.types import Decision, Floats, Query
from septet.engine.offline import decided, predicted, realised
from septet.parts.learning.rows import Features
from septet.parts.routing.choose import best
from septet.parts.routing.plan import Router
from septet.parts.routing.records import Fitted, Known

FEW = 9
"""Prices of cost, beside 0, where each takes a replay of its own: streams, and decisions over a whole set."""


# --- the bounds and the reference -------------------------------------------------------------------


def measure(job: Job, features: Path) -> dict[str, Any]:
    """The facts of a job as JSON: means, and for every test question what was realised on it."""
    on = trial(job)
    head = {
        "n_train": len(on.train.queries),
        "n_test": len(on.index),
        "index": on.index.tolist(),
        "members": list(on.test.members),
        "notes": list(on.notes),
        "priced": on.priced,
    }
    return head | (_bounds(on) if job.contender is None else _router(job, on, features))


def _bounds(on: Trial) -> dict[str, Any]:
    found = [
        _bound(b.name, b.convention, b.quality, b.usd, b.weights, on)
        for b in bounds(on.train.matrix("score"), on.scores, on.usd, on.test.tasks)
    ]
    notes = list(on.notes)
    try:
        weights = best(reference_knn(on.train.questions, on.train.matrix("score"), on.test.questions))
    except BadParameter as error:
        notes.append(f"the reference kNN was not run: {error}")
    else:
        spent = realised(weights, on.usd)
        found.append(_bound(REFERENCE, CONVENTION, realised(weights, on.scores), spent, weights, on))
    facts: dict[str, Any] = {"bounds": found, "notes": notes}
    if on.priced:
        hull = zero_router(on.usd.mean(axis=0), on.scores.mean(axis=0))
        facts["zero_router"] = [hull.usd.tolist(), hull.quality.tolist()]
        facts["aiq_zero"] = encode(float(aiq(hull.usd, hull.quality, *on.span)))
    return facts


def _bound(
    name: str, convention: str, quality: Floats, usd: Floats, weights: Floats, on: Trial
) -> dict[str, Any]:
    return {
        "name": name,
        "convention": convention,
        "quality": listed(quality),
        "usd": listed(usd) if on.priced else None,
        "picks": weights.mean(axis=0).tolist(),
    }


# --- a router ---------------------------------------------------------------------------------------


def _router(job: Job, on: Trial, features: Path) -> dict[str, Any]:
    assert job.contender is not None
    router, notes = job.contender.make(), list(on.notes)
    whole = on
    if router.card.pool.at_most == 2:
        two = weak_and_strong(on)
        if len(on.test.members) > 2:
            rule = "cheapest and the best" if on.priced else "worst and the best"
            notes.append(f"takes two members: the {rule} on the questions to train on, {two[0]} and {two[1]}")
        on = on.of_members(two)
    rng = np.random.default_rng([job.seed, 0])
    began = time.monotonic()
    state, x = _fitted(router, on, features, rng)
    fitted = time.monotonic()
    streams = streamed(router, job.stream)
    one_by_one = streams or router.card.scope == "dataset"
    prefers = prices(on.costs, FEW if one_by_one else job.grid, last=not one_by_one) if on.priced else [0.0]
    if streams:
        notes.append(
            "replayed as a stream: test questions in an order drawn by the seed, each with the recorded score of the"
            f" member that was drawn; a stream of its own for each of {len(prefers)} prices of cost"
        )
        q, weights = _streams(router, state, x, on, prefers, job.seed)
    else:
        q, weights = _decisions(router, state, x, on, prefers, rng)
    ended = time.monotonic()
    if ((weights > 0).sum(axis=-1) > 1).any():
        notes.append("gives weight to several members: counted as one of them, drawn by weight")
    return {
        "notes": notes,
        "seconds_fit": fitted - began,
        "seconds_predict": (ended - fitted) / len(prefers),
        **judged(job, on, whole, prefers, q, among(weights, on.test.members, whole.test.members)),
    }


def among(weights: Floats, members: Sequence[str], whole: Sequence[str]) -> Floats:
    """Weights (l, n, m) over some members as weights (l, n, m') over the whole pool."""
    if tuple(members) == tuple(whole):
        return weights
    found = np.zeros((*weights.shape[:2], len(whole)))
    found[:, :, [whole.index(name) for name in members]] = weights
    return found


def _fitted(router: Router, on: Trial, folder: Path, rng: Rng) -> tuple[Any, Features]:
    """The state, and the features of the test questions."""
    table = on.train
    if shares_features(router):
        known = Known.of(table)
        x = _features(router, known, on, folder)
        state: Any = router.learn(known, x.featurizer, x.train, rng)
        if type(router).featurise is Router.featurise:
            return state, x.test
    else:
        state = router.fit(table, {}, rng) if router.card.trained else router.begin(table.members)
    queries = [Query.of(text, task=task) for text, task in zip(on.test.questions, on.test.tasks, strict=True)]
    rows = router.featurise(queries, pool_of(table.members), state)
    if isinstance(state, Generator) or isinstance(rows, Generator):
        raise BadParameter("--router", router.name, "asks a role, which recorded outcomes cannot play")
    return state, rows


def shares_features(router: Router) -> bool:
    """Whether a router is fitted on the features that all of its kind share."""
    return router.card.trained and type(router).fit is Router.fit


def _features(router: Router, known: Known, on: Trial, folder: Path) -> Featured:
    return featured(
        folder, router.features, (known.questions, known.tasks), (on.test.questions, on.test.tasks)
    )


def featurise(job: Job, folder: Path) -> None:
    """Puts the features that a job needs into the folder; a fit that makes its own needs none."""
    assert job.contender is not None
    router = job.contender.make()
    if shares_features(router):
        on = trial(job)
        _features(router, Known.of(on.train), on, folder)


def pool_of(members: Sequence[str]) -> SeatPool:
    """A pool of seats that nobody sits on."""
    return SeatPool(tuple(Seat(name, Caps(text=True)) for name in members))


def streamed(router: Router, every: bool = False) -> bool:
    """Whether a router learns or spends from question to question; `every`: whoever can learn while it serves."""
    card = router.card
    return card.scope == "stream" or (card.online and (every or not card.trained))


def prices(usd: Floats, n: int, *, last: bool = True) -> list[float]:
    """0, then n prices of cost spread evenly over orders of magnitude, then ∞ if `last`; from the mean usd (m,).

    The least moves nobody: a thousandth of the quality scale buys the whole spread of costs. The greatest lets the
    smallest difference between two members' costs, or a hundred-thousandth of their spread, outweigh any quality.

    >>> [round(p, 3) for p in prices(np.array([0.01, 0.02, 0.11]), 3)]
    [0.0, 0.01, 1.0, 100.0, inf]
    """
    known = np.unique(usd[~np.isnan(usd)])
    spread = float(known[-1] - known[0]) if len(known) else 0.0
    if spread <= 0:
        return [0.0]
    gap = max(float(np.diff(known).min()), spread * 1e-5)
    found = np.geomspace(1e-3 / spread, max(1 / gap, 10 / spread), n).tolist()
    return [0.0, *found, *([np.inf] if last else [])]


def _decisions(
    router: Router, state: Any, x: Features, on: Trial, prefers: Sequence[float], rng: Rng
) -> tuple[Floats, Floats]:
    """Predicted quality (n, m), and weights (l, n, m); a router over whole sets sees the questions of one task."""
    n, m = on.scores.shape
    q, weights = np.full((n, m), np.nan), np.zeros((len(prefers), n, m))
    tasks = np.array(on.test.tasks) if router.card.scope == "dataset" else np.full(n, "")
    for task in dict.fromkeys(tasks.tolist()):
        index = np.flatnonzero(tasks == task)
        view = predicted(router, state, x[index], on.test.members)
        q[index] = view.q
        if router.card.scope == "dataset":
            found = [decided(router, state, view, [p], rng)[0] for p in prefers]
            weights[:, index] = np.array(found)
        else:
            weights[:, index] = decided(router, state, view, prefers, rng)
    return q, weights


def _streams(
    router: Router, state: Any, x: Features, on: Trial, prefers: Sequence[float], seed: int
) -> tuple[Floats, Floats]:
    """Predicted quality at the first price (n, m), and who was drawn (l, n, m)."""
    order = np.random.default_rng([seed, 1]).permutation(len(on.index))
    if isinstance(state, Fitted):
        recalled = Recalled.of_rows(state.featurizer, on.test.questions, x)  # feedback names questions again
        state = replace(state, featurizer=recalled)
    found = [
        stream(router, state, x, on, order, prefer, np.random.default_rng([seed, 2])) for prefer in prefers
    ]
    return found[0][0], np.array([weights for _, weights in found])


def stream(
    router: Router, state: Any, x: Features, on: Trial, order: NDArray[np.int64], prefer: float, rng: Rng
) -> tuple[Floats, Floats]:
    """One pass over the test questions in this order: choose, see the recorded score of who was drawn, learn.

    (n, m) predicted quality when the question came, and one-hot weights (n, m) of who was drawn; without any weight
    nobody is asked, which costs nothing and scores nothing.
    """
    members, tasks, texts = on.test.members, on.test.tasks, on.test.questions
    seconds = on.test.matrix("seconds")
    qs, drawn = np.full(on.scores.shape, np.nan), np.zeros(on.scores.shape)
    whole = predicted(router, state, x, members) if router.steady else None
    for i in order.tolist():
        view = predicted(router, state, x[np.array([i])], members) if whole is None else whole.of(i)
        choice = router.choose(view.q, view.c, np.array([prefer]), state, rng)
        state = state if choice.state is None else choice.state
        qs[i] = view.q[0]
        if not choice.weights.any():
            continue
        weights = choice.weights[0] / choice.weights[0].sum()
        arm = int(rng.choice(len(members), p=weights))
        drawn[i, arm] = 1.0
        if not router.card.online:
            continue
        told = Decision(
            query=texts[i],
            weights=dict(zip(members, weights.tolist(), strict=True)),
            propensity=float(weights[arm]),
            spent=float(on.usd[i, arm]) if on.priced else 0.0,
            member=members[arm],
            score=float(on.scores[i, arm]),
            seconds=float(seconds[i, arm]),
            task=tasks[i],
        )
        state = router.update(state, [told], rng)
    return qs, drawn
