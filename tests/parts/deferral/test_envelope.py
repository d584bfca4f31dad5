"""Curves of pairs: the dossier's case, the hull, and the envelope over pairs at one price."""

from __future__ import annotations

import numpy as np
import pytest

from septet.parts.deferral.envelope import Curve, best_pair, envelope, shadow_price, sweep, upper_hull

CONFIDENCE = np.array([0.9, 0.8, 0.4, 0.2])
QUALITY = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
COSTS = np.array([[1.0, 10.0]] * 4)


def test_handing_on_the_least_confident_gives_the_curve_worked_by_hand() -> None:
    curve = sweep(0, 1, CONFIDENCE, QUALITY, COSTS, keep_hull=False)
    points = list(zip(curve.quality.tolist(), curve.cost.tolist(), strict=True))
    assert points == [(0.5, 1.0), (0.75, 3.5), (1.0, 6.0), (0.75, 8.5), (0.75, 11.0)]
    assert curve.threshold.tolist() == [-np.inf, 0.4, 0.8, 0.9, np.inf]


def test_a_perfect_router_saves_what_the_first_answer_costs_where_it_is_thrown_away() -> None:
    # two questions to each: (1 + 1 + 10 + 10)/4 = 5.5 for quality 1; the cascade pays 6
    routed = np.where(QUALITY[:, 0] == 1, COSTS[:, 0], COSTS[:, 1]).mean()
    curve = sweep(0, 1, CONFIDENCE, QUALITY, COSTS)
    best, _ = curve.best(0.0)
    assert (curve.quality[best], curve.cost[best], routed) == (1.0, 6.0, 5.5)


def test_what_is_dearer_and_no_better_is_not_on_the_hull() -> None:
    curve = sweep(0, 1, CONFIDENCE, QUALITY, COSTS)
    assert curve.threshold.tolist() == [-np.inf, 0.4, 0.8]
    # .25 for 2.5 everywhere: one price
    assert shadow_price(curve).tolist() == pytest.approx([0.1, 0.1])


def test_the_price_picks_the_point_whose_gain_is_worth_its_cost() -> None:
    curve = sweep(0, 1, CONFIDENCE, QUALITY, COSTS)
    assert curve.threshold[curve.best(0.09)[0]] == 0.8  # at less than .1 every step pays
    assert curve.threshold[curve.best(0.11)[0]] == -np.inf  # at more none does


def test_equal_confidences_are_handed_on_together() -> None:
    curve = sweep(0, 1, np.full(4, 0.5), QUALITY, COSTS, keep_hull=False)
    assert curve.threshold.tolist() == [-np.inf, np.inf]
    assert curve.cost.tolist() == [1.0, 11.0]


def test_the_threshold_of_a_point_reaches_it() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.integers(0, 5, 40) / 4
    quality, cost = rng.uniform(size=(40, 2)), rng.uniform(1, 2, (40, 2))
    curve = sweep(0, 1, confidence, quality, cost, keep_hull=False)
    for threshold, q, c in zip(curve.threshold, curve.quality, curve.cost, strict=True):
        on = confidence < threshold
        assert np.where(on, quality[:, 1], quality[:, 0]).mean() == pytest.approx(q)
        assert (cost[:, 0] + on * cost[:, 1]).mean() == pytest.approx(c)


def test_a_point_below_the_line_between_its_neighbours_is_left_out() -> None:
    assert upper_hull(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.3, 0.8, 0.7])).tolist() == [0, 2]


def test_the_envelope_takes_each_stretch_from_the_pair_that_is_best_there() -> None:
    a = Curve(0, 1, np.array([-np.inf, 0.5]), np.array([0.5, 0.7]), np.array([1.0, 2.0]))
    b = Curve(0, 2, np.array([-np.inf, 0.6]), np.array([0.5, 0.9]), np.array([1.0, 4.0]))
    c = Curve(1, 2, np.array([-np.inf, 0.6]), np.array([0.55, 0.8]), np.array([1.5, 5.0]))
    # from (1, .5): to (2, .7) .2 per unit, then to (4, .9) .1 per unit; b's (4, .9) alone has .133
    assert [(p.first, p.second, p.cost) for p in envelope([a, b, c])] == [
        (0, 1, 1.0),
        (0, 1, 2.0),
        (0, 2, 4.0),
    ]
    assert [best_pair([a, b, c], price).cost for price in (0.05, 0.15, 0.25)] == [4.0, 2.0, 1.0]


def test_the_best_pair_at_a_price_is_on_the_envelope() -> None:
    rng = np.random.default_rng(1)
    quality, cost = rng.integers(0, 2, (50, 4)).astype(float), rng.uniform(1, 2, (50, 4)) * [1, 2, 4, 8]
    confidence = rng.uniform(size=(50, 4))
    pairs = [
        sweep(i, j, confidence[:, i], quality[:, [i, j]], cost[:, [i, j]])
        for i in range(4)
        for j in range(4)
        if i != j
    ]
    frontier = [(p.quality, p.cost) for p in envelope(pairs)]
    for price in (0.0, 0.01, 0.05, 0.2):
        best = best_pair(pairs, price)
        net = max(q - price * c for q, c in frontier)
        assert best.quality - price * best.cost == pytest.approx(net)
