"""Self-certainty by hand: the measure, what is not listed, Borda's votes, whole distributions, and who has no vote."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.errors import BackendError
from septet.core.method import SeatPool
from septet.core.session import Next
from septet.core.types import Completion, Query, Tokens, Verdict
from septet.methods.c1_noncascade.self_certainty import SelfCertainty
from septet.parts.answers.aggregate import borda
from septet.parts.answers.certainty import LEAST, negentropy, self_certainty
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat, texts

POOL = SeatPool((seat("ada"),))


def said(text: str, p: float, member: str = "ada", **more: Any) -> Completion:
    """An answer of one token with this probability; two alternatives share half of the rest."""
    top = ((b"x", np.log(p)), (b"y", np.log((1 - p) / 4)), (b"z", np.log((1 - p) / 4)))
    return Completion(member=member, text=text, tokens=Tokens((b"x",), np.log([p]), (top,)), **more)


def decided(answers: Any, pool: SeatPool = POOL, **parameters: Any) -> Verdict:
    plan = SelfCertainty(**parameters).plan(Query.of("2+2?"), pool, None, np.random.default_rng(0))
    verdict, _ = drive(plan, answers if callable(answers) else {"ada": answers})
    return verdict


def test_votes_by_rank_are_those_of_the_dossier() -> None:
    assert borda(np.array([4.0, 3, 2, 1]), 0.5) == pytest.approx([2, 1.732, 1.414, 1], abs=5e-4)


def test_a_power_of_zero_is_plurality() -> None:
    rng = np.random.default_rng(0)
    assert borda(rng.standard_normal(9), 0.0).tolist() == [1.0] * 9
    answers = [said("5", 0.99), said("4", 0.5), said("4", 0.6)]
    assert decided(answers, samples=3, power=0).chosen == 2  # the more certain of the majority
    assert decided(answers, samples=3, power=50).chosen == 0


def test_votes_do_not_depend_on_the_order_and_equal_scores_share() -> None:
    scores = np.array([0.3, np.nan, 0.9, 0.3, 0.1])
    votes = borda(scores, 1.2)
    assert votes[0] == votes[3] == pytest.approx((3**1.2 + 4**1.2) / 2)
    assert votes[1] == 1.0
    order = [3, 1, 4, 0, 2]
    assert borda(scores[order], 1.2) == pytest.approx(votes[order])


def test_an_even_distribution_has_no_certainty_and_a_sharp_one_has_much() -> None:
    even = np.log(np.full(8, 1 / 8))
    assert self_certainty([even], 8) == pytest.approx(0.0)
    assert negentropy([even], 8) == pytest.approx(0.0)
    # (.5, .25, .25): −(ln 1.5 + 2 ln .75)/3 = .0566; ln 3 − 1.0397 = .0589
    row = np.log([0.5, 0.25, 0.25])
    assert self_certainty([row], 3) == pytest.approx(0.0566, abs=5e-5)
    assert negentropy([row], 3) == pytest.approx(0.0589, abs=5e-5)
    assert self_certainty([row, np.log(np.full(3, 1 / 3))], 3) == pytest.approx(0.0283, abs=5e-5)


def test_what_is_listed_gives_a_lower_bound_that_rises_to_the_whole() -> None:
    rng = np.random.default_rng(1)
    for measure in (self_certainty, negentropy):
        for _ in range(20):
            logp = np.sort(np.log(rng.dirichlet(np.full(30, 3.0))))[::-1]
            bounds = [measure([logp[:k]], 30) for k in range(1, 31)]
            assert bounds[-1] == pytest.approx(measure([logp], 30))
            assert np.all(np.diff(bounds) > -1e-9)


def test_what_seems_to_remain_is_never_less_than_rounding_nor_more_than_the_least_that_is_listed() -> None:
    sure = self_certainty([np.log([1.0])], 3)
    assert sure == pytest.approx(-(2 * np.log(LEAST / 2)) / 3 - np.log(3))
    # .4 and .3 of four: .15 each would remain, but .3 is the most that another may have
    assert self_certainty([np.log([0.2, 0.1])], 4) == pytest.approx(
        -(np.log(0.2) + 3 * np.log(0.1)) / 4 - np.log(4)
    )
    assert np.isnan(self_certainty([], 3))
    masked = np.array([np.log(0.5), -np.inf, np.log(0.5)])
    assert self_certainty([masked], 0) == pytest.approx(0.0)


def test_the_certain_minority_wins_by_rank() -> None:
    answers = [said("4", 0.3), said("4", 0.4), said("4", 0.5), said("5", 0.8), said("5", 0.9)]
    # power 1: 1 + 2 + 3 against 4 + 5
    verdict = decided(answers, samples=5, power=1)
    assert verdict.chosen == 4
    assert verdict.confidence == pytest.approx(9 / 15)
    assert decided(answers, samples=5, power=0).chosen == 2


@pytest.mark.parametrize(("measure", "first"), [("logp", 1), ("negentropy", 1), ("self-certainty", 1)])
def test_each_measure_ranks_the_sharper_answer_first(measure: Any, first: int) -> None:
    assert decided([said("4", 0.5), said("5", 0.9)], samples=2, measure=measure).chosen == first


def test_members_are_ranked_among_themselves() -> None:
    pool = SeatPool((seat("ada"), seat("bob")))
    said_by = {
        "ada": [said("4", 0.95), said("5", 0.90), said("5", 0.85)],
        "bob": [said("6", 0.2, "bob"), said("5", 0.15, "bob"), said("6", 0.1, "bob")],
    }
    plan = SelfCertainty(samples=3, power=1).plan(Query.of("?"), pool, None, np.random.default_rng(0))
    verdict, _ = drive(plan, said_by)
    # ada: 3 for 4, 2 + 1 for 5; bob: 3 + 1 for 6, 2 for 5: 5 has 5 of 12
    assert verdict.chosen == 1
    assert verdict.confidence == pytest.approx(5 / 12)


def test_what_was_cut_off_has_no_rank_and_no_vote_and_unknown_tokens_come_last() -> None:
    cut = said("9", 0.99, finish="length")
    verdict = decided([cut, said("4", 0.5), "5"], samples=3, power=1)
    assert verdict.chosen == 1
    assert verdict.weights is not None and verdict.weights.tolist() == [0.0, 2.0, 1.0]
    assert decided([cut, ""], samples=2).chosen == 0  # nothing better


def full(member: Any, rows: list[list[float]]) -> Any:
    """Replies: the answers of one token each, and for each a look whose first row is the one that judges it."""
    reply, left = texts({"ada": member}), list(rows)
    session = seat("ada", full=True)
    session.session = object()  # type: ignore[assignment]

    def answer(ask: Any) -> Any:
        if ask.do == "open":
            return session
        if ask.do == "look":
            after = np.log(np.full(3, 1 / 3)).astype(np.float32)
            found = [np.log(left.pop(0)).astype(np.float32), after]
            return [
                Next(0, np.arange(3, dtype=np.int32), row, lambda piece, first: None, full=True)
                for row in found
            ]
        return None if ask.do == "close" else reply(ask)

    return answer


def test_whole_distributions_are_read_in_one_session_of_the_member() -> None:
    answers = [said("4", 0.5), said("5", 0.9)]
    method = SelfCertainty(samples=2, rows="full")
    plan = method.plan(Query.of("?"), POOL, None, np.random.default_rng(0))
    verdict, yielded = drive(plan, full(answers, [[0.9, 0.05, 0.05], [0.4, 0.3, 0.3]]))
    assert verdict.chosen == 0  # whatever is listed, the whole distribution of the first is the sharper one
    asked = [ask for items in yielded for ask in items]
    assert [ask.do for ask in asked] == ["complete", "open", "look", "look", "close"]  # type: ignore[union-attr]
    assert asked[2].args["k"] is None  # type: ignore[union-attr]
    assert method.needs().full
    assert not SelfCertainty(rows="full", measure="logp").needs().full


def test_a_member_that_cannot_be_opened_votes_by_counting_and_is_named() -> None:
    reply = texts({"ada": [said("4", 0.5), said("5", 0.9), said("4", 0.1)]})
    verdict = decided(
        lambda ask: BackendError("no room") if ask.do == "open" else reply(ask), samples=3, rows="full"
    )
    assert verdict.chosen == 0
    assert verdict.reason.endswith("ada could not read its answers: no room")


@pytest.mark.parametrize("check", check_method(SelfCertainty), ids=str)
def test_self_certainty_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)


@pytest.mark.parametrize("check", check_method(SelfCertainty, rows="full", samples=2), ids=str)
def test_self_certainty_of_whole_distributions_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)
