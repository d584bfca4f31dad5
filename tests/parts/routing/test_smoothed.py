"""The smoothed table by hand, the invariants of routing by a lookup table, and the choice of k."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from septet.core.types import Floats
from septet.parts.learning.rows import Rows
from septet.parts.routing.choose import cheapest_best, net_utility
from septet.parts.routing.neighbours import nearest_mean
from septet.parts.routing.smoothed import (
    Smoothed,
    Validation,
    alike,
    cross_validated,
    group_means,
    known_mean,
    light,
    nearest,
    nearness,
    rank_reciprocal,
    shrunk,
)

SIMILARITY = np.array([[0.9, 0.2, 0.5, 0.5]])
NAN = float("nan")


# --- by hand -------------------------------------------------------------------------------------------


def test_the_nearest_come_first_and_equals_by_position() -> None:
    assert nearest(SIMILARITY, 2).tolist() == [[0, 2]]
    assert nearest(SIMILARITY, 3).tolist() == [[0, 2, 3]]
    assert nearest(np.array([[0.5, 0.5, 0.5, 0.9]]), 3).tolist() == [[3, 0, 1]]
    assert nearest(SIMILARITY, 9).tolist() == [[0, 2, 3, 1]]


def test_one_neighbour_gives_its_row_and_all_of_them_the_column_means() -> None:
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 1.0]])
    table = Smoothed.of(scores)
    assert table.near(SIMILARITY, k=1).tolist() == [[1.0, 0.0]]
    assert table.near(SIMILARITY, k=4).tolist() == [[0.5, 0.5]]


def test_two_equal_questions_with_opposite_outcomes_give_one_half() -> None:
    assert Smoothed.of(np.array([[1.0], [0.0], [1.0]])).near(np.array([[0.8, 0.8, 0.1]]), k=2).tolist() == [
        [0.5]
    ]


def test_weights_follow_the_power_of_the_similarity() -> None:
    # power 2 of .8 and .4: weights .64 and .16, so (.64·1 + .16·0) / .8
    table = Smoothed.of(np.array([[1.0], [0.0]]))
    assert table.near(np.array([[0.8, 0.4]]), k=2, power=2.0).tolist() == [[pytest.approx(0.8)]]


def test_pseudo_counts_count_against_as_many_equal_weights() -> None:
    # weights .64 and .16: e = .8² / (.64² + .16²) = .64 / .4352; prior .5 with two pseudo-counts
    e = 0.64 / 0.4352
    table = Smoothed(np.array([[1.0], [0.0]]), np.array([0.5]))
    found = table.near(np.array([[0.8, 0.4]]), k=2, power=2.0, pseudo=2.0)
    assert found[0, 0] == pytest.approx((e * 0.8 + 2 * 0.5) / (e + 2))
    # two neighbours of equal weight, both right, against two pseudo-counts of one half: (2·1 + 2·.5) / 4
    sure = Smoothed(np.array([[1.0], [1.0]]), np.array([0.5]))
    assert sure.near(np.array([[0.8, 0.4]]), k=2, pseudo=2.0).tolist() == [[0.75]]


def test_a_question_that_is_like_none_gets_the_prior() -> None:
    table = Smoothed(np.array([[1.0, NAN], [0.0, 1.0]]), np.array([0.3, 0.4]))
    assert table.near(np.zeros((1, 2)), k=2, power=2.0).tolist() == [[0.3, 0.4]]
    assert table.near(-np.ones((1, 2)), k=2, power=2.0, pseudo=5.0).tolist() == [[0.3, 0.4]]


def test_an_unknown_score_is_replaced_by_the_next_neighbour_of_that_member() -> None:
    # member 0 does not know row 0: its two nearest are rows 2 and 3
    table = Smoothed.of(np.array([[NAN, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    assert table.near(SIMILARITY, k=2).tolist() == [[0.5, 0.5]]


def test_a_member_without_any_known_score_stays_unknown() -> None:
    found = Smoothed.of(np.array([[NAN, 1.0]] * 4)).near(SIMILARITY, k=2, pseudo=3.0)
    assert np.isnan(found[0, 0])
    assert found[0, 1] == 1.0


def test_means_of_groups_are_shrunk_and_skip_what_is_unknown() -> None:
    # group 0: (1 + 0 + .5·2)/(2 + 2) and, with one known, (1 + .5·2)/(1 + 2); group 1 is empty: the prior
    values = np.array([[1.0, 1.0], [0.0, NAN]])
    found = group_means(values, np.array([0, 0]), 2, np.array([0.5, 0.5]), pseudo=2.0)
    np.testing.assert_allclose(found, [[0.5, 2 / 3], [0.5, 0.5]])
    assert group_means(values, np.array([0, 0]), 1, np.array([0.9, 0.9])).tolist() == [[0.5, 1.0]]


def test_equal_members_share_a_rank_and_an_unknown_one_has_none() -> None:
    # two with rank 0, then rank 2: 1/.1, 1/.1, 1/2.1
    found = rank_reciprocal(np.array([[0.9, 0.9, 0.6, NAN]]), 0.1)
    np.testing.assert_allclose(found, [[10.0, 10.0, 1 / 2.1, NAN]])


def test_of_equal_members_the_cheaper_wins_and_then_the_first() -> None:
    net = np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.4], [0.1, 0.5, 0.5], [NAN, 0.2, 0.2]])
    c = np.array([[3.0, 1.0, 1.0], [NAN, 2.0, 0.0], [NAN, NAN, NAN], [0.0, NAN, 9.0]])
    assert cheapest_best(net, c).argmax(axis=1).tolist() == [1, 1, 1, 2]


def test_without_known_costs_the_best_still_wins() -> None:
    assert cheapest_best(np.array([[0.1, 0.2]]), np.full((1, 2), NAN)).tolist() == [[0.0, 1.0]]


def test_dense_rows_are_compared_in_single_precision_and_sparse_ones_alike() -> None:
    x = np.array([[0.6, 0.8], [1.0, 0.0]])
    dense = light(x)
    assert isinstance(dense, np.ndarray)
    assert dense.dtype == np.float32
    np.testing.assert_allclose(alike(dense, x[:1]), [[1.0, 0.6]], rtol=1e-6)
    np.testing.assert_allclose(alike(light(Rows.of(x)), x[:1]), [[1.0, 0.6]])


def test_nearness_is_the_mean_over_the_nearest() -> None:
    assert nearness(SIMILARITY, 2).tolist() == [pytest.approx(0.7)]
    assert nearness(SIMILARITY, 9).tolist() == [pytest.approx(0.525)]


# --- against another estimator -------------------------------------------------------------------------


@pytest.mark.parametrize("share_unknown", [0.0, 0.1, 0.6, 0.95])
def test_flat_weights_give_the_mean_over_nearest_known_scores(share_unknown: float) -> None:
    rng = np.random.default_rng(1)
    similarity, scores = rng.random((40, 200)), rng.random((200, 4))
    scores[:, 1:][rng.random((200, 3)) < share_unknown] = NAN
    expected = nearest_mean(similarity, scores, 7)
    np.testing.assert_allclose(Smoothed.of(scores).near(similarity, 7), expected, atol=1e-12)


def test_it_agrees_with_scikit_learn() -> None:
    neighbors = pytest.importorskip("sklearn.neighbors")
    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 8))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    scores = rng.random((250, 3))
    reference = neighbors.KNeighborsRegressor(9, algorithm="brute", metric="cosine").fit(x[:250], scores)
    found = Smoothed.of(scores).near(alike(x[:250], x[250:]), 9)
    np.testing.assert_allclose(found, reference.predict(x[250:]), atol=1e-12)


def test_many_queries_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(0)
    similarity, scores = rng.random((50, 30)), rng.random((30, 3))
    table = Smoothed.of(scores)
    alone = np.concatenate([table.near(row[None], 5, 2.0, 1.0) for row in similarity])
    np.testing.assert_allclose(table.near(similarity, 5, 2.0, 1.0), alone, atol=1e-12)


# --- the choice of k -----------------------------------------------------------------------------------


def test_among_ks_of_like_score_the_most_exact_is_chosen() -> None:
    # the second is as good as the best within one standard error, and has less error; the third has none
    # left of the score, whatever its error
    best = np.array([1.0, 1.0, 0.0, 1.0] * 5)
    near = np.array([1.0, 0.0, 1.0, 1.0] * 5)
    realised = np.stack([best, near, np.zeros(20)], axis=1)
    tried = Validation(
        np.array([4, 8, 16]), np.array([0.0, 1.0, 2.0]), realised, np.array([0.3, 0.2, 0.1]), np.zeros(20)
    )
    assert tried.best() == (8, 1.0)
    assert tried.most_exact() == (16, 2.0)


def test_cross_validation_finds_how_far_likeness_reaches() -> None:
    # questions on two axes: only neighbours on the same axis agree, ten of each, and two of them are held out
    # in every fold: 8 or fewer are right, 15 mix the axes half and half
    x = np.repeat(np.eye(2), 10, axis=0)
    values = np.repeat(np.eye(2), 10, axis=0)
    tried = cross_validated(x, values, (2, 15), np.random.default_rng(0))
    assert tried.k.tolist() == [2, 15]
    assert tried.realised[:, 0].tolist() == [1.0] * 20
    assert tried.error[0] == 0.0
    assert tried.best() == (2, 0.0)
    np.testing.assert_allclose(tried.closeness, 0.6, atol=0.31)  # 4 to 9 of the ten nearest share the axis


def test_pure_noise_is_answered_with_more_of_the_prior() -> None:
    rng = np.random.default_rng(3)
    x, values = rng.normal(size=(200, 5)), rng.integers(0, 2, (200, 3)).astype(float)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    tried = cross_validated(x, values, (2, 8), np.random.default_rng(0), pseudos=(0.0, 50.0))
    assert tried.most_exact()[1] == 50.0


def test_what_cross_validation_predicts_is_what_the_table_says_without_the_fold() -> None:
    rng = np.random.default_rng(4)
    x, values = rng.normal(size=(30, 5)), rng.random((30, 3))
    values[rng.random((30, 3)) < 0.2] = NAN
    values[:, 0] = rng.random(30)
    tried = cross_validated(x, values, (3, 6), np.random.default_rng(0), pseudos=(2.0,), folds=5)
    fold = np.random.default_rng(0).permutation(30) % 5
    error = 0.0
    for f in range(5):
        rest, held = fold != f, fold == f
        q = Smoothed.of(values[rest]).near(alike(x[rest], x[held]), 6, 0.0, 2.0)
        error += float(np.nansum((q - values[held]) ** 2))
    assert tried.error[1] == pytest.approx(error / (~np.isnan(values)).sum())


def test_one_question_can_be_validated_too() -> None:
    tried = cross_validated(np.ones((1, 1)), np.array([[1.0, 0.0]]), (4,), np.random.default_rng(0))
    assert tried.best() == (1, 0.0)


# --- the invariants of a router made of a table and a net utility --------------------------------------


def arrays(data: Any, *shape: int, low: float = 0.0) -> Floats:
    values = data.draw(
        st.lists(st.integers(int(low * 8), 8), min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))
    )
    return np.array(values, dtype=np.float64).reshape(shape) / 8


def a_case(data: Any) -> tuple[Floats, Smoothed, int, float, float]:
    """Similarities (n, r), a table (r, m), k, power and pseudo-counts."""
    n, r, m = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 8)), data.draw(st.integers(2, 4))
    table = Smoothed.of(arrays(data, r, m))
    knobs = st.tuples(st.integers(1, 9), st.sampled_from([0.0, 2.0]), st.sampled_from([0.0, 3.0]))
    return arrays(data, n, r, low=-1.0), table, *data.draw(knobs)


few = settings(max_examples=60, deadline=None)


@few
@given(st.data())
def test_estimates_stay_between_the_least_and_the_largest_score(data: Any) -> None:
    similarity, table, k, power, pseudo = a_case(data)
    q = table.near(similarity, k, power, pseudo)
    assert (q >= table.value.min(axis=0) - 1e-12).all()
    assert (q <= table.value.max(axis=0) + 1e-12).all()


@few
@given(st.data())
def test_permuting_members_permutes_the_estimates(data: Any) -> None:
    similarity, table, k, power, pseudo = a_case(data)
    order = np.array(data.draw(st.permutations(range(table.value.shape[1]))))
    turned = Smoothed(table.value[:, order], table.prior[order])
    expected = table.near(similarity, k, power, pseudo)[:, order]
    np.testing.assert_allclose(turned.near(similarity, k, power, pseudo), expected, atol=1e-12)


@few
@given(st.data())
def test_an_unknown_cell_touches_only_its_own_member(data: Any) -> None:
    similarity, table, k, power, pseudo = a_case(data)
    value = table.value.copy()
    value[data.draw(st.integers(0, len(value) - 1)), 0] = NAN
    before = table.near(similarity, k, power, pseudo)
    after = Smoothed.of(value).near(similarity, k, power, pseudo)
    np.testing.assert_allclose(after[:, 1:], before[:, 1:], atol=1e-12)


def a_view(data: Any) -> tuple[Floats, Floats]:
    """Estimates and costs (n, m)."""
    n, m = data.draw(st.integers(1, 4)), data.draw(st.integers(2, 5))
    return arrays(data, n, m), arrays(data, n, m)


def picked(q: Floats, c: Floats, price: float) -> Floats:
    return cheapest_best(net_utility(q, c, np.full(len(q), price)), c)


@few
@given(st.data())
def test_without_a_price_the_best_answers_and_at_any_price_the_cheapest(data: Any) -> None:
    q, c = a_view(data)
    assert ((picked(q, c, 0.0) * q).sum(axis=1) == q.max(axis=1)).all()
    for price in (1e6, np.inf):
        assert ((picked(q, c, price) * c).sum(axis=1) == c.min(axis=1)).all()


@few
@given(st.data(), st.integers(0, 20))
def test_a_constant_on_all_estimates_or_costs_of_a_query_changes_nothing(data: Any, price: int) -> None:
    q, c = a_view(data)
    expected = picked(q, c, price / 4)
    np.testing.assert_array_equal(picked(q + 2, c, price / 4), expected)
    np.testing.assert_array_equal(picked(q, c + 2, price / 4), expected)


@few
@given(st.data(), st.integers(0, 20))
def test_who_is_worse_and_dearer_is_never_chosen(data: Any, price: int) -> None:
    q, c = a_view(data)
    for weights, quality, cost in zip(picked(q, c, price / 4), q, c, strict=True):
        chosen = weights.argmax()
        assert not ((quality > quality[chosen]) & (cost < cost[chosen])).any()


@few
@given(st.data())
def test_the_predicted_cost_never_rises_with_the_price(data: Any) -> None:
    q, c = a_view(data)
    costs = [
        (picked(q, c, price) * c).sum(axis=1).mean() for price in (0.0, 0.25, 0.5, 1.0, 2.0, 8.0, np.inf)
    ]
    assert (np.diff(costs) <= 1e-12).all()


def test_shrinking_by_nothing_keeps_the_mean_and_knows_nothing_without_weight() -> None:
    one = np.ones((1, 1))
    assert shrunk(0.25 * one, one, one, np.array([0.9]), 0.0).tolist() == [[0.25]]
    assert shrunk(0 * one, 0 * one, 0 * one, np.array([0.9]), 0.0).tolist() == [[0.9]]


def test_the_mean_of_a_column_without_a_known_cell_is_unknown() -> None:
    np.testing.assert_array_equal(known_mean(np.array([[1.0, NAN], [NAN, NAN]])), [1.0, NAN])
