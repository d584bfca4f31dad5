"""Binomial counts, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from septet.parts.stats.binomial import p_exceeds, pmf


def test_three_fair_trials_have_one_three_three_one_eighths() -> None:
    assert pmf(3, 0.5) == pytest.approx([1 / 8, 3 / 8, 3 / 8, 1 / 8])


def test_a_sure_success_always_succeeds_and_a_sure_failure_never() -> None:
    assert pmf(2, 1.0).tolist() == [0, 0, 1]
    assert pmf(2, 0.0).tolist() == [1, 0, 0]


def test_no_trials_have_no_successes() -> None:
    assert pmf(0, 0.3).tolist() == [1.0]


def test_thousands_of_trials_still_sum_to_one_around_their_mean() -> None:
    p = pmf(5000, 0.3)
    assert p.sum() == pytest.approx(1)
    assert p @ np.arange(5001) == pytest.approx(1500)


def test_being_larger_is_strict() -> None:
    # counts 0 or 1 against a sure 1: never larger; against a sure 0: larger when it is 1
    assert p_exceeds(pmf(1, 0.25), np.array([0.0, 1.0])) == 0.0
    assert p_exceeds(pmf(1, 0.25), np.array([1.0])) == pytest.approx(0.25)
