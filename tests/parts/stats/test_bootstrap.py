"""Resamples of queries, by hand and by what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.parts.stats.bootstrap import Resamples
from septet.parts.stats.intervals import bootstrap_mean

HALVES = np.tile([0.0, 1.0], 200)


def test_each_resample_holds_as_many_queries_as_there_are() -> None:
    again = Resamples.of(7, np.random.default_rng(0), draws=50)
    assert again.counts.shape == (50, 7)
    assert (again.counts.sum(axis=1) == 7).all()
    assert again.counts.std() > 0


def test_a_mean_weighs_each_query_by_how_often_it_occurs() -> None:
    again = Resamples(np.array([[2, 0, 1], [0, 3, 0]], dtype=np.uint16))
    # (2·.3 + .9) / 3 = .5, and three times the second query
    assert again.means(np.array([0.3, 0.6, 0.9])).tolist() == pytest.approx([0.5, 0.6])


def test_columns_are_resampled_together() -> None:
    again = Resamples.of(6, np.random.default_rng(1), draws=20)
    values = np.random.default_rng(2).random((6, 3))
    each = np.stack([again.means(values[:, j]) for j in range(3)], axis=1)
    assert again.means(values) == pytest.approx(each)


def test_an_unknown_value_is_left_out_of_its_own_column_only() -> None:
    again = Resamples(np.array([[1, 2]], dtype=np.uint16))
    found = again.means(np.array([[np.nan, 0.3], [0.6, 0.6]]))
    assert found[0] == pytest.approx([0.6, 0.5])  # .6 alone; (.3 + 2·.6) / 3


def test_a_resample_that_holds_nothing_known_has_no_mean() -> None:
    again = Resamples(np.array([[2, 0], [1, 1]], dtype=np.uint16))
    values = np.array([np.nan, 0.4])
    assert np.isnan(again.means(values)).tolist() == [True, False]
    assert again.mean(values).n == 1
    assert (again.mean(values).low, again.mean(values).high) == (0.4, 0.4)


def test_nothing_known_is_unknown() -> None:
    found = Resamples.of(3, np.random.default_rng(0), draws=10).mean(np.full(3, np.nan))
    assert np.isnan([found.value, found.low, found.high]).all()


def test_the_interval_is_that_of_picked_indices() -> None:
    # standard error .5 / 20, so .5 ± 1.96 · .025; the same as the bootstrap that gathers values
    found = Resamples.of(400, np.random.default_rng(0)).mean(HALVES)
    other = bootstrap_mean(HALVES, np.random.default_rng(0))
    assert (found.low, found.high) == (pytest.approx(0.451, abs=0.006), pytest.approx(0.549, abs=0.006))
    assert (found.low, found.high) == (
        pytest.approx(other.low, abs=0.003),
        pytest.approx(other.high, abs=0.003),
    )


def test_what_two_columns_have_in_common_cancels_out() -> None:
    again = Resamples.of(400, np.random.default_rng(0))
    found = again.difference(HALVES + 0.25, HALVES)
    assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25)


def test_groups_are_drawn_whole() -> None:
    again = Resamples.of(5, np.random.default_rng(0), draws=30, groups=["a", "b", "a", "b", "c"])
    assert (again.counts[:, 0] == again.counts[:, 2]).all()
    assert (again.counts[:, 1] == again.counts[:, 3]).all()
    assert (again.counts[:, [0, 1, 4]].sum(axis=1) == 3).all()


def test_an_interval_over_twenty_copies_of_each_query_is_as_wide_as_over_the_queries() -> None:
    once = np.random.default_rng(4).random(100)
    copies, groups = np.repeat(once, 20), np.repeat(np.arange(100), 20).tolist()
    alone = Resamples.of(100, np.random.default_rng(0)).mean(once)
    grouped = Resamples.of(2000, np.random.default_rng(0), groups=groups).mean(copies)
    naive = Resamples.of(2000, np.random.default_rng(0)).mean(copies)
    assert (grouped.low, grouped.high) == (pytest.approx(alone.low), pytest.approx(alone.high))
    # twenty times as many draws look √20 times as sure
    assert (alone.high - alone.low) / (naive.high - naive.low) == pytest.approx(20**0.5, rel=0.1)


def test_an_end_of_an_interval_may_be_infinite() -> None:
    again = Resamples.of(2, np.random.default_rng(0), draws=4)
    found = again.estimate(1.0, np.array([0.5, 1.0, np.inf, np.inf]))
    assert (found.low, found.high) == (0.5, np.inf)


def test_the_same_generator_gives_the_same_resamples() -> None:
    first, second = (Resamples.of(9, np.random.default_rng(3), draws=5).counts for _ in range(2))
    assert (first == second).all()


def test_values_of_other_queries_are_refused() -> None:
    with pytest.raises(BadParameter, match="each of 3 queries"):
        Resamples.of(3, np.random.default_rng(0), draws=2).means(np.zeros(4))


def test_a_group_is_needed_for_each_query() -> None:
    with pytest.raises(BadParameter, match="each of 3 queries"):
        Resamples.of(3, np.random.default_rng(0), groups=["a"])


def test_no_queries_cannot_be_resampled() -> None:
    with pytest.raises(BadParameter, match="at least 1"):
        Resamples.of(0, np.random.default_rng(0))
