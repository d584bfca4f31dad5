"""Label transforms, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.table import Table
from septet.core.types import Floats
from septet.parts.routing.labels import (
    at_least,
    balanced,
    counts,
    gaps,
    majority_right,
    pairs,
    relaxation,
    right,
    softmax_labels,
    spread,
    tag_smoothed,
)
from septet.parts.routing.records import Known


def each(*gaps_: float) -> list[Floats]:
    """One gap per question."""
    return [np.array([g]) for g in gaps_]


def test_a_score_is_right_from_a_half_on() -> None:
    np.testing.assert_array_equal(right(np.array([0.49, 0.5, np.nan])), [0.0, 1.0, np.nan])


def test_bounded_scores_need_a_temperature() -> None:
    scores = np.array([[0.9, 0.8]])
    assert softmax_labels(scores).round(3).tolist() == [[0.525, 0.475]]
    # at 0.1: 1/(1 + e⁻¹)
    assert softmax_labels(scores, 0.1).round(4).tolist() == [[0.7311, 0.2689]]
    assert softmax_labels(scores, 0.0).tolist() == [[1.0, 0.0]]


def test_equal_scores_share_the_label_at_any_temperature() -> None:
    for temperature in (0.0, 0.1, 1.0):
        np.testing.assert_allclose(softmax_labels(np.full((1, 4), 0.3), temperature), 0.25)


def test_an_unknown_score_takes_no_part_in_a_soft_label() -> None:
    labels = softmax_labels(np.array([[2.0, np.nan, 0.0], [np.nan, np.nan, np.nan]]))
    np.testing.assert_allclose(labels[0], [0.8808, np.nan, 0.1192], atol=5e-5)
    assert np.isnan(labels[1]).all()


def test_smoothing_mixes_a_label_with_the_mean_of_its_tag() -> None:
    # rewards (2, 0) and (0, 1): labels (.8808, .1192), (.2689, .7311), their mean (.5749, .4251)
    labels = softmax_labels(np.array([[2.0, 0.0], [0.0, 1.0]]))
    smoothed = tag_smoothed(labels, [["t"], ["t"]], beta=0.3)
    np.testing.assert_allclose(smoothed, [[0.6666, 0.3334], [0.4831, 0.5169]], atol=6e-5)
    # mixing rewards before the softmax gives another label
    assert softmax_labels(np.array([[0.3 * 2 + 0.7 * 1, 0.7 * 0.5]])).round(4).tolist() == [[0.7211, 0.2789]]


def test_a_beta_of_one_smoothes_nothing_and_of_zero_everything() -> None:
    labels = softmax_labels(np.array([[2.0, 0.0], [0.0, 1.0], [5.0, 0.0]]))
    np.testing.assert_allclose(tag_smoothed(labels, [["t"], ["t"], ["t"]], beta=1.0), labels)
    np.testing.assert_allclose(
        tag_smoothed(labels, [["t"], ["t"], ["t"]], beta=0.0), np.tile(labels.mean(axis=0), (3, 1))
    )


def test_a_question_of_several_tags_has_the_mean_of_them_and_one_of_none_keeps_its_label() -> None:
    labels = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    smoothed = tag_smoothed(labels, [["a", "b"], ["b"], []], beta=0.0)
    # a: (1, 0), b: (½, ½); the first question has both
    assert smoothed.tolist() == [[0.75, 0.25], [0.5, 0.5], [0.5, 0.5]]


def test_smoothing_leaves_unknown_labels_out_and_unknown() -> None:
    labels = np.array([[1.0, 0.0, np.nan], [0.0, 0.5, 0.5]])
    smoothed = tag_smoothed(labels, [["t"], ["t"]], beta=0.0)
    # means (.5, .25, .5); of the first two members alone, as shares, (2/3, 1/3)
    np.testing.assert_allclose(smoothed, [[2 / 3, 1 / 3, np.nan], [0.4, 0.2, 0.4]])


def test_pairs_and_counts_of_a_matrix() -> None:
    found = pairs(np.array([[1.0, 0.0, np.nan], [0.5, 0.5, 0.0]]))
    assert list(zip(found.row, found.a, found.b, found.share, strict=True)) == [
        (0, 0, 1, 1.0),
        (1, 0, 1, 0.5),
        (1, 0, 2, 1.0),
        (1, 1, 2, 1.0),
    ]
    held = counts(found, 3)
    assert held.wins.tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0]]
    assert held.ties.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]


def test_relaxation_spreads_labels_most() -> None:
    four = each(-3.0, -1.0, -0.5, 0.2)
    for t, expected in ((0.0, 0.375), (0.5, 0.5), (1.0, 0.375), (3.0, 0.0)):
        assert spread(at_least(four, t)) == expected
    assert relaxation(four) == 0.5
    assert at_least(four, 0.5).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_probabilities_are_over_all_pairs_of_samples() -> None:
    # weak (−1, −2), strong (−1.5, −2.5): of four pairs only −2 against −1.5 is lost
    crossed = [np.subtract.outer([-1.0, -2.0], [-1.5, -2.5]).ravel()]
    assert at_least(crossed).tolist() == [0.75]
    assert at_least(crossed, 0.5).tolist() == [1.0]


def test_scores_of_zero_and_one_are_not_relaxed() -> None:
    of = each(-1.0, -1.0, -1.0, 0.0, 1.0)
    assert relaxation(of) == 0.0
    np.testing.assert_array_equal(at_least(of, 0.99), at_least(of))


def test_a_question_without_gaps_has_no_label() -> None:
    assert np.isnan(at_least([np.array([])])).all()
    assert relaxation([np.array([])]) == 0.0


def sampled(*rows: tuple[str, str, int, float, str | None]) -> Known:
    return Known.of(
        Table.of({"query": q, "model": m, "sample_id": i, "score": s, "answer": a} for q, m, i, s, a in rows)
    )


def test_gaps_are_those_of_all_samples_or_of_the_first_of_each() -> None:
    known = sampled(
        ("a", "weak", 1, 0.2, None),
        ("a", "weak", 0, 0.6, None),
        ("a", "strong", 0, 0.5, None),
        ("b", "weak", 0, 1.0, None),
    )
    first, second = gaps(known)
    np.testing.assert_allclose(np.sort(first), [-0.3, 0.1])
    assert len(second) == 0
    np.testing.assert_allclose(gaps(known, single=True)[0], [0.1])


def test_the_majority_of_samples_decides_who_is_right() -> None:
    known = sampled(
        *[("a", "x", i, s, said) for i, (s, said) in enumerate([(0.0, "7"), (1.0, "8"), (1.0, "8")])],
        *[("a", "y", i, s, said) for i, (s, said) in enumerate([(0.0, "7"), (1.0, "8")])],
        *[("b", "x", i, s, None) for i, s in enumerate([1.0, 0.0, 0.0])],
    )
    # x says 8 twice; y's tie goes to the 7 it gave first; without answers the mean score of 1/3 is not right
    np.testing.assert_array_equal(majority_right(known), [[1.0, 0.0], [0.0, np.nan]])


def test_labels_follow_questions_and_not_rows_of_the_table() -> None:
    known = sampled(("a", "x", 0, 1.0, "1"), ("b", "x", 0, 0.0, "2"), ("c", "x", 0, 1.0, "3"))
    assert majority_right(known.only([2, 1]))[:, 0].tolist() == [1.0, 0.0]


def test_rare_labels_weigh_more() -> None:
    # 4 positives over 2 outputs: 4/(2·3) and 4/(2·1); negatives weigh 1
    weights = balanced(np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]))
    assert weights.round(4).tolist() == [[0.6667, 2.0], [0.6667, 1.0], [0.6667, 1.0]]
    assert balanced(np.zeros((2, 2))).tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("n", [1, 5])
def test_the_spread_is_the_mean_over_ordered_pairs(n: int) -> None:
    y = np.random.default_rng(0).uniform(size=n)
    assert spread(y) == pytest.approx(np.abs(np.subtract.outer(y, y)).mean())
