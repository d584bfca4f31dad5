"""Our truth inference and our Bradley–Terry against crowd-kit's, on random tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.parts.answers.crowd import Labels, dawid_skene, glad, mace
from septet.parts.answers.ranking import bradley_terry
from septet.parts.stats.intervals import wilson

pytestmark = [pytest.mark.local, pytest.mark.filterwarnings("ignore")]


def tables(seed: int, k: int = 3) -> tuple[Any, Labels]:
    """A table of 200 tasks and 6 workers as crowd-kit takes it, and as we do."""
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("crowdkit")
    rng = np.random.default_rng(seed)
    truth, x = rng.integers(0, k, 200), rng.uniform(0.35, 0.95, 6)
    right = rng.random((200, 6)) < x
    said = np.where(right, truth[:, None], (truth[:, None] + rng.integers(1, k, (200, 6))) % k)
    rows = [(f"t{i:03d}", f"w{j}", int(said[i, j])) for i in range(200) for j in range(6)]
    return pandas.DataFrame(rows, columns=["task", "worker", "label"]), Labels.of(said.astype(float), k)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dawid_skene_is_that_of_crowd_kit(seed: int) -> None:
    frame, labels = tables(seed)
    from crowdkit.aggregation import DawidSkene

    theirs = DawidSkene(n_iter=20, tol=-1e9).fit_predict_proba(frame)[[0, 1, 2]].to_numpy()
    ours = dawid_skene(labels, rounds=20, tolerance=0.0, smoothing=0.0)[
        0
    ]  # as many steps, whether or not it has settled
    assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("seed", [0])
def test_glad_and_mace_name_the_same_truths_as_crowd_kit(seed: int) -> None:
    frame, labels = tables(seed)
    from crowdkit.aggregation import GLAD, MACE

    for theirs, ours in (
        (GLAD(n_iter=10).fit_predict(frame), glad(labels, rounds=10)[0]),
        (MACE(n_iter=20, n_restarts=3, random_state=0).fit_predict(frame), mace(labels)[0]),
    ):
        same = int((theirs.sort_index().to_numpy() == ours.argmax(axis=1)).sum())
        # other priors and starts: equal but for what is nearly undecided
        assert wilson(same, 200).value > 0.96


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bradley_terry_is_that_of_crowd_kit(seed: int) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("crowdkit")
    from crowdkit.aggregation import BradleyTerry

    rng = np.random.default_rng(seed)
    xi = rng.normal(size=6)
    left, right = (rng.integers(0, 6, 600), rng.integers(1, 6, 600))
    right = (left + right) % 6  # never against itself
    first = rng.random(600) < 1 / (1 + np.exp(xi[right] - xi[left]))
    winner = np.where(first, left, right)
    frame = pandas.DataFrame({"worker": "w", "left": left, "right": right, "label": winner})
    theirs = BradleyTerry(n_iter=2000, tol=0.0).fit_predict(frame).sort_index().to_numpy()
    wins = np.zeros((6, 6))
    np.add.at(wins, (winner, left + right - winner), 1)
    ours = np.exp(bradley_terry(wins))
    assert ours / ours.sum() == pytest.approx(theirs, abs=1e-5)
