"""Orders from comparisons of pairs, by hand, and what must not depend on the order of candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from septet.core.errors import BadParameter
from septet.parts.answers.ranking import bradley_terry, bubble, max_logits, max_wins
from septet.testing.scripted import drive

CYCLE = np.array([[0.0, 2.0, -1.0], [-2.0, 0.0, 1.0], [3.0, -1.0, 0.0]])


def test_max_logits_orders_three_candidates_as_the_dossier_works_it_out() -> None:
    assert max_logits(CYCLE).tolist() == [0.0, -2.0, 2.0]  # the third, then the first, then the second
    assert np.argsort(-max_logits(CYCLE)).tolist() == [2, 0, 1]


def test_in_a_cycle_every_candidate_wins_as_often() -> None:
    # each beats one other in both orders: 1 + 1
    assert max_wins(CYCLE).tolist() == [2.0, 2.0, 2.0]


def test_a_preference_for_the_first_place_cancels_out() -> None:
    fair = np.array([[0.0, 1.0], [-1.0, 0.0]])
    first = fair + 5.0  # whoever is shown first looks better
    assert max_logits(first).tolist() == max_logits(fair).tolist() == [2.0, -2.0]
    assert max_wins(first).tolist() == [1.0, 1.0]  # which is all that winning in either order can say


def test_probabilities_are_even_at_one_half() -> None:
    p = np.array([[0.0, 0.6, 0.5], [0.4, 0.0, 0.9], [0.5, 0.1, 0.0]])
    assert max_wins(p, even=0.5).tolist() == [2.0, 2.0, 0.0]
    assert max_logits(p).round(6).tolist() == [0.2, 0.6, -0.8]


def test_an_order_that_was_not_asked_speaks_for_nobody() -> None:
    half = np.array([[0.0, 2.0], [np.nan, 0.0]])
    assert max_logits(half).tolist() == [2.0, -2.0]
    assert max_wins(half).tolist() == [1.0, 0.0]


def won(better: Any, n: int) -> int:
    """The winner where comparing asks nobody."""

    def asked(i: int, j: int) -> Any:
        yield from ()
        return better(i, j)

    found: int = drive(bubble(asked, n), {})[0]
    return found


def test_bubble_compares_each_candidate_once_and_an_equal_one_does_not_take_the_place() -> None:
    asked = []

    def better(i: int, j: int) -> bool:
        asked.append((i, j))
        return (2, 2, 7, 1)[i] > (2, 2, 7, 1)[j]

    assert won(better, 4) == 2
    assert asked == [(1, 0), (2, 0), (3, 2)]
    assert won(better, 1) == 0
    with pytest.raises(BadParameter, match="at least one"):
        won(better, 0)


def test_bradley_terry_of_two_is_the_log_odds() -> None:
    # P = 3/4: the gap is ln 3, and one order says what both say
    for p in ([[0, 0.75], [0.25, 0]], [[0, 0.75], [np.nan, 0]], [[0, 3], [1, 0]]):
        xi = bradley_terry(np.array(p, dtype=float))
        assert xi[0] - xi[1] == pytest.approx(np.log(3), abs=1e-5)
        assert xi.sum() == pytest.approx(0, abs=1e-12)


def test_bradley_terry_knows_nothing_of_a_candidate_that_was_not_compared() -> None:
    p = np.full((3, 3), np.nan)
    p[0, 1], p[1, 0] = 0.75, 0.25
    assert np.isnan(bradley_terry(p)).tolist() == [False, False, True]


def test_logits_are_not_taken_for_probabilities() -> None:
    with pytest.raises(BadParameter, match="at least 0"):
        bradley_terry(CYCLE)
    with pytest.raises(BadParameter, match="square"):
        max_logits(np.zeros((2, 3)))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.integers(0, 2**31))
def test_an_order_of_strengths_is_recovered_and_moves_with_the_candidates(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    xi = rng.normal(size=n)
    xi -= xi.mean()
    gap = xi[:, None] - xi[None]
    p = 1 / (1 + np.exp(-gap))
    np.testing.assert_allclose(bradley_terry(p), xi, atol=1e-4)  # the penalty draws it in by less than that
    turned = rng.permutation(n)
    logits = gap + rng.normal(size=(n, n))
    there = np.ix_(turned, turned)
    np.testing.assert_allclose(max_logits(logits[there]), max_logits(logits)[turned], atol=1e-12)
    np.testing.assert_array_equal(max_wins(logits[there]), max_wins(logits)[turned])
    np.testing.assert_allclose(bradley_terry(p[there]), xi[turned], atol=1e-4)
    assert won(lambda i, j: bool(xi[i] > xi[j]), n) == int(xi.argmax())
