"""Eagle: global and local ratings by hand, online updates, and the budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.method import Choice
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.core.types import Battle
from septet.methods.a2_nonpretrained.eagle import Eagle
from septet.parts.learning.features import Featurizer
from septet.parts.learning.rows import Rows
from septet.parts.learning.tfidf import TfIdf
from septet.parts.routing.cost import Spending
from septet.parts.routing.elo import Board, Ratings
from septet.testing.toys import toy_table

RNG = np.random.default_rng(0)
FREE = Spending(*(np.full(2, np.nan) for _ in range(4)))


def board(*wins_of_b: bool) -> Board:
    """Global ratings 1516 and 1484; near the query (the first axis), these local battles."""
    n = len(wins_of_b)
    zeros = np.zeros(n, dtype=np.int32)
    outcome = np.array([0.0 if won else 1.0 for won in wins_of_b])
    return Board(
        Featurizer("tf-idf", TfIdf(np.ones(2)), *[np.empty(0)] * 3, ()),
        FREE,
        0.0,
        ("a", "b"),
        Ratings(np.array([1516.0, 1484.0]), np.array([1516.0, 1484.0]), 1),
        Rows.of(np.array([[1.0, 0.0]])),
        zeros,
        zeros,
        zeros + 1,
        outcome,
    )


NEAR = np.array([[1.0, 0.0]])


def test_one_local_win_of_the_weaker_member_does_not_flip_the_choice() -> None:
    # local 1498.53 / 1501.47, mixed half and half with 1516 / 1484
    scores = Eagle().scores(NEAR, board(True))
    assert scores.round(2).tolist() == [[1507.27, 1492.73]]


def test_two_local_wins_flip_it() -> None:
    # local 1482.67 / 1517.33
    scores = Eagle().scores(NEAR, board(True, True))
    assert scores.round(2).tolist() == [[1499.33, 1500.67]]
    assert Eagle().utility(NEAR, board(True, True)).argmax() == 1


def test_only_global_ratings_give_every_query_the_same_scores() -> None:
    x = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert Eagle(p=1.0).scores(x, board(True, True)).tolist() == [[1516.0, 1484.0]] * 2


def test_without_neighbours_local_is_global() -> None:
    assert Eagle(n=0, p=0.0).scores(NEAR, board(True, True)).tolist() == [[1516.0, 1484.0]]


def test_another_start_rating_shifts_all_scores_equally() -> None:
    start = board(True)
    higher = start.ratings.mean + 500
    shifted = replace(start, ratings=Ratings(higher, higher, 1))
    np.testing.assert_allclose(Eagle().scores(NEAR, shifted), Eagle().scores(NEAR, board(True)) + 500)
    np.testing.assert_allclose(Eagle().utility(NEAR, shifted), Eagle().utility(NEAR, board(True)))


def test_only_the_nearest_questions_are_replayed() -> None:
    far = Eagle(n=1).update(board(True, True), [Battle("nothing alike", "a", "b", "a")] * 5, RNG)
    local = Eagle(n=1, p=0.0).scores(NEAR, far) - far.ratings.mean
    assert local[0, 1] > 0  # the two wins of b; the five of a are not near


def test_the_fit_replays_the_battles_of_the_table() -> None:
    # one question: a beats b. 1516 and 1484
    rows = [{"query": "q", "model": m, "score": s} for m, s in (("a", 1.0), ("b", 0.0))]
    fitted = Eagle().fit(Table.of(rows), {}, RNG)
    assert fitted.ratings.last.tolist() == [1516.0, 1484.0]
    assert (fitted.a.tolist(), fitted.b.tolist(), fitted.outcome.tolist()) == ([0], [1], [1.0])


def test_the_global_rating_is_the_mean_over_time_or_the_last() -> None:
    # 1516 after one win, 1530.53 after two: on average 1523.27
    rows = [{"query": f"q{i}", "model": m, "score": s} for i in (1, 2) for m, s in (("a", 1.0), ("b", 0.0))]
    fitted = Eagle().fit(Table.of(rows), {}, RNG)
    assert Eagle().overall(fitted).round(2).tolist() == [1523.27, 1476.73]
    assert Eagle(rating="last").overall(fitted).round(2).tolist() == [1530.53, 1469.47]


def test_a_tie_teaches_a_half() -> None:
    rows = [{"query": "q", "model": m, "score": 1.0} for m in ("a", "b")]
    fitted = Eagle().fit(Table.of(rows), {}, RNG)
    assert (fitted.ratings.last.tolist(), fitted.outcome.tolist()) == ([1500.0, 1500.0], [0.5])


def test_an_update_equals_a_fit_on_all_battles_and_leaves_the_old_board_alone() -> None:
    table = toy_table(30)
    early = np.arange(30) < 20
    first = Eagle().fit(table.of_queries(early), {}, RNG)
    ratings = first.ratings.last.copy()
    later = Eagle().update(first, table.of_queries(~early).battles(), RNG)
    np.testing.assert_allclose(later.ratings.last, Eagle().fit(table, {}, RNG).ratings.last)
    np.testing.assert_allclose(later.ratings.mean, Eagle().fit(table, {}, RNG).ratings.mean)
    np.testing.assert_array_equal(first.ratings.last, ratings)
    assert (len(first.rows), len(later.rows), len(later.outcome)) == (20, 30, 90)


def test_the_order_of_members_changes_no_rating() -> None:
    table = toy_table(30)
    straight = Eagle().fit(table, {}, RNG)
    turned = Eagle().fit(table.of_members(("cyd", "bob", "ada")), {}, RNG)
    np.testing.assert_allclose(turned.ratings.last, straight.ratings.last[::-1])
    np.testing.assert_allclose(turned.ratings.mean, straight.ratings.mean[::-1])


def test_a_board_without_battles_rates_everybody_alike() -> None:
    alone = [{"query": q, "model": m, "score": 1.0} for q, m in (("q", "a"), ("r", "b"))]
    empty = Eagle().fit(Table.of(alone), {}, RNG)
    assert Eagle().utility(empty.featurizer.rows(["q"]), empty).tolist() == [[0.5, 0.5]]


def test_a_winner_who_did_not_fight_is_refused() -> None:
    with pytest.raises(BadParameter, match="'a', 'b' or 'tie'"):
        Eagle().update(board(), [Battle("q", "a", "b", "c")], RNG)


def choice(budget: float | None, c: list[float]) -> Choice:
    q = np.array([[0.9, 0.6, 0.3]])
    return Eagle(budget_usd=budget).choose(q, np.array([c]), np.zeros(1), None, RNG)


def test_the_best_member_within_the_budget_is_chosen() -> None:
    assert choice(None, [9.0, 2.0, 1.0]).weights.argmax() == 0
    assert choice(2.0, [9.0, 2.0, 1.0]).weights.argmax() == 1


def test_where_nothing_fits_the_budget_the_cheapest_is_chosen() -> None:
    assert choice(0.5, [9.0, 2.0, 1.0]).weights.argmax() == 2


def test_a_member_of_unknown_cost_fits_no_budget() -> None:
    assert choice(2.0, [np.nan, 2.0, 1.0]).weights.argmax() == 1


def test_the_budget_is_in_the_reason() -> None:
    said = Eagle(budget_usd=2.0).reason(np.array([0.9, 0.6]), np.array([9.0, 2.0]), 0.0, ("a", "b"))
    assert said == "expected share of wins: a 0.9, b 0.6; expected to cost at most $2: b"


def test_the_state_survives_saving() -> None:
    fitted = Eagle().fit(toy_table(12), {}, RNG)
    again = unpack(Board, *pack(fitted))
    x = fitted.featurizer.rows(["Is 8 plus two even or odd?"]).dense()
    np.testing.assert_array_equal(Eagle().utility(x, again), Eagle().utility(x, fitted))
    assert again.members == ("ada", "bob", "cyd")
