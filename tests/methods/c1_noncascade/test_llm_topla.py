"""LLM-TOPLA by hand: how differently members fail, the best team, slots, whom the network believes, and a fit."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BackendError, BadParameter
from septet.core.method import SeatPool
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.core.types import Query, Verdict
from septet.methods.c1_noncascade.llm_topla import LlmTopla, Team
from septet.parts.answers.diversity import best_team, focal, generalised
from septet.parts.learning.mlp import Mlp
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat

NAMES = ("ada", "bob", "cyd", "dee")
POOL = SeatPool(tuple(map(seat, NAMES)))


def linear(members: tuple[str, ...], trust: tuple[float, ...], slots: int) -> Team:
    """A network without hidden layers: the votes of the members, each with its trust."""
    weights = np.concatenate([t * np.eye(slots) for t in trust]).ravel()
    return Team(
        members, Mlp((len(members) * slots, slots), np.concatenate([weights, np.zeros(slots)])), slots
    )


def asked(said: Any, state: Team, pool: SeatPool = POOL, **parameters: Any) -> tuple[Verdict, list[str]]:
    method = LlmTopla(**{"samples": 1, **parameters})
    verdict, yielded = drive(method.plan(Query.of("?"), pool, state, np.random.default_rng(0)), said)
    return verdict, [ask.to.name for ask in yielded[0]]  # type: ignore[union-attr]


def test_the_diversity_of_three_members_on_four_items_is_that_of_the_dossier() -> None:
    fails = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=bool)
    assert generalised(fails) == pytest.approx(0.4286, abs=5e-5)
    # the second fails on two items, of two and three: 1 − (.5/3 + .5)/(1/3 + .5) = .2; the third on one, with all: 0
    assert focal(fails) == pytest.approx((0.4286 + 0.2 + 0.0) / 3, abs=5e-5)


def test_failing_together_is_no_diversity_and_failing_alone_is_all_of_it() -> None:
    assert generalised(np.ones((5, 3), dtype=bool)) == 0.0
    assert focal(np.eye(3, dtype=bool)) == 1.0
    assert generalised(np.zeros((4, 2), dtype=bool)) == 0.0  # nobody fails
    with pytest.raises(BadParameter, match="two or more"):
        generalised(np.ones((4, 1), dtype=bool))


def test_the_genetic_search_finds_what_trying_all_teams_finds() -> None:
    rng = np.random.default_rng(0)
    worth = rng.random(16)
    gain = rng.random((16, 16)) / 4

    def value(team: Any) -> float:
        return float(worth[list(team)].sum() + sum(gain[i, j] for i, j in combinations(team, 2)))

    best = max(combinations(range(16), 6), key=value)  # 8,008 teams: more than are tried one by one
    found = best_team(16, 6, value, np.random.default_rng(1))
    assert len(set(found)) == 6 and found == tuple(sorted(found))
    assert value(found) >= 0.97 * value(best)
    assert best_team(5, 2, lambda team: 0.0, rng) == (0, 1)  # a tie: the first
    with pytest.raises(BadParameter, match="from 1 to 3"):
        best_team(3, 4, value, rng)


def test_only_the_team_is_asked_and_the_trusted_member_wins_against_two() -> None:
    said = {"ada": "4", "bob": "4", "cyd": "5", "dee": "6"}
    state = linear(("ada", "bob", "cyd"), (1.0, 1.0, 3.0), 4)
    verdict, names = asked(said, state)
    assert names == ["ada", "bob", "cyd"]
    assert verdict.chosen == 2
    assert verdict.confidence == pytest.approx(np.exp(3) / (np.exp(3) + np.exp(2)))
    assert asked(said, linear(("ada", "bob", "cyd"), (1.0, 1.0, 1.0), 4))[0].chosen == 0


def test_a_slot_that_nobody_filled_is_never_chosen() -> None:
    state = linear(("ada", "bob"), (1.0, 1.0), 3)
    state.network.layers()[-1][1][:] = [0, 0, 9]  # it would like the third
    verdict, _ = asked({"ada": "A", "bob": "B"}, state, answers="options")
    assert verdict.chosen == 0
    assert verdict.posterior is not None and verdict.posterior.p == pytest.approx([0.5, 0.5])
    assert asked({"ada": "A", "bob": "C"}, state, answers="options")[0].chosen == 1


def test_answers_are_ranked_by_how_often_they_were_given_whoever_comes_first() -> None:
    state = linear(("ada", "bob", "cyd"), (0.0, 0.0, 0.0), 3)
    state.network.layers()[-1][1][:] = [0, 1, 0]  # it takes the second in rank
    said = {"ada": ["7", "7", "8"], "bob": ["8", "7", "9"], "cyd": ["8", "8", "8"]}
    # 8: 1/3 + 1/3 + 1; 7: 2/3 + 1/3; 9: 1/3
    verdict, _ = asked(said, state, samples=3)
    assert verdict.chosen == 0 and verdict.reason.startswith("'7' has probability")
    turned = SeatPool(POOL.members[::-1])
    assert asked(said, state, turned, samples=3)[0].reason == verdict.reason


def test_who_fails_says_nothing_and_where_no_answer_has_a_slot_the_first_is_taken() -> None:
    state = linear(("ada", "bob"), (1.0, 1.0), 3)
    verdict, _ = asked({"ada": BackendError("down"), "bob": "B"}, state, answers="options")
    assert verdict.chosen == 0 and verdict.reason.startswith(
        "'B' has probability 1.00 among 1 answer of 1 members: bob"
    )
    assert asked({"ada": "", "bob": "perhaps"}, state, answers="options")[0].chosen == 1


def outcomes(n: int, rng: np.random.Generator) -> Table:
    """ada and bob always say the same, right or wrong; cyd is right where they are not; dee guesses."""
    rows = []
    for q in range(n):
        right = "ABCD"[q % 4]
        wrong = "ABCD"[(q + 1) % 4]
        both = right if rng.random() < 0.6 else wrong
        said = {
            "ada": both,
            "bob": both,
            "cyd": right if rng.random() < 0.8 else "ABCD"[(q + 2) % 4],
            "dee": "ABCD"[int(rng.integers(4))],
        }
        rows += [
            {"query_id": str(q), "query": f"{q}?", "model": m, "answer": a, "score": float(a == right)}
            for m, a in said.items()
        ]
    return Table.of(rows)


def test_it_learns_to_believe_the_better_one_against_two_that_always_agree() -> None:
    method = LlmTopla(samples=1, team=3, answers="options", slots=4, diversity=0.0, hidden=16, rate=1e-2)
    state = method.fit(outcomes(600, np.random.default_rng(0)), {}, np.random.default_rng(0))
    assert "cyd" in state.members
    arrays, facts = pack(state)
    again = unpack(Team, arrays, facts)
    assert again.members == state.members and again.network.sizes == (12, 16, 16, 4)
    # where they differ so, cyd was right in .32 and the two in .12 of the questions
    said = {"ada": "A", "bob": "A", "cyd": "D", "dee": "B"}
    assert asked(said, again, answers="options", slots=4)[0].reason.startswith("'D'")


def test_diversity_prefers_those_who_fail_at_different_times() -> None:
    table = outcomes(400, np.random.default_rng(3))
    picked = {
        w: LlmTopla(samples=1, team=2, answers="options", slots=4, diversity=w, hidden=4, epochs=1)
        .fit(table, {}, np.random.default_rng(0))
        .members
        for w in (0.0, 1.0)
    }
    assert picked[1.0] != ("ada", "bob")
    assert "cyd" in picked[0.0]


def test_a_table_on_which_nobody_was_right_is_refused() -> None:
    rows = [{"query_id": "1", "query": "?", "model": m, "answer": "A", "score": 0.0} for m in NAMES]
    with pytest.raises(BadParameter, match="somebody answered rightly"):
        LlmTopla().fit(Table.of(rows), {}, np.random.default_rng(0))


@pytest.mark.parametrize("check", check_method(LlmTopla), ids=str)
def test_llm_topla_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)
