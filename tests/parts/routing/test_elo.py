"""Elo, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from septet.parts.routing.elo import Ratings, expected, replay

EVEN = np.array([1500.0, 1500.0])


def test_one_win_between_equals_moves_half_the_step() -> None:
    assert replay(EVEN, [(0, 1, 1.0)], 32).tolist() == [1516.0, 1484.0]


def test_a_second_win_moves_less() -> None:
    assert replay(EVEN, [(0, 1, 1.0), (0, 1, 1.0)], 32).round(2).tolist() == [1530.53, 1469.47]


def test_a_draw_brings_unequals_together() -> None:
    assert replay(np.array([1516.0, 1484.0]), [(0, 1, 0.5)], 32).round(2).tolist() == [1514.53, 1485.47]


def test_the_order_of_battles_matters() -> None:
    won_then_lost = replay(EVEN, [(0, 1, 1.0), (0, 1, 0.0)], 32)
    assert won_then_lost[0] == pytest.approx(1500 - 32 * expected(1516.0, 1484.0) + 16)
    assert won_then_lost[0] < 1500


def test_the_sum_of_ratings_never_changes() -> None:
    rng = np.random.default_rng(0)
    battles = [(0, 1, 1.0), (1, 2, 0.5), (2, 0, 0.0)] * 20
    assert replay(rng.normal(1500, 100, 3), battles, 32).sum() == pytest.approx(
        np.random.default_rng(0).normal(1500, 100, 3).sum()
    )


def test_four_hundred_points_are_ten_to_one() -> None:
    assert expected(1900.0, 1500.0) == pytest.approx(10 / 11)


def test_the_mean_over_time_counts_every_battle_of_both_and_of_others() -> None:
    # a beats b, then c beats b; a keeps 1516 through the second battle, c had 1500 after the first
    seen = Ratings.start(3).after([(0, 1, 1.0), (2, 1, 1.0)], 32)
    won = 32 * (1 - expected(1500.0, 1484.0))
    assert seen.mean == pytest.approx([1516.0, (1484 + 1484 - won) / 2, (1500 + 1500 + won) / 2])


def test_ratings_in_two_parts_are_those_in_one() -> None:
    battles = [(0, 1, 1.0), (1, 2, 0.5), (2, 0, 0.0), (0, 1, 0.0)]
    whole, parts = Ratings.start(3).after(battles, 32), Ratings.start(3)
    for battle in battles:
        parts = parts.after([battle], 32)
    assert parts.mean == pytest.approx(whole.mean)
    assert parts.last == pytest.approx(whole.last)
    assert parts.n == whole.n == 4
    assert whole.after([], 32) is whole
