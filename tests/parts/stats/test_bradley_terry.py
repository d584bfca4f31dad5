"""Bradley–Terry strengths: by hand, against choix, and weighted by similarity."""

from __future__ import annotations

import choix
import numpy as np
import pytest

from septet.parts.stats.bradley_terry import ELO_PER_NAT, similarity_weights, strengths, won


def battles(*wins: tuple[int, int]) -> np.ndarray:
    a, b = np.array(wins).T
    return won(a, b, np.ones(len(wins)), int(max(a.max(), b.max())) + 1)


def test_three_wins_and_one_loss_are_a_chance_of_three_quarters_and_a_gap_of_191_points() -> None:
    xi = strengths(battles((0, 1), (0, 1), (0, 1), (1, 0)))
    gap = xi[0] - xi[1]
    assert 1 / (1 + np.exp(-gap)) == pytest.approx(0.75, abs=1e-5)
    assert gap * ELO_PER_NAT == pytest.approx(190.85, abs=0.01)


def test_the_weights_of_the_released_code() -> None:
    # the query's best match always weighs 100, half of it 31.62, nothing alike 10
    assert similarity_weights(np.array([[0.8, 0.4, 0.0]])).round(2).tolist() == [[100.0, 31.62, 10.0]]


def test_the_weights_of_the_paper_leave_the_cosine_alone() -> None:
    # 10^1.6 and 10^1.3
    plain = similarity_weights(np.array([[0.6, 0.3]]), scaling="none")
    assert plain.round(2).tolist() == [[39.81, 19.95]]


def test_one_near_win_and_one_far_loss() -> None:
    # 100 / (100 + 10), a gap of 400 points
    weight = similarity_weights(np.array([[0.5, 0.0]]))
    wins = won(np.array([0, 1]), np.array([1, 0]), np.ones(2), 2, weight)
    xi = strengths(wins)[0]
    assert 1 / (1 + np.exp(xi[1] - xi[0])) == pytest.approx(0.909, abs=5e-4)
    assert (xi[0] - xi[1]) * ELO_PER_NAT == pytest.approx(400, abs=0.01)


def test_a_tie_is_half_a_win_each() -> None:
    wins = won(np.array([0]), np.array([1]), np.array([0.5]), 2)
    assert wins.tolist() == [[0.0, 0.5], [0.5, 0.0]]
    np.testing.assert_allclose(strengths(wins), [0.0, 0.0])


def test_strengths_agree_with_choix() -> None:
    rng = np.random.default_rng(0)
    fights = [tuple(int(i) for i in rng.choice(6, 2, replace=False)) for _ in range(300)]
    theirs = choix.ilsr_pairwise(6, fights, alpha=0.0)
    np.testing.assert_allclose(strengths(battles(*fights), l2=0.0), theirs - theirs.mean(), atol=1e-6)


def test_many_weightings_are_solved_at_once() -> None:
    rng = np.random.default_rng(1)
    a = rng.integers(0, 4, 80)
    b = (a + rng.integers(1, 4, 80)) % 4
    share, weight = rng.choice([0.0, 0.5, 1.0], 80), rng.random((5, 80))
    together = strengths(won(a, b, share, 4, weight))
    alone = [strengths(won(a, b, share, 4, w)) for w in weight]
    np.testing.assert_allclose(together, alone, atol=1e-8)


def test_a_member_that_never_lost_stays_finite_and_one_without_battles_is_unknown() -> None:
    xi = strengths(won(np.array([0, 0]), np.array([1, 1]), np.ones(2), 3))
    assert np.isfinite(xi[:2]).all()
    assert xi[0] > xi[1]
    assert np.isnan(xi[2])
