"""Routers on recorded outcomes: the numbers of docs/reproductions/benchmark-routing.md and eagle.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from recorded import Joined, split

from septet.core.method import SeatPool
from septet.core.table import Table
from septet.core.types import Completion, Floats, Query
from septet.methods.a1_pretrained.benchmark_routing import BenchmarkRouting, Benchmarks
from septet.methods.a2_nonpretrained.eagle import Eagle
from septet.parts.learning.features import Featurizer
from septet.parts.routing.elo import Board
from septet.parts.routing.records import Known, task_mean
from septet.parts.routing.shift import AccuracyByDistance
from septet.testing.scripted import drive, seat

pytestmark = pytest.mark.data

RNG = np.random.default_rng(0)  # neither S1 nor Eagle draws anything


@dataclass(frozen=True)
class Split:
    """A set in its two halves, and the rows (n, d) of the test questions."""

    train: Table
    test: Table

    def score(self, utility: Floats) -> float:
        """The mean score on the test questions of the members that (n, m) utilities choose."""
        scores = self.test.matrix("score")
        return float(scores[np.arange(len(scores)), utility.argmax(axis=1)].mean())


@pytest.fixture(scope="module")
def nine(joined: Joined) -> Split:
    return halves(joined("llmrouter9", columns=["score"]))


@pytest.fixture(scope="module")
def three(joined: Joined) -> Split:
    return halves(joined("routerbench3", columns=["score", "cost_usd"], question="question"))


def halves(table: Table) -> Split:
    return Split(split(table, "train"), split(table, "test"))


@pytest.fixture(scope="module")
def nine_known(nine: Split) -> Benchmarks:
    """What the fit keeps, without p by distance: only S3 reads it, and it takes half a minute to measure."""
    known = Known.of(nine.train)
    featurizer = Featurizer.of("tf-idf", known.questions)
    none = AccuracyByDistance(np.array([0.5]), np.full((1, len(known.members)), 0.5))
    mean = task_mean(known.scores, known.tasks)
    rows = featurizer.rows(known.questions)
    return Benchmarks(featurizer, known.spending, 0.0, rows, known.scores, mean, none)


@pytest.fixture(scope="module")
def three_known(three: Split) -> Benchmarks:
    fitted = BenchmarkRouting().fit(three.train, {}, RNG)
    assert isinstance(fitted, Benchmarks)
    return fitted


def s1(k: int, split: Split, known: Benchmarks) -> float:
    x = known.featurizer.rows(split.test.questions)
    return split.score(BenchmarkRouting(k=k).utility(x, known))


@pytest.mark.parametrize(("k", "score"), [(5, 0.599), (50, 0.600)])
def test_s1_on_nine_members(k: int, score: float, nine: Split, nine_known: Benchmarks) -> None:
    assert s1(k, nine, nine_known) == pytest.approx(score, abs=5.1e-4)


@pytest.mark.parametrize(("k", "score"), [(5, 0.848), (50, 0.877)])
def test_s1_on_eleven_members(k: int, score: float, three: Split, three_known: Benchmarks) -> None:
    assert s1(k, three, three_known) == pytest.approx(score, abs=5.1e-4)


def test_the_plan_asks_whom_the_statistic_chooses(three: Split, three_known: Benchmarks) -> None:
    router = BenchmarkRouting()
    pool = SeatPool(tuple(seat(name) for name in three.test.members))
    asked: list[str] = []

    def script(ask: Any) -> Any:
        if ask.do == "decide":
            return router.choose(**ask.args, state=three_known, rng=RNG)
        asked.append(ask.to.name)
        return [Completion(member=ask.to.name, text="A")]

    texts = three.test.questions[:40]
    for text in texts:
        drive(router.plan(Query.of(text), pool, three_known, np.random.default_rng(0)), script)
    utility = router.utility(three_known.featurizer.rows(texts), three_known)
    assert asked == [three.test.members[i] for i in utility.argmax(axis=1)]
    assert len(set(asked)) > 1


@pytest.fixture(scope="module")
def nine_board(nine: Split) -> Board:
    return Eagle().fit(nine.train, {}, RNG)


@pytest.mark.parametrize(
    ("parameters", "score"),
    [
        ({}, 0.569),
        ({"p": 0.0}, 0.538),
        ({"n": 0}, 0.597),
        ({"n": 0, "rating": "last"}, 0.536),
    ],
)
def test_eagle_on_nine_members(
    parameters: dict[str, Any], score: float, nine: Split, nine_board: Board
) -> None:
    x = nine_board.featurizer.rows(nine.test.questions).dense()
    assert nine.score(Eagle(**parameters).scores(x, nine_board)) == pytest.approx(score, abs=5.1e-4)


def test_eagle_within_budgets_on_eleven_members(three: Split) -> None:
    # each budget is what one call of a member cost on average on the train split; the note rounds it
    board = Eagle().fit(three.train, {}, RNG)
    x = board.featurizer.rows(three.test.questions).dense()
    q, c = Eagle().utility(x, board), np.tile(board.spending.usd, (len(x), 1))
    spent = three.test.matrix("usd")
    for member, score, usd in [
        ("mistralai/mixtral-8x7b-chat", 0.721, 0.000221),
        ("claude-v1", 0.784, 0.000708),
        ("gpt-4-1106-preview", 0.853, 0.004344),
    ]:
        budget = float(board.spending.usd[board.members.index(member)])
        weights = Eagle(budget_usd=budget).choose(q, c, np.zeros(len(x)), board, RNG).weights
        assert three.score(weights) == pytest.approx(score, abs=5.1e-4)
        assert (spent * weights).sum(axis=1).mean() == pytest.approx(usd, abs=5.1e-7)
