"""Intervals, by hand and by what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.parts.stats.intervals import bootstrap_difference, bootstrap_mean, clopper_pearson, wilson


def test_a_bootstrap_interval_is_as_wide_as_the_normal_one_on_many_values() -> None:
    # 400 values, half 0 and half 1: standard error 0.5 / 20 = 0.025, so 0.5 ± 1.96 · 0.025
    found = bootstrap_mean(np.tile([0.0, 1.0], 200), np.random.default_rng(0))
    assert (found.value, found.n) == (0.5, 400)
    assert found.low == pytest.approx(0.451, abs=0.006)
    assert found.high == pytest.approx(0.549, abs=0.006)


def test_an_unknown_value_is_left_out() -> None:
    found = bootstrap_mean(np.array([1.0, np.nan, 1.0]), np.random.default_rng(0))
    assert (found.value, found.low, found.n) == (1.0, 1.0, 2)


def test_nothing_known_has_no_mean() -> None:
    with pytest.raises(BadParameter, match="at least one known number"):
        bootstrap_mean(np.array([np.nan]), np.random.default_rng(0))


def test_the_same_generator_gives_the_same_interval() -> None:
    values = np.arange(50.0)
    first, second = (bootstrap_mean(values, np.random.default_rng(3)) for _ in range(2))
    assert first == second


def test_a_paired_difference_that_is_constant_is_certain() -> None:
    a = np.array([0.0, 1.0, 0.5])
    found = bootstrap_difference(a + 0.25, a, np.random.default_rng(0))
    assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25)


def test_a_difference_of_unpaired_values_is_refused() -> None:
    with pytest.raises(BadParameter, match="paired"):
        bootstrap_difference(np.zeros(3), np.zeros(2), np.random.default_rng(0))


def test_wilson_of_half_is_symmetric() -> None:
    # z = 1.96, n = 10: half-width z·√(0.25/10 + z²/400) / (1 + z²/10) = 0.2634
    found = wilson(5, 10)
    assert (found.low, found.high) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))


def test_clopper_pearson_of_none_in_ten_is_the_tenth_root_of_the_tail() -> None:
    # (1 − p)^10 = 0.025, so p = 1 − 0.025^0.1
    found = clopper_pearson(0, 10)
    assert (found.low, found.high) == (0.0, pytest.approx(1 - 0.025**0.1))


def test_clopper_pearson_of_all_mirrors_none() -> None:
    assert clopper_pearson(10, 10).low == pytest.approx(0.025**0.1)
    assert clopper_pearson(10, 10).high == 1.0


def test_more_successes_than_trials_are_refused() -> None:
    with pytest.raises(BadParameter, match=r"\[0, 3\]"):
        wilson(4, 3)
