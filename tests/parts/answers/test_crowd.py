"""Truth inference on the dossier's table of five tasks and three workers, and on workers that are made up."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.types import Floats
from septet.parts.answers.crowd import Labels, dawid_skene, glad, mace, one_coin

TABLE: Floats = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 1]], dtype=np.float64)
"""Majority says 1, 1, 0, 0, 1; worker c is an adversary."""


def made(x: list[float], n: int = 2000, k: int = 3) -> tuple[Labels, Floats]:
    """Workers that are right with probability x, else say another class alike."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, k, n)
    right = rng.random((n, len(x))) < np.array(x)
    wrong = (truth[:, None] + rng.integers(1, k, (n, len(x)))) % k
    return Labels.of(np.where(right, truth[:, None], wrong).astype(float), k), truth.astype(float)


def test_dawid_skene_goes_through_the_steps_of_the_dossier() -> None:
    labels = Labels.of(TABLE, 2)
    assert labels.shares()[:, 1] == pytest.approx([2 / 3, 2 / 3, 1 / 3, 1 / 3, 2 / 3])
    first, learned = dawid_skene(labels, rounds=1, smoothing=0)
    assert first[:, 1] == pytest.approx([0.8596, 0.8596, 0.1968, 0.1968, 0.4949], abs=5e-5)
    assert learned.matrix[0] == pytest.approx(np.array([[0.5714, 0.4286], [0.25, 0.75]]), abs=5e-5)
    assert learned.matrix[2] == pytest.approx(np.array([[0.2857, 0.7143], [0.5, 0.5]]), abs=5e-5)
    assert learned.prior == pytest.approx([0.4667, 0.5333], abs=5e-5)
    second, _ = dawid_skene(labels, rounds=2, smoothing=0)
    assert second[:, 1] == pytest.approx([0.9889, 0.9889, 0.0352, 0.0352, 0.2957], abs=5e-5)
    # the adversary is found out, and the last task flips against the majority
    assert dawid_skene(labels, smoothing=0)[0][:, 1] == pytest.approx([1, 1, 0, 0, 0], abs=1e-4)


def test_glad_gives_the_adversary_a_negative_ability_and_mace_cannot() -> None:
    labels = Labels.of(TABLE, 2)
    posterior, workers = glad(labels)
    assert workers.ability == pytest.approx([0.83, 1.11, -0.57], abs=0.01)
    assert posterior[4, 1] == pytest.approx(0.231, abs=0.005)
    posterior, _ = mace(labels)
    assert posterior[4, 1] == pytest.approx(0.634, abs=0.05)


def test_all_recover_the_truth_better_than_the_vote() -> None:
    labels, truth = made([0.9, 0.55, 0.5, 0.45, 0.4])
    vote = (labels.shares().argmax(axis=1) == truth).mean()
    for posterior in (dawid_skene(labels)[0], one_coin(labels)[0], mace(labels)[0]):
        assert (posterior.argmax(axis=1) == truth).mean() > vote + 0.05
    assert one_coin(labels)[1].accuracy == pytest.approx([0.9, 0.55, 0.5, 0.45, 0.4], abs=0.05)
    assert glad(labels, rounds=5)[1].ability.argmax() == 0


def test_an_item_without_labels_has_a_flat_posterior_and_what_was_learned_reads_new_items() -> None:
    some = np.array([[0, np.nan], [1, 1], [np.nan, np.nan]])
    labels = Labels.of(some, 2)
    assert labels.shares().tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    posterior, learned = dawid_skene(labels, prior="uniform", smoothing=1.0)
    assert posterior[2] == pytest.approx([0.5, 0.5])
    assert learned.posterior(labels) == pytest.approx(posterior, abs=1e-5)


def test_a_fractional_label_counts_in_part_for_both_neighbours() -> None:
    labels = Labels.of(np.array([[0.0, 1.25]]), 3)
    assert labels.shares() == pytest.approx(np.array([[0.5, 0.375, 0.125]]))
