"""Benchmark routing: a member is as good on a question as it was on the known questions most like it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, Rng, method, param
from septet.core.types import Floats
from septet.methods.a1_pretrained._family import PretrainedRouter
from septet.parts.learning.features import FeatureKind, Featurizer
from septet.parts.learning.rows import Features, cosines
from septet.parts.routing.neighbours import Outcomes, nearest_distance, nearest_mean
from septet.parts.routing.records import Known, task_mean
from septet.parts.routing.shift import AccuracyByDistance, guarded, measure

CARD = Card(
    paper="2309.15789",
    title="Large Language Model Routing with Benchmark Datasets",
    facets=Facets(
        family=Family.PRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=True,
        utility=Utility.DISCRETE,
    ),
    trained=True,
    scope="dataset",
    differs=(
        "features are hashed TF-IDF by default, not sentence embeddings (features = embedder has those)",
        "the guard's probability is computed exactly, not from 1,000 draws; where it keeps the best member on"
        " average, the mean scores take the place of S3, so that a price of cost still has a meaning",
        "the best member on average is that of the fitted table alone; the released code counts the target task",
        "the price of cost is ours: the paper has none",
    ),
)


@dataclass(frozen=True)
class Benchmarks(Outcomes):
    """Known outcomes, and how right the prediction from neighbours is at a distance."""

    shift: AccuracyByDistance


@method(CARD)
class BenchmarkRouting(PretrainedRouter):
    """Statistics of nearest neighbours' correctness (2309.15789, sections 3.2 and 3.3).

    ḡ_m(x) = mean score of member m on the k known questions nearest to x, (n, m).
    S1 = ḡ_m(x), per query; S1-task its mean over the n queries of a call that share a task;
    S2 = mean over them of 1[ḡ_m(x) > threshold];
    S3 = S2·p_m + (1 − S2)·(1 − p_m), where p_m is the accuracy of the thresholded prediction at the task's
    distance u, the queries' mean cosine distance to their kappa nearest known questions. With S3, the guard
    keeps the best member on average unless the winner has more right answers with enough probability:
    Bin(n₊, p) + Bin(n₋, 1 − p) against the same of the other. A single query is a task of one.
    Cost: one product with the known questions, no call beside the answer's; the fit is quadratic in them.
    Fails on questions unlike any known one, where it follows whatever happens to be nearest (S3 notices).

    >>> from septet.core.method import SeatPool
    >>> from septet.core.table import Table
    >>> from septet.core.types import Completion, Query
    >>> from septet.testing.scripted import drive, seat
    >>> rows = [{"query": q, "task": "t", "model": m, "score": float(right == m), "cost_usd": 0.001}
    ...         for q, right in [("add two and two", "sum"), ("add one and two", "sum"), ("who wrote it", "wit")]
    ...         for m in ("sum", "wit")]
    >>> router, rng = BenchmarkRouting(k=1), np.random.default_rng(0)
    >>> state = router.fit(Table.of(rows), {}, rng)
    >>> def script(ask):
    ...     if ask.do == "decide":
    ...         return router.choose(**ask.args, state=state, rng=rng)
    ...     return [Completion(member=ask.to.name, text="4")]
    >>> pool = SeatPool((seat("sum"), seat("wit")))
    >>> verdict, _ = drive(router.plan(Query.of("add two and one"), pool, state, rng), script)
    >>> verdict.reason
    'expected quality: sum 1.01, wit 0.00333; so sum was asked'
    """

    statistic: Annotated[
        Literal["S1", "S1-task", "S2", "S3"],
        param("What is maximised; all but S1 need many queries of one task."),
    ] = "S1"
    k: Annotated[int, param("Known questions that count as neighbours.", ge=1, le=1000)] = 5
    kappa: Annotated[int, param("Known questions that measure a task's distance.", ge=1, le=1000)] = 19
    kernel_width: Annotated[float, param("Width of the kernel over distances.", gt=0, le=1)] = 0.09
    threshold: Annotated[
        float, param("Mean neighbour score above which an answer counts as right.", ge=0, lt=1)
    ] = 0.5
    guard: Annotated[
        float,
        param("Probability of being better that S3's winner needs; 0 switches the guard off.", ge=0, le=1),
    ] = 0.6
    prior: Annotated[
        float, param("Share of the mean score that S1 adds, which decides between equals.", ge=0, le=1)
    ] = 0.01
    features: FeatureKind = "tf-idf"

    state_type = Benchmarks

    def learn(self, known: Known, featurizer: Featurizer, x: Features, rng: Rng) -> Benchmarks:
        """Keeps every scored question once, and leaves each task out in turn to measure p."""
        similarity = cosines(x, x)
        shift = measure(
            similarity, known.scores, known.tasks, rng, k=self.k, kappa=self.kappa, threshold=self.threshold
        )
        mean = task_mean(known.scores, known.tasks)
        return Benchmarks(featurizer, known.spending, 0.0, x, known.scores, mean, shift)

    def utility(self, x: Features, state: Benchmarks) -> Floats:
        """(n, m) the statistic; rows of a task share it, except with S1."""
        similarity = cosines(state.rows, x)
        near = nearest_mean(similarity, state.scores, self.k)
        if self.statistic == "S1":
            return near + self.prior * state.mean
        if self.statistic == "S1-task":
            return np.tile(near.mean(axis=0), (len(x), 1))
        right = np.where(np.isnan(near), np.nan, near > self.threshold).mean(axis=0)  # S2, (m,)
        if self.statistic == "S3":
            u = float(nearest_distance(similarity, self.kappa).mean())
            right = guarded(right, state.shift.at(u, self.kernel_width), state.mean, len(x), self.guard)
        return np.tile(right, (len(x), 1))
