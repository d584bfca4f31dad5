"""Rules that make one distribution of several, by hand: K10 to K13, weights of any sign, absent members."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from septet.core.errors import RunError
from septet.parts.decoding.aggregate import (
    arithmetic,
    geometric,
    harmonic,
    minimum,
    plausible,
    possible,
    power,
    softmax,
)

P = np.log([[0.9, 0.1], [0.2, 0.8]]).astype(np.float32)
HALF = np.array([0.5, 0.5])
ABSENT = np.full(2, -np.inf, dtype=np.float32)


def test_k10_the_geometric_mean_is_three_to_two_where_the_arithmetic_is_eleven_to_nine() -> None:
    np.testing.assert_allclose(geometric(P, HALF), [0.6, 0.4], rtol=1e-6)
    np.testing.assert_allclose(arithmetic(P, HALF), [0.55, 0.45], rtol=1e-6)


def test_k12_the_harmonic_mean() -> None:
    # 2/(1/.9 + 1/.2) = .32727 and 2/(1/.1 + 1/.8) = .17778
    np.testing.assert_allclose(harmonic(P, HALF), [0.648, 0.352], rtol=1e-6)


def test_power_means_of_one_and_minus_one_are_the_arithmetic_and_the_harmonic() -> None:
    np.testing.assert_allclose(power(P, HALF, 1.0), arithmetic(P, HALF), rtol=1e-6)
    np.testing.assert_allclose(power(P, HALF, -1.0), harmonic(P, HALF), rtol=1e-12)
    np.testing.assert_allclose(power(P, HALF, 1e-6), geometric(P, HALF), rtol=1e-5)


def test_k11_and_k13_weights_may_be_negative_and_above_one() -> None:
    sft, aligned = np.log([0.5, 0.5]), np.log([0.8, 0.2])
    np.testing.assert_allclose(geometric(np.array([sft, aligned]), np.array([-1.0, 2.0])), [16 / 17, 1 / 17])
    base, expert, anti = np.log([0.5, 0.5]), np.log([0.8, 0.2]), np.log([0.6, 0.4])
    moved = geometric(np.array([base, expert, anti]), np.array([1.0, 1.0, -1.0]))
    np.testing.assert_allclose(moved, [8 / 11, 3 / 11])


def test_geometric_weights_are_not_divided_by_their_sum() -> None:
    np.testing.assert_allclose(geometric(P, np.ones(2)), [0.18 / 0.26, 0.08 / 0.26], rtol=1e-6)


def test_an_impossible_string_of_a_member_with_a_negative_weight_does_not_win() -> None:
    rows = np.array([[np.log(0.5), np.log(0.5)], [0.0, -np.inf]])
    assert geometric(rows, np.array([1.0, -1.0])).tolist() == [1.0, 0.0]
    assert geometric(rows, np.array([1.0, 0.0])).tolist() == [0.5, 0.5]


def test_a_string_is_possible_where_every_member_with_a_weight_may_say_it() -> None:
    rows = np.array([[-1.0, -2.0], [-np.inf, -0.5], [-np.inf, -np.inf]])  # the third is absent
    assert possible(rows, np.array([1.0, -1.0, 1.0])).tolist() == [False, True]
    assert possible(rows, np.array([1.0, 0.0, 1.0])).tolist() == [True, True]


def test_rows_in_float32_give_what_rows_in_float64_give() -> None:
    rng = np.random.default_rng(0)
    logp = np.log(rng.dirichlet(np.full(50, 0.3), size=3))
    weights = np.array([0.2, 0.5, 0.3])
    for rule in (arithmetic, geometric, harmonic):
        np.testing.assert_allclose(rule(logp.astype(np.float32), weights), rule(logp, weights), rtol=3e-5)


def test_the_minimum_is_made_a_distribution() -> None:
    rows = np.log([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    np.testing.assert_allclose(minimum(rows), [0.25, 0.5, 0.25])


def test_k13_plausible_is_a_share_of_the_best_probability() -> None:
    row = np.log([0.6, 0.35, 0.05])
    assert plausible(row, 0.1).tolist() == [True, True, False]
    assert plausible(row, 0.0).tolist() == [True, True, True]
    assert plausible(row, 1.0).tolist() == [True, False, False]
    assert plausible(np.append(row, -np.inf), 0.0).tolist() == [True, True, True, False]


@pytest.mark.parametrize("rule", [arithmetic, harmonic])
def test_an_absent_member_leaves_its_weight_to_the_others(rule: object) -> None:
    got = rule(np.array([P[0], ABSENT]), np.array([0.25, 0.75]))  # type: ignore[operator]
    np.testing.assert_allclose(got, [0.9, 0.1], rtol=1e-6)


def test_nobody_with_a_weight_is_an_error_and_not_a_nan() -> None:
    rows = np.array([P[0], ABSENT])
    for rule in (arithmetic, geometric, harmonic):
        with pytest.raises(RunError, match="has any weight"):
            rule(rows, np.array([0.0, 1.0]))
    with pytest.raises(RunError, match="no member has an opinion"):
        minimum(np.array([ABSENT, ABSENT]))


def test_members_that_have_no_string_in_common_are_an_error_and_not_a_nan() -> None:
    rows = np.array([[0.0, -np.inf], [-np.inf, 0.0]])
    for p in (lambda: geometric(rows, HALF), lambda: harmonic(rows, HALF), lambda: minimum(rows)):
        with pytest.raises(RunError, match="agree on no string"):
            p()
    assert arithmetic(rows, HALF).tolist() == [0.5, 0.5]


def test_softmax_of_large_scores_does_not_overflow() -> None:
    np.testing.assert_allclose(softmax(np.array([5000.0, 5000.0 + np.log(3), -np.inf])), [0.25, 0.75, 0.0])


rows_of_three = st.lists(
    st.lists(st.floats(-30, 0, width=32), min_size=4, max_size=4), min_size=3, max_size=3
)


@given(rows_of_three, st.lists(st.floats(-2, 2), min_size=3, max_size=3))
def test_every_rule_gives_a_distribution(rows: list[list[float]], weights: list[float]) -> None:
    logp = np.array([np.array(row) - np.log(np.exp(row).sum()) for row in rows], dtype=np.float32)
    w = np.array(weights) + 0.125  # not all of them zero
    positive = np.abs(w) + 0.125
    results = [
        arithmetic(logp, positive),
        harmonic(logp, positive),
        power(logp, positive, -0.5),
        minimum(logp),
    ]
    if w.any():
        results.append(geometric(logp, w))
    for p in results:
        assert np.isfinite(p).all()
        assert (p >= 0).all()
        assert p.sum() == pytest.approx(1.0, abs=1e-9)
