"""RouterDC's linear form on recorded outcomes: the numbers of docs/reproductions/router-dc.md."""

from __future__ import annotations

import numpy as np
import pytest
from recorded import Joined, split

from septet.core.table import Table
from septet.core.types import Floats
from septet.methods.a1_pretrained.router_dc import RouterDc
from septet.parts.learning.features import Featurizer, unit
from septet.parts.learning.rows import dense
from septet.parts.routing.contrastive import even_over_tasks
from septet.parts.routing.records import Known
from septet.parts.stats.calibration import auc

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def nine(joined: Joined) -> tuple[Table, Table]:
    table = joined("llmrouter9", columns=["score"])
    return split(table, "train"), split(table, "test")


@pytest.fixture(scope="module")
def known(nine: tuple[Table, Table]) -> tuple[Known, Featurizer]:
    found = Known.of(nine[0])
    return found, Featurizer.of("lsa", found.questions)


def within(q: Floats, right: Floats) -> float:
    """The mean over members of the AUC of their quality q (n, m)."""
    return float(np.mean([auc(q[:, j], right[:, j]) for j in range(q.shape[1])]))


def test_it_tells_right_from_wrong_better_than_untrained_and_chooses_worse_than_the_best_member(
    nine: tuple[Table, Table], known: tuple[Known, Featurizer]
) -> None:
    train, test = nine
    scores = test.matrix("score")
    right = (scores >= 0.5).astype(float)
    router, x = RouterDc(), known[1].rows(known[0].questions)
    asked = known[1].rows(test.questions)
    q = [
        router.utility(asked, router.learn(known[0], known[1], x, np.random.default_rng(s))) for s in range(3)
    ]
    means = [scores[np.arange(len(scores)), u.argmax(axis=1)].mean() for u in q]
    assert means == pytest.approx([0.580, 0.546, 0.525], abs=0.02)
    assert [within(u, right) for u in q] == pytest.approx([0.622, 0.608, 0.607], abs=0.01)
    untrained = dense(asked) @ unit(np.random.default_rng(0).normal(0, 0.78, (9, 128))).T
    assert within(untrained, right) == pytest.approx(0.567, abs=0.01)
    best = train.matrix("score").mean(axis=0).argmax()
    assert scores[:, best].mean() == pytest.approx(0.597, abs=1e-3)
    assert np.mean(means) < scores[:, best].mean()


def test_all_fourteen_tasks_are_drawn_alike(known: tuple[Known, Featurizer]) -> None:
    tasks = np.array(known[0].tasks)
    chances = even_over_tasks(known[0].tasks)
    shares = [chances[tasks == task].sum() for task in sorted(set(known[0].tasks))]
    np.testing.assert_allclose(shares, 1 / 14)
