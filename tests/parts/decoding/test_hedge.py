"""Hedge weights and model exit by hand: case K21 of the check list, ties, absent members."""

from __future__ import annotations

import numpy as np
import pytest

from septet.parts.decoding.hedge import hedged, rate, staying, tempered, win_rewards

K21 = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])  # [verifier, candidate]


def test_k21_wins_become_rewards_and_rewards_become_weights() -> None:
    assert K21.sum(axis=0) == pytest.approx([1.1, 1.2, 0.7])
    rewards = win_rewards(K21)  # 2, 3 and 1 wins in the other verifiers' scores, of (3 − 1)²
    np.testing.assert_allclose(rewards, [0.5, 0.75, 0.25])
    grown = np.exp(0.4 * np.array([0.5, 0.75, 0.25]))
    np.testing.assert_allclose(hedged(np.full(3, 1 / 3), rewards, 0.4), grown / grown.sum())


def test_a_draft_that_never_wins_is_rewarded_for_one_win() -> None:
    scores = np.array([[0.1, 0.5, 0.4], [0.1, 0.5, 0.4], [0.1, 0.5, 0.4]])
    np.testing.assert_allclose(win_rewards(scores), [1 / 4, 4 / 4, 2 / 4])


def test_two_members_have_one_win_each_whatever_the_scores() -> None:
    np.testing.assert_array_equal(win_rewards(np.array([[0.9, 0.1], [0.9, 0.1]])), [1.0, 1.0])


def test_an_absent_member_is_neither_rewarded_nor_beaten() -> None:
    scores = np.full((3, 3), np.nan)
    scores[np.ix_([0, 2], [0, 2])] = [[0.7, 0.3], [0.6, 0.4]]
    np.testing.assert_array_equal(win_rewards(scores), [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(win_rewards(np.full((3, 3), np.nan)), [0.0, 0.0, 0.0])


def test_the_learning_rate_falls_with_the_turns() -> None:
    assert rate(1.0, 4, 1) == 0.5
    assert rate(1.0, 4, 5) == pytest.approx(0.1)


def test_large_rewards_do_not_overflow() -> None:
    np.testing.assert_allclose(hedged(np.array([0.5, 0.5]), np.array([5000.0, 0.0]), 1.0), [1.0, 0.0])


def test_a_clear_ranking_sends_the_last_home_and_an_unclear_one_nobody() -> None:
    # softmax (3, 2, 1) = (.665, .245, .090): H = .832, T = .832 / ln 3 = .758, shares .747, .200 and .053
    np.testing.assert_allclose(tempered(np.array([3.0, 2.0, 1.0]), 1.0), [0.747, 0.200, 0.053], atol=5e-4)
    assert staying(np.array([3.0, 2.0, 1.0]), 1.0, 0.5).tolist() == [True, True, False]
    # softmax (.4, .3, .3) is nearly even: T = .999, shares .356, .322, .322
    assert staying(np.array([0.4, 0.3, 0.3]), 1.0, 0.5).all()


def test_two_always_stay_and_so_does_who_is_level_with_the_second() -> None:
    assert staying(np.array([90.0, 1.0]), 1.0, 0.5).all()
    assert staying(np.array([90.0, 1.0, 1.0, 0.5]), 1.0, 0.5).tolist() == [True, True, True, False]


def test_the_higher_the_first_temperature_the_longer_they_stay() -> None:
    assert staying(np.array([3.0, 2.0, 1.0]), 3.0, 0.5).all()  # T = 2.27: .486, .313 and .201, above .167


def test_one_alone_has_all() -> None:
    assert tempered(np.array([2.0]), 1.0).tolist() == [1.0]
    assert staying(np.array([2.0]), 1.0, 0.5).tolist() == [True]
