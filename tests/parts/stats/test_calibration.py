"""Calibration and order of predictions, by hand and beside scikit-learn and scipy."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.parts.stats.calibration import auc, brier, ece, rank_correlation, ranks, reliability


def test_brier_leaves_unknown_pairs_out() -> None:
    predicted = np.array([[0.8, 0.3], [np.nan, 0.5]])
    observed = np.array([[1.0, 0.0], [1.0, np.nan]])
    assert brier(predicted, observed) == pytest.approx(0.065)  # (.04 + .09) / 2
    assert np.isnan(brier(np.array([np.nan]), np.array([1.0])))


def test_a_bin_holds_the_means_of_what_fell_into_it() -> None:
    found = reliability(np.array([0.1, 0.3, 0.9, 1.0]), np.array([0.0, 1.0, 1.0, 1.0]), bins=2)
    assert found.predicted.tolist() == pytest.approx([0.2, 0.95])
    assert found.observed.tolist() == [0.5, 1.0]
    assert found.count.tolist() == [2, 2]
    assert found.ece == pytest.approx((0.3 + 0.05) / 2)


def test_predictions_outside_the_unit_range_count_to_the_end_bins() -> None:
    found = reliability(np.array([-0.5, 1.5]), np.array([0.0, 1.0]), bins=10)
    assert found.predicted.tolist() == [-0.5, 1.5]
    assert found.count.tolist() == [1, 1]


def test_a_calibrated_forecast_has_no_error_and_an_empty_one_has_none_to_speak_of() -> None:
    assert ece(np.full(4, 0.75), np.array([1.0, 1.0, 1.0, 0.0])) == 0.0
    assert np.isnan(ece(np.array([]), np.array([])))


def test_unpaired_predictions_are_refused() -> None:
    with pytest.raises(BadParameter, match="paired"):
        brier(np.zeros(2), np.zeros(3))


def test_auc_counts_pairs_in_the_right_order_and_ties_half() -> None:
    # negatives .1 .4, positives .4 .8: right, half, right, right
    assert auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0.0, 0.0, 1.0, 1.0])) == 0.875


@pytest.mark.parametrize(
    ("score", "expected"), [([1, 2, 3, 4], 1.0), ([4, 3, 2, 1], 0.0), ([7, 7, 7, 7], 0.5)]
)
def test_auc_of_a_perfect_an_inverted_and_a_constant_score(score: list[float], expected: float) -> None:
    assert auc(np.array(score), np.array([0.0, 0.0, 1.0, 1.0])) == expected


def test_auc_is_unknown_where_a_class_is_absent() -> None:
    assert np.isnan(auc(np.array([1.0, 2.0]), np.ones(2)))


def test_auc_of_a_resample_is_that_of_the_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 5, 30).astype(float), rng.integers(0, 2, 30).astype(float)
    counts = rng.integers(0, 3, (4, 30))
    found = auc(score, positive, counts=counts)
    assert found.shape == (4,)
    for row, value in zip(counts, found, strict=True):
        assert value == pytest.approx(float(auc(np.repeat(score, row), np.repeat(positive, row))))


def test_auc_agrees_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    score, positive = rng.integers(0, 9, 200).astype(float), rng.integers(0, 2, 200).astype(float)
    assert float(auc(score, positive)) == pytest.approx(metrics.roc_auc_score(positive, score))


def test_a_label_between_the_classes_is_refused() -> None:
    with pytest.raises(BadParameter, match="must be 0 or 1"):
        auc(np.zeros(2), np.array([0.0, 0.5]))


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert ranks(np.array([5.0, 2.0, 5.0])).tolist() == [2.5, 1.0, 2.5]


def test_rank_correlation_sees_order_alone() -> None:
    x = np.array([1.0, 2.0, 3.0, np.nan])
    assert rank_correlation(x, np.array([1.0, 10.0, 100.0, 0.0])) == pytest.approx(1.0)
    # ranks 1 2 3 against 1 3 2: 1 − 6·(0 + 1 + 1) / (3·8)
    assert rank_correlation(x, np.array([0.0, 9.0, 5.0, 0.0])) == pytest.approx(0.5)
    assert np.isnan(rank_correlation(x, np.ones(4)))


def test_rank_correlation_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 6, (2, 80)).astype(float)
    assert rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
