"""Means over nearest neighbours, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from septet.parts.routing.neighbours import nearest_distance, nearest_mean

SIMILARITY = np.array([[0.9, 0.2, 0.5, 0.5]])


def test_the_nearest_count_and_equals_rank_by_position() -> None:
    # nearest two of (.9, .2, .5, .5): rows 0 and 2
    scores = np.array([[1.0], [0.0], [1.0], [0.0]])
    assert nearest_mean(SIMILARITY, scores, k=2).tolist() == [[1.0]]
    assert nearest_mean(SIMILARITY, scores, k=3).tolist() == [[pytest.approx(2 / 3)]]


def test_an_unknown_score_touches_only_its_own_member() -> None:
    # member 0 does not know row 0, so its two nearest are rows 2 and 3; member 1 has rows 0 and 2
    scores = np.array([[np.nan, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert nearest_mean(SIMILARITY, scores, k=2).tolist() == [[0.5, 0.5]]


def test_a_member_without_a_known_score_stays_unknown() -> None:
    found = nearest_mean(SIMILARITY, np.array([[np.nan, 1.0]] * 4), k=2)
    assert np.isnan(found[0, 0])
    assert found[0, 1] == 1.0


def test_fewer_rows_than_neighbours_are_all_used() -> None:
    assert nearest_mean(SIMILARITY, np.array([[1.0], [0.0], [0.0], [0.0]]), k=9).tolist() == [[0.25]]


def test_many_queries_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(0)
    similarity, scores = rng.random((600, 30)), rng.integers(0, 2, (30, 3)).astype(float)
    alone = np.concatenate([nearest_mean(row[None], scores, k=5) for row in similarity])
    np.testing.assert_array_equal(nearest_mean(similarity, scores, k=5), alone)


def test_the_distance_is_one_less_the_mean_similarity_of_the_nearest() -> None:
    assert nearest_distance(SIMILARITY, 2) == pytest.approx([1 - 0.7])
    assert nearest_distance(SIMILARITY, 50) == pytest.approx([1 - 0.525])
