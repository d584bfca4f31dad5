"""Table routers on recorded outcomes: the numbers of their reproduction notes, and the default router against a
plain nearest-neighbour reference that shares no code with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from recorded import Joined, split

from septet.core.table import Table
from septet.core.types import Floats
from septet.engine.offline import predicted
from septet.methods.a1_pretrained.avengers import Avengers
from septet.methods.a1_pretrained.carrot import Carrot
from septet.methods.a1_pretrained.knn_router import KnnRouter
from septet.methods.a1_pretrained.septet_router import SeptetRouter
from septet.methods.a1_pretrained.uniroute import Uniroute
from septet.parts.routing.choose import cheapest_best
from septet.parts.stats.intervals import bootstrap_difference

pytestmark = pytest.mark.data

SETS = {"routerbench3": "question", "mmlu_pro": "query", "llmrouter9": "query", "nq6": "query"}
"""The sets, and the column of the text that is routed."""

COSTED = ("routerbench3", "mmlu_pro", "nq6")


@dataclass(frozen=True)
class Halves:
    """A set as its own split has it."""

    train: Table
    test: Table

    def realised(self, q: Floats, c: Floats) -> Floats:
        """(n,) the scores of the members that are chosen for the test questions at no price of cost."""
        scores = self.test.matrix("score")
        return scores[np.arange(len(scores)), cheapest_best(q, c).argmax(axis=1)]

    def by(self, router: Any) -> Floats:
        """(n,) the scores on the test questions of those whom a router chooses."""
        state = router.fit(self.train, {}, np.random.default_rng(0))
        x = state.featurizer.rows(self.test.questions, self.test.tasks)
        view = predicted(router, state, x, self.test.members)
        return self.realised(view.q, view.c)


@pytest.fixture(scope="module")
def halves(joined: Joined) -> Any:
    """A set in its two halves, read once."""
    read: dict[str, Halves] = {}

    def of(name: str) -> Halves:
        if name not in read:
            columns = ["score", "cost_usd"] if name in COSTED else ["score"]
            table = joined(name, columns=columns, question=SETS[name])
            read[name] = Halves(split(table, "train"), split(table, "test"))
        return read[name]

    return of


def reference(halves: Halves) -> Floats:
    """(n,) the scores of the reference router of the data README: TF-IDF words (sublinear, in two questions or
    more, at most 50,000), the 50 questions of highest cosine, the best mean score."""
    text = pytest.importorskip("sklearn.feature_extraction.text")
    words = text.TfidfVectorizer(sublinear_tf=True, min_df=2, max_features=50_000)
    known, asked = words.fit_transform(halves.train.questions), words.transform(halves.test.questions)
    scores, q = halves.train.matrix("score"), []
    for first in range(0, asked.shape[0], 500):
        similarity = (asked[first : first + 500] @ known.T).toarray()
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :50]
        q.append(scores[nearest].mean(axis=1))
    found = np.concatenate(q)
    return halves.realised(found, np.zeros_like(found))


@pytest.mark.parametrize(
    ("name", "score"),
    [("routerbench3", 0.877), ("mmlu_pro", 0.693), ("llmrouter9", 0.611), ("nq6", 0.434)],
)
def test_the_default_router_is_not_surely_worse_than_the_reference(
    name: str, score: float, halves: Any
) -> None:
    half = halves(name)
    plain = reference(half)
    assert plain.mean() == pytest.approx(score, abs=6e-4)  # as the data README has it
    gain = bootstrap_difference(half.by(SeptetRouter()), plain, np.random.default_rng(0))
    assert gain.high >= 0, f"{name}: {gain}"


@pytest.mark.parametrize(
    ("name", "router", "score"),
    [
        ("routerbench3", KnnRouter(), 0.875),
        ("routerbench3", KnnRouter(k=10), 0.805),
        ("routerbench3", Avengers(), 0.867),
        ("routerbench3", Uniroute(variant="learned-map"), 0.879),
        ("routerbench3", Carrot(), 0.871),
        ("nq6", Avengers(), 0.376),
        ("nq6", Uniroute(), 0.434),
        ("llmrouter9", SeptetRouter(), 0.618),
    ],
    ids=str,
)
def test_scores_are_those_of_the_notes(name: str, router: Any, score: float, halves: Any) -> None:
    assert halves(name).by(router).mean() == pytest.approx(score, abs=1.5e-3)
