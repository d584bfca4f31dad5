"""Clusters of questions: membership by hand, and a map that learns what k-means cannot see."""

from __future__ import annotations

import numpy as np
import pytest

from septet.parts.learning.rows import Rows
from septet.parts.routing.clusters import Clusters, learned_map, softmax

AXES = np.array([[1.0, 0.0], [0.0, 1.0]])


def test_k_means_finds_two_groups_and_says_who_is_in_which() -> None:
    x = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-0.6, 0.8]])
    clusters, group = Clusters.of(x, 2, np.random.default_rng(0))
    assert group[0] == group[1] != group[2] == group[3]
    # the means are kept as they are, shorter than one: (.9, .3) and (−.3, .9)
    np.testing.assert_allclose(clusters.centroids[group[[0, 2]]], [[0.9, 0.3], [-0.3, 0.9]])
    np.testing.assert_array_equal(clusters.nearest(x), group)


def test_sparse_rows_are_clustered_like_dense_ones() -> None:
    x = np.repeat(AXES, 5, axis=0)
    clusters, group = Clusters.of(Rows.of(x), 2, np.random.default_rng(0))
    np.testing.assert_array_equal(clusters.nearest(Rows.of(x)), group)
    np.testing.assert_allclose(clusters.centroids[group], x)


def test_fewer_distinct_questions_than_clusters_leave_out_the_empty_ones() -> None:
    clusters, group = Clusters.of(np.repeat(AXES, 3, axis=0), 5, np.random.default_rng(0))
    assert len(clusters) == 2
    assert sorted(set(group.tolist())) == [0, 1]


def test_as_many_clusters_as_questions_are_the_questions() -> None:
    x = np.random.default_rng(1).normal(size=(7, 3))
    clusters, group = Clusters.of(x, 7, np.random.default_rng(0))
    np.testing.assert_allclose(clusters.centroids[group], x)


def test_soft_weights_of_distances_point_one_and_point_two_with_beta_nine() -> None:
    # distances 1 − .9 and 1 − .8: weights e^−.9 and e^−1.8, in shares .711 and .289
    clusters = Clusters(np.array([[0.8, 0.0], [0.9, 0.0], [0.0, 0.1]]))
    groups, weights = clusters.soft(np.array([[1.0, 0.0]]), 2, 9.0)
    assert groups.tolist() == [[1, 0]]
    np.testing.assert_allclose(weights, [[0.711, 0.289]], atol=5e-4)


def test_one_cluster_has_all_the_weight() -> None:
    _, weights = Clusters(AXES).soft(AXES, 1, 9.0)
    assert weights.tolist() == [[1.0], [1.0]]


def test_a_centroid_that_is_not_of_length_one_is_near_by_distance_not_by_angle() -> None:
    # (.5, .5) points between; x = (1, 0) is √.5 from it and 1 from the origin
    clusters = Clusters(np.array([[0.0, 0.0], [0.5, 0.5]]))
    assert clusters.nearest(np.array([[1.0, 0.0], [0.1, 0.1]])).tolist() == [1, 0]


def test_the_learned_map_moves_questions_to_the_cluster_that_explains_their_outcomes() -> None:
    # member 0 is right in cluster 0 only, but what tells the questions apart is the second direction, which
    # the start does not see
    x = np.repeat(AXES, 20, axis=0)
    values = np.repeat(np.array([[1.0, 0.0], [0.0, 1.0]]), 20, axis=0)
    table = np.array([[0.9, 0.1], [0.1, 0.9]])
    start = np.zeros((2, 2))
    w, b = learned_map(x, values, table, start, ridge=1e-4, steps=100)
    phi = softmax(AXES @ w + b)
    assert phi[0, 0] > 0.95
    assert phi[1, 1] > 0.95


def test_what_is_unknown_does_not_move_the_map() -> None:
    values = np.full((2, 1), np.nan)
    start = np.array([[1.0, 0.0], [0.0, 1.0]])
    w, b = learned_map(AXES, values, np.array([[0.9], [0.1]]), start, ridge=1e-4, steps=10)
    np.testing.assert_array_equal(w, start)
    np.testing.assert_array_equal(b, [0.0, 0.0])


def test_a_strong_ridge_holds_the_map_to_its_start() -> None:
    values, start = np.array([[1.0], [0.0]]), np.zeros((2, 2))
    table = np.array([[0.9], [0.1]])
    loose, _ = learned_map(AXES, values, table, start, ridge=0.0, steps=50)
    tight, _ = learned_map(AXES, values, table, start, ridge=10.0, steps=50)
    assert np.abs(tight).max() == pytest.approx(0.0, abs=0.05)
    assert np.abs(loose).max() > 1.0
