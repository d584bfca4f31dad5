"""Our truth inference and our Bradley–Terry against crowd-kit's, on random tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.types import Floats
from septet.parts.answers.crowd import Labels, dawid_skene, glad, mace
from septet.parts.answers.ranking import bradley_terry

pytestmark = [pytest.mark.local, pytest.mark.filterwarnings("ignore")]


def tables(seed: int, k: int = 3, n: int = 200, m: int = 6) -> tuple[Any, Labels]:
    """A table of n tasks and m workers as crowd-kit takes it, and as we do.

    Rows stand in the order of labels, then workers. crowd-kit numbers labels and workers as they first appear, but
    in MACE's M-step it sorts them by name: where the two orders differ, a worker's strategy is read with the labels
    of another order, and posteriors are off by up to .09 on these tables.
    """
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("crowdkit")
    rng = np.random.default_rng(seed)
    truth, x = rng.integers(0, k, n), rng.uniform(0.35, 0.95, m)
    right = rng.random((n, m)) < x
    said = np.where(right, truth[:, None], (truth[:, None] + rng.integers(1, k, (n, m))) % k)
    rows = [(f"t{i:03d}", f"w{j}", int(said[i, j])) for i in range(n) for j in range(m)]
    frame = pandas.DataFrame(rows, columns=["task", "worker", "label"]).sort_values(["label", "worker"])
    return frame, Labels.of(said.astype(float), k)


def theirs(method: Any, frame: Any) -> Floats:
    """(n, 3) crowd-kit's posterior, in the order of tasks and labels."""
    found: Floats = method.fit_predict_proba(frame).sort_index()[[0, 1, 2]].to_numpy()
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dawid_skene_is_that_of_crowd_kit(seed: int) -> None:
    frame, labels = tables(seed)
    from crowdkit.aggregation import DawidSkene

    # as many steps, whether or not it has settled
    ours, _ = dawid_skene(labels, rounds=20, tolerance=0.0, smoothing=0.0)
    assert ours == pytest.approx(theirs(DawidSkene(n_iter=20, tol=-1e9), frame), abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_glad_with_m_steps_that_are_run_to_their_end_is_that_of_crowd_kit(seed: int) -> None:
    frame, labels = tables(seed, n=20, m=5)
    from crowdkit.aggregation import GLAD

    # what it reports is from before its last M-step, so it takes one more
    exact = GLAD(n_iter=3, tol=-1e9, m_step_max_iter=1000, m_step_tol=1e-5)
    ours, _ = glad(labels, rounds=2, tolerance=0.0, steps=1000, settled=1e-15)
    assert ours == pytest.approx(theirs(exact, frame), abs=1e-5)


def test_glad_is_near_that_of_crowd_kit_with_its_own_looser_m_steps() -> None:
    frame, labels = tables(0)
    from crowdkit.aggregation import GLAD

    loose = theirs(GLAD(n_iter=4, tol=-1e9), frame)  # 25 steps of CG, until the slope is below .01
    ours, _ = glad(labels, rounds=3, tolerance=0.0)
    assert ours == pytest.approx(loose, abs=5e-3)
    assert (ours.argmax(axis=1) == loose.argmax(axis=1)).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mace_from_the_same_start_is_that_of_crowd_kit(seed: int) -> None:
    frame, labels = tables(seed)
    from crowdkit.aggregation import MACE

    even = MACE(n_iter=20, n_restarts=1, default_noise=-1.0)  # noise of width 0: all parameters begin alike
    ours, _ = mace(labels, rounds=20, tolerance=0.0)
    assert ours == pytest.approx(theirs(even, frame), abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_mace_ends_where_crowd_kit_s_random_starts_end(seed: int) -> None:
    frame, labels = tables(seed)
    from crowdkit.aggregation import MACE

    # restarts of one call draw with the same seed, so they are one start; several calls are several
    drawn = [theirs(MACE(n_iter=60, n_restarts=1, random_state=state), frame) for state in (0, 1)]
    ours, _ = mace(labels, rounds=2000, tolerance=1e-12)
    for posterior in drawn:
        assert ours == pytest.approx(posterior, abs=1e-6)


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
    scores = BradleyTerry(n_iter=2000, tol=0.0).fit_predict(frame).sort_index().to_numpy()
    wins = np.zeros((6, 6))
    np.add.at(wins, (winner, left + right - winner), 1)
    ours = np.exp(bradley_terry(wins, l2=0.0))
    assert ours / ours.sum() == pytest.approx(scores, abs=1e-9)
