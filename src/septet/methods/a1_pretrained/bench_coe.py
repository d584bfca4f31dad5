"""Bench-CoE: the subject of a question, or its likely scores, names the member that answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray

from septet.core.facets import Facets, Family, Goal, Granularity, Strategy, Utility
from septet.core.method import Card, method, param
from septet.core.types import Floats
from septet.methods.a1_pretrained._network import (
    Batch,
    Epochs,
    LearningRate,
    MaxLength,
    NetworkKind,
    NetworkRouter,
    Penalty,
)
from septet.parts.learning.features import FeatureKind
from septet.parts.learning.targets import Targets
from septet.parts.routing.network import Head
from septet.parts.routing.records import Known
from septet.parts.routing.smoothed import known_mean

CARD = Card(
    paper="2412.04167",
    title="Bench-CoE: a Framework for Collaboration of Experts from Benchmark",
    facets=Facets(
        family=Family.PRETRAINED,
        strategy=Strategy.SELECTION,
        granularity=Granularity.RESPONSE,
        goal=Goal.PERFORMANCE,
        supervised=True,
        utility=Utility.DISCRETE,
    ),
    trained=True,
    differs=(
        "by default a linear head on features stands in for the paper's BERT; network = encoder fine-tunes one",
        "the router and the table of subjects are fitted on the same table of outcomes, the paper's subject router"
        " on the test questions of the benchmark",
        "the table of subjects holds mean scores, so that a price of cost has a meaning; the paper's holds a name",
        "weights are kept from the best epoch on held-out questions; the paper's query level keeps the last",
        "text only: the multimodal version is left out",
    ),
)


@dataclass(frozen=True)
class Subjects(Head):
    """A head, and `accuracy` (c, m), each member's mean score on the head's c `subjects`; NaN unknown.

    At the query level the outputs are the members, and there are no subjects.
    """

    subjects: tuple[str, ...]
    accuracy: Floats


@method(CARD)
class BenchCoe(NetworkRouter):
    """Subject-level and query-level routing (2412.04167; facts from the released code).

    subject: a classifier p(s | x), (c,), with cross-entropy; q_m(x) = mean score of member m on the subject of
    largest p. query: one output per member, regressed by squared error on the question's scores; q = output.
    The largest q answers. With a perfect classifier the subject level scores Σ_s share_s · max_m accuracy_sm.
    Cost: one product with the head, or one pass of the encoder.
    Fails on a subject that no known question had; the query level follows the noise in single scores.

    >>> from septet.core.table import Table
    >>> rows = [{"query": q, "task": t, "model": m, "score": s}
    ...         for q, t, scores in [("add two and two", "sums", (1, 0)), ("add one and two", "sums", (1, 0)),
    ...                              ("who wrote it", "facts", (0, 1)), ("who said it", "facts", (0, 1))]
    ...         for m, s in zip(("sum", "wit"), scores)]
    >>> router = BenchCoe()
    >>> state = router.fit(Table.of(rows), {}, np.random.default_rng(0))
    >>> router.utility(state.featurizer.rows(["add two and one"]), state).tolist()
    [[1.0, 0.0]]
    """

    level: Annotated[
        Literal["subject", "query"],
        param("What is predicted: the question's subject, or each member's score."),
    ] = "subject"
    network: NetworkKind = "linear"
    features: FeatureKind = "lsa"
    l2: Penalty = 1e-2
    lr: LearningRate = 2e-5
    epochs: Epochs = 10
    batch: Batch = 16
    max_length: MaxLength = 512

    state_type = Subjects

    def targets(self, known: Known) -> Targets:
        """(r, c) one-hot tasks, or (r, m) scores."""
        if self.level == "query":
            return Targets.even(known.scores, "mse")
        subjects = _subjects(known)
        return Targets.even(np.array([[float(t == s) for s in subjects] for t in known.tasks]), "ce")

    def finish(self, head: Head, known: Known, held: NDArray[np.int64], p: Floats) -> Subjects:
        """Adds the table of subjects."""
        subjects = _subjects(known) if self.level == "subject" else ()
        tasks = np.array(known.tasks)
        accuracy = [known_mean(known.scores[tasks == subject]) for subject in subjects]
        table = np.array(accuracy).reshape(len(subjects), known.scores.shape[1])
        return Subjects(**vars(head), subjects=subjects, accuracy=table)

    def to_quality(self, p: Floats, state: Subjects) -> Floats:
        """(n, m) the members' means on the likeliest subject, or the outputs themselves."""
        if not state.subjects:
            return p
        found: Floats = state.accuracy[np.where(np.isnan(p), -np.inf, p).argmax(axis=1)]
        return found


def _subjects(known: Known) -> tuple[str, ...]:
    return tuple(sorted(set(known.tasks)))
