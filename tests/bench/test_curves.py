"""Hulls, areas and the curves of two members: every number worked by hand, or computed another way."""

from __future__ import annotations

import numpy as np
import pytest

from septet.bench.curves import (
    aiq,
    apgr,
    audc,
    call_curve,
    cost_save,
    cpt,
    hull,
    pareto_distance,
    pareto_front,
    peak,
    qnc,
    zero_router,
)
from septet.core.errors import BadParameter
from septet.core.types import Floats

USD, QUALITY = np.array([0.0, 1.0, 2.0, 4.0]), np.array([0.5, 0.8, 0.82, 0.9])
SHARES, ACCURACY = np.linspace(0, 1, 5), np.array([0.60, 0.75, 0.85, 0.88, 0.90])
PGR = (ACCURACY - 0.6) / 0.3
WITH_NULL = pytest.mark.parametrize("left", ["null", "missing"])


# --- the hull --------------------------------------------------------------------------------------


def test_a_point_under_a_chord_is_not_on_the_hull() -> None:
    found = hull(USD, QUALITY)  # at 2 USD the chord from (1, .8) to (4, .9) has .8333
    assert found.usd.tolist() == [0, 1, 4]
    assert found.quality.tolist() == [0.5, 0.8, 0.9]
    assert found.at(np.array([2.0, 5.0])).tolist() == pytest.approx([0.8 + 0.1 / 3, 0.9])


def test_the_hull_never_falls() -> None:
    found = hull(np.array([3.0, 1.0, 2.0, 2.0]), np.array([0.6, 0.2, 0.7, 0.4]))
    assert (found.usd.tolist(), found.quality.tolist()) == ([1, 2], [0.2, 0.7])


def test_a_hull_does_not_reach_left_of_its_cheapest_point() -> None:
    assert np.isnan(hull(np.array([1.0]), np.array([0.8])).at(0.5))


def test_a_point_of_unknown_cost_is_left_out() -> None:
    found = hull(np.array([np.nan, 1.0, 2.0]), np.array([0.9, 0.2, 0.3]))
    assert found.usd.tolist() == [1, 2]


def test_nothing_known_has_an_empty_hull() -> None:
    found = hull(np.array([np.nan, np.nan]), np.array([0.5, 0.6]))
    assert len(found.usd) == 0
    assert np.isnan(found.at(np.array([1.0]))).all()


def test_the_hull_is_the_best_mixture_of_any_two_points() -> None:
    rng = np.random.default_rng(0)
    usd, quality = rng.random(25), rng.random(25)
    found = hull(usd, quality)
    for c in np.linspace(found.usd[0], 1.0, 41):
        assert found.at(c) == pytest.approx(_best_mixture(usd, quality, c))


def _best_mixture(usd: Floats, quality: Floats, c: float) -> float:
    best = quality[usd <= c].max()
    for i in np.flatnonzero(usd <= c):
        for j in np.flatnonzero(usd > c):
            t = (c - usd[i]) / (usd[j] - usd[i])
            best = max(best, (1 - t) * quality[i] + t * quality[j])
    return float(best)


# --- areas -----------------------------------------------------------------------------------------


@WITH_NULL
def test_aiq_is_the_mean_height_of_the_hull(left: str) -> None:
    # (.65·1 + .85·3) / 4
    assert aiq(USD, QUALITY, 0, 4, left=left) == pytest.approx(0.80)  # type: ignore[arg-type]


def test_the_zero_router_of_two_members_is_the_line_between_them() -> None:
    found = zero_router(np.array([0.0, 4.0]), np.array([0.5, 0.9]))
    assert aiq(found.usd, found.quality, 0, 4) == pytest.approx(0.70)


def test_aiq_of_the_released_code_misses_what_is_left_of_the_cheapest_point() -> None:
    usd, quality = np.array([1.0, 4.0]), np.array([0.8, 0.9])
    assert aiq(usd, quality, 1, 4) == pytest.approx(0.85)
    assert aiq(usd, quality, 0, 4, left="missing") == pytest.approx(2.55 / 4)  # .6375


def test_left_of_the_cheapest_point_one_may_mix_with_answering_nothing() -> None:
    # from (0, 0) to (1, .8): area .4; then .85·3
    assert aiq(np.array([1.0, 4.0]), np.array([0.8, 0.9]), 0, 4) == pytest.approx(2.95 / 4)


def test_a_cheap_point_may_be_under_the_chord_from_answering_nothing() -> None:
    # (1, .1) is under the chord from (0, 0) to (2, .8): mean of a line from 0 to .8
    assert aiq(np.array([1.0, 2.0]), np.array([0.1, 0.8]), 0, 2) == pytest.approx(0.4)


def test_the_curve_is_flat_right_of_its_dearest_point() -> None:
    assert aiq(USD, QUALITY, 4, 10) == pytest.approx(0.9)
    assert aiq(USD, QUALITY, 0, 8) == pytest.approx((3.2 + 4 * 0.9) / 8)


def test_a_range_may_begin_and_end_inside_a_segment() -> None:
    # from .65 at .5 to .8 at 1, then to .8333 at 2: (.725·.5 + .81667·1) / 1.5
    assert aiq(USD, QUALITY, 0.5, 2) == pytest.approx((0.3625 + 0.8 + 0.05 / 3) / 1.5)


def test_areas_of_many_resamples_are_those_of_each() -> None:
    rng = np.random.default_rng(1)
    usd, quality = rng.random((40, 12)), rng.random((40, 12))
    usd[3, 5] = np.nan
    for area in (aiq, audc):
        each = [float(area(u, q, 0.2, 0.9)) for u, q in zip(usd, quality, strict=True)]
        assert area(usd, quality, 0.2, 0.9).tolist() == pytest.approx(each)


def test_an_area_is_unknown_where_no_cost_is_known() -> None:
    nothing = np.full(3, np.nan)
    assert np.isnan([aiq(nothing, np.ones(3), 0, 1), audc(nothing, np.ones(3), 0, 1)]).all()


def test_a_range_without_width_is_refused() -> None:
    with pytest.raises(BadParameter, match="the first below the second"):
        aiq(USD, QUALITY, 2, 2)


def test_the_deferral_curve_is_not_lifted_to_its_hull() -> None:
    # (.65·1 + .81·1 + .86·2) / 4
    assert audc(USD, QUALITY, 0, 4) == pytest.approx(3.18 / 4)


def test_at_one_cost_the_better_point_counts() -> None:
    usd, quality = np.array([0.0, 1.0, 1.0, 2.0]), np.array([0.5, 0.1, 0.7, 0.9])
    assert audc(usd, quality, 0, 2) == pytest.approx((0.6 + 0.8) / 2)


def test_the_deferral_curve_may_fall() -> None:
    # .5 → .9 → .3, flat to 3: .7 + .6 + .3
    assert audc(np.array([0.0, 1.0, 2.0]), np.array([0.5, 0.9, 0.3]), 0, 3) == pytest.approx(1.6 / 3)


# --- quality-neutral cost --------------------------------------------------------------------------


def test_qnc_is_the_cheapest_point_that_is_good_enough() -> None:
    usd, quality = np.array([3.0, 2.0, 1.0]), np.array([0.9, 0.8, 0.6])
    assert qnc(usd, quality, 4.0, 0.8) == 0.5
    assert cost_save(usd, quality, 4.0, 0.8) == 0.5
    assert peak(quality) == 0.9


def test_qnc_is_infinite_where_the_quality_is_never_reached() -> None:
    usd, quality = np.array([1.0, 2.0]), np.array([0.6, 0.7])
    assert qnc(usd, quality, 4.0, 0.8) == np.inf
    assert cost_save(usd, quality, 4.0, 0.8) == -np.inf


def test_qnc_is_unknown_without_costs() -> None:
    assert np.isnan(qnc(np.full(2, np.nan), np.array([0.6, 0.9]), np.nan, 0.8))


def test_qnc_of_resamples_has_its_own_target_in_each() -> None:
    usd, quality = np.array([[1.0, 2.0], [1.0, 2.0]]), np.array([[0.6, 0.8], [0.6, 0.8]])
    assert qnc(usd, quality, np.array([2.0, 4.0]), np.array([0.8, 0.5])).tolist() == [1.0, 0.25]


def test_a_point_as_cheap_and_better_beats_another() -> None:
    usd, quality = np.array([1.0, 1.0, 2.0, 3.0, 1.0]), np.array([0.5, 0.6, 0.6, 0.9, 0.6])
    assert pareto_front(usd, quality).tolist() == [False, True, False, True, True]


def test_pareto_distance_scales_both_axes_to_all_points() -> None:
    usd, quality = np.array([0.0, 10.0, 5.0, 10.0]), np.array([0.0, 1.0, 0.0, 0.5])
    # the front is the first two; (5, 0) is .5 from (0, 0), and (10, .5) is .5 from (10, 1)
    assert pareto_distance(usd[2:], quality[2:], usd, quality) == pytest.approx(0.5)
    assert pareto_distance(usd[:2], quality[:2], usd, quality) == 0.0


def test_pareto_distance_is_unknown_without_costs() -> None:
    nothing = np.full(2, np.nan)
    assert np.isnan(pareto_distance(nothing, np.ones(2), nothing, np.ones(2)))


# --- a weak and a strong member --------------------------------------------------------------------


def test_pgr_apgr_and_cpt_of_the_worked_case() -> None:
    assert PGR.round(4).tolist() == [0, 0.5, 0.8333, 0.9333, 1]
    assert apgr(SHARES, PGR) == pytest.approx(0.6917, abs=5e-5)
    assert cpt(SHARES, PGR, 0.5) == pytest.approx(0.25)
    assert cpt(SHARES, PGR, 0.8) == pytest.approx(0.475)


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_a_random_mixture_recovers_the_gap_in_proportion(level: float) -> None:
    line = np.linspace(0, 1, 11)
    assert apgr(line, line) == pytest.approx(0.5)
    assert cpt(line, line, level) == pytest.approx(level)


def test_cpt_takes_the_first_crossing_of_a_curve_that_falls_again() -> None:
    shares, pgr = np.array([0.0, 0.2, 0.6, 1.0]), np.array([0.0, 0.8, 0.4, 1.0])
    assert cpt(shares, pgr, 0.6) == pytest.approx(0.15)


def test_cpt_is_infinite_where_the_gap_is_never_recovered() -> None:
    assert cpt(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 1.2) == np.inf


def test_the_call_curve_sends_the_highest_scores_to_the_strong_member_first() -> None:
    score = np.array([0.1, 0.9, 0.5, 0.3])
    weak, strong = np.array([1.0, 0.0, 0.0, 1.0]), np.array([1.0, 1.0, 0.0, 0.0])
    found = call_curve(score, weak, strong)
    assert found.shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    # .9 gains one of four, .5 nothing, .3 loses one, .1 nothing
    assert found.quality.tolist() == [0.5, 0.75, 0.75, 0.5, 0.5]


def test_equal_scores_are_sent_in_random_order() -> None:
    weak, strong = np.array([0.0, 1.0, 0.0, 0.0]), np.ones(4)
    found = call_curve(np.full(4, 0.7), weak, strong)
    assert (found.shares.tolist(), found.quality.tolist()) == ([0, 1], [0.25, 1])
    assert apgr(found.shares, found.pgr) == 0.5


def test_a_perfect_score_sends_only_what_the_weak_member_gets_wrong() -> None:
    weak, strong = np.array([1.0, 1.0, 1.0, 0.0]), np.ones(4)
    found = call_curve(1 - weak, weak, strong)
    # a quarter of the calls recovers everything: area 1 − .25/2
    assert apgr(found.shares, found.pgr) == 0.875
    assert cpt(found.shares, found.pgr, 0.8) == pytest.approx(0.2)


def test_pgr_is_unknown_where_the_strong_member_is_not_better() -> None:
    found = call_curve(np.array([0.1, 0.2]), np.ones(2), np.ones(2))
    assert np.isnan(found.pgr).all()
    assert np.isnan(apgr(found.shares, found.pgr))
    assert np.isnan(cpt(found.shares, found.pgr, 0.5))


def test_the_call_curve_of_resamples_is_that_of_the_repeated_questions() -> None:
    rng = np.random.default_rng(3)
    score, weak = rng.integers(0, 6, 20) / 6, rng.integers(0, 2, 20).astype(float)
    strong = np.maximum(weak, rng.integers(0, 2, 20))
    counts = rng.integers(1, 4, (5, 20))
    found = call_curve(score, weak, strong, counts=counts)
    areas = apgr(found.shares, found.pgr)
    for i, row in enumerate(counts):
        alone = call_curve(*(np.repeat(v, row) for v in (score, weak, strong)))
        assert found.quality[i].tolist() == pytest.approx(alone.quality.tolist())
        assert areas[i] == pytest.approx(float(apgr(alone.shares, alone.pgr)))


def test_a_question_with_an_unknown_score_is_left_out_of_the_call_curve() -> None:
    found = call_curve(np.array([0.9, 0.1, 0.5]), np.array([0.0, 0.0, np.nan]), np.array([1.0, 1.0, 1.0]))
    assert (found.shares.tolist(), found.quality.tolist()) == ([0, 0.5, 1], [0, 0.5, 1])


def test_a_call_curve_of_nothing_known_is_refused() -> None:
    with pytest.raises(BadParameter, match="at least one"):
        call_curve(np.array([np.nan]), np.zeros(1), np.ones(1))
