"""OW and ISP by hand: log-odds, surprising popularity, accuracies from agreement alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.method import SeatPool
from septet.core.table import Table
from septet.core.types import Completion, Query, Verdict
from septet.methods.c1_noncascade.ow_isp import OwIsp, Votes, advantage
from septet.parts.answers.reliability import accuracies, agreement, effective_votes, log_odds, powers
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat

POOL = SeatPool((seat("ada"), seat("bob"), seat("cyd")))


def decided(said: Any, state: Votes, **parameters: Any) -> Verdict:
    plan = OwIsp(**parameters).plan(Query.of("Which?"), POOL, state, np.random.default_rng(0))
    verdict, _ = drive(plan, said)
    return verdict


def votes(x: list[float], k: int, agree: float = 0.6) -> Votes:
    return Votes(np.array(x), np.full((3, 3), agree), k)


def test_one_good_member_overrules_two_weak_ones_with_two_options_and_with_four() -> None:
    # weights 2.197, .405, .405 and 3.296, 1.504, 1.504
    for k in (2, 4):
        assert decided({"ada": "yes", "bob": "no", "cyd": "no"}, votes([0.9, 0.6, 0.6], k)).chosen == 0


def test_equal_accuracies_are_plurality() -> None:
    verdict = decided({"ada": "yes", "bob": "no", "cyd": "no"}, votes([0.7, 0.7, 0.7], 2))
    assert verdict.chosen == 1
    assert verdict.confidence == pytest.approx(2 / 3)


def test_surprising_popularity_inverted_has_the_advantage_of_the_dossier() -> None:
    agree = np.full((3, 3), 0.6)
    # two options, answers A, A, B: Adv(A) = .2
    assert advantage(np.array([0, 0, 1]), agree, 2) == pytest.approx([0.2, -0.2])
    verdict = decided({"ada": "a", "bob": "a", "cyd": "b"}, votes([0.5] * 3, 2), rule="isp")
    assert verdict.chosen == 0
    assert verdict.posterior is not None
    assert verdict.posterior.p[0] == pytest.approx(np.exp(0.2) / (np.exp(0.2) + np.exp(-0.2)))


def test_accuracies_come_back_from_the_agreement_of_independent_members() -> None:
    rng, k, x = np.random.default_rng(0), 4, np.array([0.9, 0.7, 0.55, 0.8])
    right = rng.random((20_000, 4)) < x
    answers = np.where(right, 0, rng.integers(1, k, (20_000, 4)))
    assert accuracies(agreement(answers), k) == pytest.approx(x, abs=0.02)


def test_agreement_is_unknown_where_two_never_answered_the_same_question() -> None:
    found = agreement(np.array([[0, 0, -1], [1, 0, -1], [-1, 0, 0]]))
    assert found[0, 1] == 0.5
    assert np.isnan(found[0, 2])


def test_what_is_no_vote_counts_for_nothing_and_never_wins() -> None:
    cut = Completion(member="ada", text="the answer is 9", finish="length")
    for rule in ("ow-l", "isp"):
        verdict = decided({"ada": cut, "bob": "", "cyd": "4"}, votes([0.9, 0.9, 0.6], 2), rule=rule)
        assert verdict.chosen == 2
        assert verdict.posterior is not None
        assert verdict.posterior.p.sum() == pytest.approx(1)
        assert verdict.posterior.p[verdict.posterior.of[2]] == pytest.approx(1)
    nobody = decided({"ada": cut, "bob": cut, "cyd": cut}, votes([0.9, 0.9, 0.6], 2))
    assert nobody.chosen == 0


def table(rows: list[tuple[str, str, str]]) -> Table:
    return Table.of([{"query_id": q, "query": q, "model": m, "answer": a} for q, m, a in rows])


def test_the_fit_reads_answers_and_no_scores() -> None:
    rng, right = np.random.default_rng(3), np.array([0.95, 0.75, 0.6])
    rows = [
        (str(q), name, str(0 if rng.random() < x else int(rng.integers(1, 4))))
        for q in range(3000)
        for name, x in zip(POOL.names, right, strict=True)
    ]
    for rule in ("ow-l", "ow-i"):
        state = OwIsp(rule=rule, options=4).fit(table(rows), {}, rng)
        assert state.accuracy.argsort().tolist() == [2, 1, 0]
        assert state.k == 4
    with pytest.raises(BadParameter, match="two members or more"):
        OwIsp().fit(table([("1", "ada", "4"), ("2", "bob", "5"), ("2", "cyd", "")]), {}, rng)


def test_weights_of_known_accuracies_and_votes_of_dependent_members() -> None:
    assert log_odds(np.array([0.25]), 4) == pytest.approx([0.0])  # chance
    assert powers(np.array([0.8, 0.6]), 5) == pytest.approx([0.731, 0.269], abs=5e-4)
    assert effective_votes(9, 0.0) == 9
    assert effective_votes(9, 1.0) == 1


@pytest.mark.parametrize("check", check_method(OwIsp), ids=str)
def test_ow_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)


@pytest.mark.parametrize("check", check_method(OwIsp, rule="isp"), ids=str)
def test_isp_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)
