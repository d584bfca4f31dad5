"""Cascade routing's decision: the paper's cases by hand, the pruning lemma, and identity T6 of the dossier."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.types import Floats
from septet.parts.deferral.supermodels import (
    Believed,
    Best,
    Worth,
    best_set,
    expected_max,
    gaussian_points,
    price_for,
    root,
)

COST = np.array([1.0, 5.0])


def believed(*draws: list[float]) -> Believed:
    """Two members whose qualities are jointly one of these, equally likely."""
    rows = np.array(draws)
    return Believed(rows.mean(axis=0), rows, COST)


BEFORE = believed([0.95, 0.9], [0.25, 0.9])
"""The first member turns out at .95 or at .25, .6 on average; the second is worth .9."""


def values(price: float) -> list[float]:
    return [round(BEFORE.value(s, price), 4) for s in ((0,), (1,), (0, 1))]


# --- the hand check ------------------------------------------------------------------------------------


def test_it_runs_the_cheap_member_because_both_together_are_worth_most() -> None:
    assert values(0.02) == [0.58, 0.80, 0.805]  # ½(.95 + .9) − .12
    assert best_set(BEFORE, [], 0.02) == Best((0, 1), pytest.approx(0.805), 0, 3)


def test_it_stops_after_a_good_answer_and_goes_on_after_a_bad_one() -> None:
    good, bad = believed([0.95, 0.9]), believed([0.25, 0.9])
    assert [good.value(s, 0.02) for s in ((0,), (0, 1))] == pytest.approx([0.93, 0.83])
    assert best_set(good, [0], 0.02).following is None
    assert [bad.value(s, 0.02) for s in ((0,), (0, 1))] == pytest.approx([0.23, 0.78])
    assert best_set(bad, [0], 0.02).following == 1
    realised = (best_set(good, [0], 0.02).value + best_set(bad, [0], 0.02).value) / 2
    routed = best_set(BEFORE, [], 0.02, sets="routing").value
    assert (realised, routed) == (pytest.approx(0.855), pytest.approx(0.80))


def test_at_a_higher_price_it_routes_to_the_second_member_at_once() -> None:
    assert values(0.05) == [0.55, 0.65, 0.625]
    assert best_set(BEFORE, [], 0.05) == Best((1,), pytest.approx(0.65), 1, 3)


def test_the_gaussian_version_has_the_closed_form() -> None:
    points = gaussian_points(2**14, 2, 0)
    low = root(np.diag([0.35**2, 0.0]))
    assert expected_max(np.array([0.6, 0.9]), low, points) == pytest.approx(0.9380, abs=5e-4)
    # 128 points, as the method has them, are within .005
    few = gaussian_points(128, 2, 0)
    assert expected_max(np.array([0.6, 0.9]), low, few) == pytest.approx(0.9380, abs=5e-3)


def test_what_always_moves_together_has_no_gain_from_being_joined() -> None:
    # correlation 1 and the same deviation: the maximum is always the second
    points = gaussian_points(256, 2, 0)
    together = root(np.full((2, 2), 0.04))
    assert expected_max(np.array([0.5, 0.6]), together, points) == pytest.approx(0.6, abs=0.01)
    apart = root(np.diag([0.04, 0.04]))
    assert (
        expected_max(np.array([0.5, 0.6]), apart, points) > 0.66
    )  # .6 + .2·√2·(φ(.354) − .354·Φ(−.354)) = .67


def test_the_root_of_a_covariance_gives_it_back() -> None:
    rng = np.random.default_rng(0)
    for rank in (1, 2, 4):
        half = rng.normal(size=(4, rank))
        low = root(half @ half.T)
        np.testing.assert_allclose(low @ low.T, half @ half.T, atol=1e-9)
        assert np.allclose(low, np.tril(low))


# --- sets ----------------------------------------------------------------------------------------------


def random_belief(rng: np.random.Generator, m: int) -> Believed:
    half = rng.normal(scale=0.2, size=(m, m))
    mean, cost = rng.uniform(0.2, 0.9, m), np.sort(rng.uniform(0.1, 3, m))
    return Believed.of(mean, root(half @ half.T), gaussian_points(64, m, 1), cost, "full")


def by_brute_force(b: Believed, ran: tuple[int, ...], price: float, depth: int) -> float:
    m = len(b.mean)
    every = [
        tuple(sorted((*ran, *more)))
        for k in range(m + 1)
        for more in combinations([i for i in range(m) if i not in ran], k)
        if 0 < len(ran) + k <= max(depth, len(ran))
    ]
    return max(b.value(s, price) for s in every)


def test_pruning_never_loses_the_best_set() -> None:
    rng = np.random.default_rng(0)
    looked_at = {True: 0, False: 0}
    for _ in range(60):
        m, price = 5, float(rng.choice([0.0, 0.01, 0.05, 0.2]))
        b = random_belief(rng, m)
        ran = tuple(sorted(rng.choice(m, int(rng.integers(0, 3)), replace=False).tolist()))
        for prune in (True, False):
            found = best_set(b, ran, price, prune=prune)
            assert found.value == pytest.approx(by_brute_force(b, ran, price, 5), abs=1e-9)
            looked_at[prune] += found.looked_at
    assert looked_at[True] < 0.9 * looked_at[False]


def test_the_cheapest_missing_member_is_run_even_if_members_are_not_sorted_by_cost() -> None:
    b = Believed(np.array([0.5, 0.5]), np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([3.0, 1.0]))
    assert best_set(b, [], 0.01) == Best((0, 1), pytest.approx(0.96), 1, 3)
    in_order = best_set(b, [], 0.01, sets="cascade")
    assert (in_order.members, in_order.following) == ((0, 1), 0)


def test_greedy_looks_one_member_ahead_and_means_know_no_doubt() -> None:
    assert best_set(BEFORE, [], 0.02, ahead="greedy").members == (1,)
    sure = Believed.of(BEFORE.mean, np.eye(2), np.zeros((4, 2)), COST, "means")
    assert best_set(sure, [], 0.02, ahead="means").members == (1,)
    assert sure.value((0, 1), 0.02) == pytest.approx(0.9 - 0.12)


def test_a_member_that_failed_is_in_no_set() -> None:
    draws = np.array([[np.nan, 0.4], [np.nan, 0.6]])
    b = Believed(np.array([np.nan, 0.5]), draws, COST)
    assert best_set(b, [], 0.0).members == (1,)
    with pytest.raises(BadParameter, match="at least one that can be run"):
        best_set(Believed(np.full(2, np.nan), np.full((1, 2), np.nan), COST), [], 0.0)


# --- identity T6 ---------------------------------------------------------------------------------------


def test_with_depth_1_cascade_routing_is_routing() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        b, price = random_belief(rng, 4), float(rng.choice([0.0, 0.03, 0.3]))
        one = best_set(b, [], price, depth=1)
        routed = best_set(b, [], price, sets="routing")
        net = b.draws.mean(axis=0) - price * b.cost
        assert one.members == routed.members == (int(net.argmax()),)
        assert best_set(b, one.members, price, depth=1).following is None
        assert best_set(b, one.members, price, sets="routing").following is None


def test_restricted_to_the_first_members_it_is_the_optimal_cascade() -> None:
    # the paper's rule: of the prefixes that contain what was run, the best one; go on if it is longer
    rng = np.random.default_rng(3)
    for _ in range(50):
        b, price = random_belief(rng, 4), float(rng.choice([0.0, 0.03, 0.3]))
        for done in range(4):
            prefixes = [tuple(range(k)) for k in range(max(done, 1), 5)]
            worth = np.array([b.value(p, price) for p in prefixes])
            longer = len(prefixes[int(worth.argmax())]) > done
            found = best_set(b, range(done), price, sets="cascade")
            assert found.following == (done if longer else None)


def test_a_price_of_0_runs_all_that_is_useful_and_a_huge_one_the_cheapest_member() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        b = random_belief(rng, 4)
        useful, ran = best_set(b, [], 0.0), list[int]()
        while (step := best_set(b, ran, 0.0)).following is not None:
            ran.append(step.following)
        # nobody who is left would add anything
        assert b.value(ran, 0.0) == pytest.approx(useful.value) == b.value(range(4), 0.0)
        assert best_set(b, [], 1e9).members == (int(b.cost.argmin()),)


def test_the_decisions_of_a_whole_table_are_those_of_its_questions() -> None:
    rng = np.random.default_rng(5)
    m, q = 4, 12
    points, cost = gaussian_points(64, m, 0), rng.uniform(0.1, 2, m)
    sets = [s for k in range(m + 1) for s in combinations(range(m), k)]
    mean = {s: rng.uniform(0.2, 0.9, (q, m)) for s in sets}
    low: dict[tuple[int, ...], Floats] = {s: root(np.cov(rng.normal(scale=0.2, size=(m, 9)))) for s in sets}
    for kind in ("cascade-routing", "cascade", "routing"):
        for ahead in ("full", "greedy", "means"):
            worth = Worth.of(mean, low, points, cost, sets=kind, ahead=ahead, depth=3)  # type: ignore[arg-type]
            for price in (0.0, 0.05, 0.4):
                chosen, ran_by = worth.walk(price)
                for i in range(q):
                    ran: list[int] = []
                    while True:
                        key = tuple(sorted(ran))
                        b = Believed.of(mean[key][i], low[key], points, cost, ahead)  # type: ignore[arg-type]
                        step = best_set(b, ran, price, sets=kind, ahead=ahead, depth=3)  # type: ignore[arg-type]
                        if step.following is None:
                            break
                        ran.append(step.following)
                    assert np.flatnonzero(ran_by[i]).tolist() == sorted(ran)
                    assert chosen[i] == max(sorted(ran), key=lambda j: mean[tuple(sorted(ran))][i, j])


# --- the price of a budget -----------------------------------------------------------------------------


def test_two_prices_are_mixed_to_meet_a_budget_between_two_cost_levels() -> None:
    # 5 up to a price of .3, then 2: γ = (B − C_cheap)/(C_exp − C_cheap) = (4 − 2)/3 of the requests pay more
    found = price_for(4.0, lambda price: 5.0 if price < 0.3 else 2.0, start=1.0)
    assert 1 - found.share == pytest.approx(2 / 3)
    assert found.dear < 0.3 <= found.cheap
    assert found.cheap - found.dear < 1e-6
    assert (found.at(0.0), found.at(0.99)) == (found.cheap, found.dear)


def test_a_budget_that_is_never_reached_makes_cost_free() -> None:
    found = price_for(9.0, lambda price: 5.0, start=1.0)
    assert (found.cheap, found.share) == (0.0, 1.0)


def test_a_budget_below_the_cheapest_member_is_refused() -> None:
    with pytest.raises(BadParameter, match="must be at least 2, the least"):
        price_for(1.0, lambda price: 5.0 if price < 0.3 else 2.0, start=1.0)
