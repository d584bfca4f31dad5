"""Agent-Forest by hand: votes, BLEU, truncated answers, code that runs, members that fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.caps import Caps
from septet.core.errors import BackendError, NoCandidate
from septet.core.method import Ask, SeatPool
from septet.core.types import Completion, Query, Run, Verdict
from septet.methods.c1_noncascade.agent_forest import AgentForest
from septet.testing.scripted import drive, seat

POOL = SeatPool((seat("ada"), seat("bob"), seat("cyd")), {"executor": (seat("box", run=True),)})
CATS = {"ada": "the cat sat on the mat", "bob": "the cat sat on a mat", "cyd": "a dog ran away"}


def decided(
    answers: Any, pool: SeatPool = POOL, query: Query | None = None, **parameters: Any
) -> tuple[Verdict, Any]:
    plan = AgentForest(**{"samples": 1, **parameters}).plan(
        query or Query.of("How many?"), pool, None, np.random.default_rng(0)
    )
    return drive(plan, answers)


def test_the_most_frequent_final_answer_wins_whatever_the_words() -> None:
    verdict, _ = decided({"ada": "I say 6.", "bob": "So the answer is $5.00.", "cyd": "5"})
    assert verdict.chosen == 1
    assert verdict.posterior is not None
    assert verdict.posterior.classes == ("6", "5")
    np.testing.assert_allclose(verdict.posterior.p, [1 / 3, 2 / 3])
    assert verdict.confidence == pytest.approx(2 / 3)


def test_a_tie_goes_to_the_answer_that_was_seen_first() -> None:
    verdict, _ = decided({"ada": ["7", "5"], "bob": ["5", "7"], "cyd": ["8", "8"]}, samples=2)
    assert verdict.chosen == 0


def test_answers_that_are_equal_as_formulas_are_one_class_where_asked_for() -> None:
    pytest.importorskip("math_verify")
    said = {"ada": r"\boxed{7}", "bob": r"\boxed{\sqrt{12}}", "cyd": r"\boxed{2\sqrt{3}}"}
    assert decided(said)[0].chosen == 0  # three ways of writing, and the first seen wins
    verdict, _ = decided(said, similarity="math")
    assert verdict.chosen == 1
    assert verdict.confidence == pytest.approx(2 / 3)


def test_bleu_chooses_the_middle_sentence_as_sacrebleu_does() -> None:
    verdict, _ = decided(CATS, similarity="bleu")
    # row sums 53.728, 53.728 + 8.117 = 61.845, 9.688
    assert verdict.chosen == 1
    assert verdict.reason == "candidate 2 of 3 is the most like the others: BLEU sum 61.845"
    assert verdict.posterior is not None
    total = 53.728 + 61.845 + 9.688
    np.testing.assert_allclose(
        verdict.posterior.p, [53.728 / total, 61.845 / total, 9.688 / total], atol=1e-5
    )


@pytest.mark.parametrize("similarity", ["exact", "math", "bleu"])
def test_truncated_answers_never_win_against_a_whole_one(similarity: str) -> None:
    cut = Completion(member="x", text="the answer is 9", finish="length")
    verdict, _ = decided({"ada": cut, "bob": cut, "cyd": "the answer is 4"}, similarity=similarity)
    assert verdict.chosen == 2


def test_votes_carry_the_weights_of_their_seats() -> None:
    pool = POOL.only([0, 1, 2], np.array([0.2, 0.2, 0.6]))
    verdict, _ = decided({"ada": "5", "bob": "5", "cyd": "7"}, pool)
    assert verdict.chosen == 2
    assert verdict.confidence == pytest.approx(0.6)


def test_only_code_that_runs_competes() -> None:
    def answers(ask: Ask) -> Any:
        if ask.do == "run":
            return Run(ok=ask.args["code"] == "good()\n")
        code = "good()" if ask.to.name == "cyd" else "bad()"
        return [Completion(member=ask.to.name, text=f"```python\n{code}\n```")]

    verdict, asked = decided(answers, execute=True)
    assert verdict.chosen == 2
    assert [a.args["code"] for a in asked[1]] == ["bad()\n", "bad()\n", "good()\n"]


def test_where_no_code_runs_all_of_it_competes() -> None:
    def answers(ask: Ask) -> Any:
        if ask.do == "run":
            return Run(ok=False)
        return [Completion(member=ask.to.name, text="b" if ask.to.name == "ada" else "c")]

    assert decided(answers, execute=True)[0].chosen == 1


def test_a_failed_member_is_left_out_and_named() -> None:
    verdict, _ = decided({"ada": BackendError("ada is down"), "bob": "4", "cyd": "4"})
    assert verdict.chosen == 0  # of the candidates that came
    assert verdict.reason == "2 of 2 candidates say '4'; failed: ada is down"


def test_if_all_members_fail_every_cause_is_named() -> None:
    down = {name: BackendError(f"{name} is down") for name in CATS}
    with pytest.raises(NoCandidate, match="ada is down; bob is down; cyd is down"):
        decided(down)


def test_all_members_are_asked_at_once_for_all_samples() -> None:
    _, asked = decided(CATS, samples=4)
    assert [(a.to.name, a.args["n"]) for a in asked[0]] == [("ada", 4), ("bob", 4), ("cyd", 4)]
    assert len(asked) == 1


@pytest.mark.parametrize(("said", "asked_at"), [(None, 1.0), (0.2, 0.2), (0.0, 0.0)])
def test_the_query_s_temperature_wins_over_the_method_s(said: float | None, asked_at: float) -> None:
    _, asked = decided(CATS, query=Query.of("How many?", temperature=said))
    assert {a.args["query"].temperature for a in asked[0]} == {asked_at}


def test_it_needs_samples_only_where_it_draws_several() -> None:
    assert AgentForest(samples=1).needs() == Caps(text=True)
    assert AgentForest(samples=2).needs() == Caps(text=True, samples=True)
    assert AgentForest().roles() == {}
    assert AgentForest(execute=True).roles() == {"executor": Caps(run=True)}


def test_the_worst_case_counts_every_sample_and_every_run() -> None:
    worst = AgentForest(samples=3, execute=True).worst(Query.of("?", max_tokens=10), POOL)
    assert {name: (load.calls, load.tokens) for name, load in worst.items()} == {
        "ada": (3, 30), "bob": (3, 30), "cyd": (3, 30), "box": (9, 0),
    }  # fmt: skip
