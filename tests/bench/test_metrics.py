"""The metrics of routers: every number worked by hand, or printed in a paper."""

from __future__ import annotations

import numpy as np
import pytest

from septet.bench.metrics import (
    arena_score,
    collapse_index,
    entropy,
    gain,
    gap,
    pick_shares,
    regrets,
    score_entropy,
    score_spread,
    task_mean,
    v_b,
    v_r,
)
from septet.core.errors import UnknownName

SCORES = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
USD = np.tile([1.0, 2.0, 9.0], (3, 1))


def choosing(*members: int) -> np.ndarray:
    """(n, 3) weights that ask one member per question."""
    return np.eye(3)[list(members)]


@pytest.mark.parametrize(
    ("accuracy", "usd_per_1k", "board"),
    [(0.6688, 0.15, 66.89), (0.6809, 0.54, 66.66), (0.7396, 10.02, 64.32)],
)
def test_three_rows_of_the_arena_board_reproduce(accuracy: float, usd_per_1k: float, board: float) -> None:
    # the board rounds cost to cents, so its last digit may differ
    assert 100 * arena_score(accuracy, usd_per_1k) == pytest.approx(board, abs=0.015)


def test_the_arena_score_ends_at_200_usd_and_is_1_for_all_right_at_the_cheapest() -> None:
    assert arena_score(0.9, 200) == 0
    assert arena_score(0.9, 300) < 0
    assert arena_score(1.0, 0.0044) == pytest.approx(1)
    # at the cheapest cost C = 1: 1.1·.5 / (.05 + 1)
    assert arena_score(0.5, 0.0044) == pytest.approx(0.55 / 1.05)


@pytest.mark.parametrize("usd", [0.0, -1.0, np.nan])
def test_a_cost_without_a_logarithm_has_no_arena_score(usd: float) -> None:
    assert np.isnan(arena_score(0.9, usd))


def test_each_task_weighs_the_same_in_a_mean_over_tasks() -> None:
    quality = np.array([1.0, 1.0, 1.0, 0.0, np.nan])
    assert task_mean(quality, ["a", "a", "a", "b", "b"]) == 0.5
    assert np.isnan(task_mean(np.array([np.nan]), ["a"]))


def test_gains_are_relative_and_the_gap_is_to_the_oracle() -> None:
    assert gain(0.66, 0.6) == pytest.approx(0.1)
    assert gain(0.54, 0.6) == pytest.approx(-0.1)
    assert gap(0.6, 0.8) == pytest.approx(0.25)
    assert np.isnan([gain(0.5, 0.0), gap(0.5, 0.0), v_b(0.5, 0.0)]).all()


def test_v_r_divides_by_the_reference_model_of_the_benchmark() -> None:
    assert v_r(0.864, "mmlu") == 1.0
    assert v_b(0.6, 0.8) == pytest.approx(0.75)
    with pytest.raises(UnknownName, match="mmlu"):
        v_r(0.5, "mmlv")


def test_no_preference_among_four_is_two_bits() -> None:
    assert score_entropy(np.full((3, 4), 0.7)) == pytest.approx(2)
    assert score_entropy(np.array([[1000.0, 0.0]])) == 0
    # an unknown member takes no part: two equal ones are one bit
    assert score_entropy(np.array([[0.5, 0.5, np.nan], [np.nan, np.nan, np.nan]])) == pytest.approx(1)


def test_entropy_of_the_picks() -> None:
    shares = pick_shares(choosing(0, 0, 1, 2))
    assert shares.tolist() == [0.5, 0.25, 0.25]
    assert entropy(shares) == 1.5
    assert entropy(np.array([[1.0, 0.0], [0.5, 0.5]])).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("members", "index"),
    [
        ((0, 2, 0), 0.0),  # a cheaper best one; only the dearest is best; all equally bad, not the dearest
        ((2, 2, 2), 2 / 3),  # in vain on the first and on the third
        ((1, 1, 1), 2 / 3),  # a best one missed on the first and on the second
    ],
)
def test_the_collapse_index_counts_the_dearest_in_vain_and_missed_best_ones(
    members: tuple[int, ...], index: float
) -> None:
    assert collapse_index(choosing(*members), SCORES, USD) == pytest.approx(index)


def test_the_collapse_index_is_expected_over_weights() -> None:
    assert collapse_index(np.full((3, 3), 1 / 3), SCORES, USD) == pytest.approx(
        1 - (1 / 3 + 1 / 3 + 2 / 3) / 3
    )


def test_without_costs_nobody_is_the_dearest() -> None:
    assert np.isnan(collapse_index(choosing(0, 0, 0), SCORES, np.full((3, 3), np.nan)))


def test_regret_is_what_the_best_member_would_have_added() -> None:
    assert regrets(choosing(0, 0, 0), SCORES).tolist() == [0, 1, 0]


def test_regret_counts_cost_at_its_price() -> None:
    # λ = .05: u = (.95, −.1, .55), (−.05, −.1, .55), (−.05, −.1, −.45)
    found = regrets(choosing(2, 0, 2), SCORES, USD, prefer=0.05)
    assert found.tolist() == pytest.approx([0.4, 0.6, 0.4])


def test_regret_is_unknown_where_the_chosen_score_is() -> None:
    scores = np.array([[np.nan, 1.0], [np.nan, 0.5]])
    assert np.isnan(regrets(np.array([[1.0, 0.0], [0.0, 1.0]]), scores)).tolist() == [True, False]


def test_the_spread_for_two_members_is_that_of_the_probability() -> None:
    p = np.array([0.2, 0.4, 0.9])
    assert score_spread(np.stack([1 - p, p], axis=1)) == pytest.approx(p.std())


def test_what_a_question_adds_to_all_members_does_not_spread() -> None:
    assert score_spread(np.array([[0.1, 0.2], [0.8, 0.9]])) == pytest.approx(0)
    assert np.isnan(score_spread(np.full((2, 2), np.nan)))
