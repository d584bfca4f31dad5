"""A weak and a strong member: the threshold, and how a price of cost moves it."""

from __future__ import annotations

import numpy as np

from septet.parts.routing.two_arms import weak_or_strong

FREE = np.full((3, 2), np.nan)


def of(p: list[float]) -> np.ndarray:
    return np.column_stack([1 - np.array(p), p])


def strong(q: np.ndarray, c: np.ndarray, prefer: float, threshold: float) -> list[bool]:
    return weak_or_strong(q, c, np.full(len(q), prefer), threshold)[:, 1].astype(bool).tolist()


def test_without_a_price_strong_answers_from_the_threshold_on() -> None:
    assert strong(of([0.2, 0.7, 0.9]), FREE, 0.0, 0.7) == [False, True, True]
    assert strong(of([0.2, 0.7, 0.9]), FREE, 0.0, 0.0) == [True, True, True]


def test_a_price_moves_the_threshold_by_half_of_what_strong_costs_more() -> None:
    # 100 per USD times 0.004 more, halved: 0.2 above the threshold of 0.5
    c = np.tile([0.001, 0.005], (3, 1))
    assert strong(of([0.6, 0.69, 0.71]), c, 100.0, 0.5) == [False, False, True]


def test_an_infinite_price_asks_for_the_cheaper_one() -> None:
    assert strong(of([1.0, 1.0]), np.array([[1.0, 2.0], [2.0, 1.0]]), np.inf, 0.0) == [False, True]


def test_an_unknown_chance_asks_for_the_strong_member() -> None:
    assert strong(np.full((1, 2), np.nan), FREE[:1], 0.0, 0.9) == [True]


def test_a_chance_that_is_exactly_the_threshold_is_enough() -> None:
    p = np.random.default_rng(0).random(1000)
    for i in range(0, 1000, 100):
        assert strong(of([p[i]]), FREE[:1], 0.0, p[i]) == [True]


def test_with_a_price_a_member_of_unknown_cost_is_not_asked() -> None:
    c = np.array([[0.001, np.nan], [np.nan, 0.005]])
    assert strong(of([0.9, 0.1]), c, 100.0, 0.5) == [False, True]
    assert strong(of([0.9, 0.1]), c, 0.0, 0.5) == [True, False]
