"""MoRE by hand: agreement of experts, the forest as arrays, what the features say, abstention, and a fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.core.method import SeatPool
from septet.core.state import pack, unpack
from septet.core.table import Table
from septet.core.types import Completion, Query, Tokens, Verdict
from septet.methods.c1_noncascade.more import More, Trusted
from septet.parts.answers.experts import ASKS, Said, agreement, features, width
from septet.parts.answers.forest import Forest, fit_forest
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat

NAMES = ("facts", "hops", "maths")
POOL = SeatPool(tuple(seat(n, text=True, samples=True, logprobs=True, topk=1) for n in NAMES))
SAME = width(3) - 5
"""The feature that says how many of three experts gave the answer."""


def stump(feature: int, threshold: float, low: float, high: float) -> Forest:
    def ints(*values: int) -> Any:
        return np.array(values, dtype=np.int32)

    return Forest(
        ints(0),
        ints(feature, -1, -1),
        np.array([threshold, 0, 0]),
        ints(1, 1, 2),
        ints(2, 1, 2),
        np.array([0.5, low, high]),
    )


def asked(said: Any, forest: Forest, pool: SeatPool = POOL, **parameters: Any) -> Verdict:
    plan = More(**parameters).plan(Query.of("Who?"), pool, Trusted(forest, NAMES), np.random.default_rng(0))
    verdict, _ = drive(plan, said)
    return verdict


def test_agreement_counts_the_same_normalised_answer_as_the_dossier_has_it() -> None:
    assert agreement(["Paris", "Paris", "Lyon", "paris."]).tolist() == [3, 3, 1, 3]


def test_features_are_what_they_say() -> None:
    question = "How many legs has the spider of 1999?"
    rows = features(question, [Said("8", "It has 8 legs", 0.25), Said("eight legs", ""), None])
    assert rows.shape == (3, width(3)) == (3, 25)
    first = rows[0].tolist()
    assert first[:3] == [1, 0, 0]
    assert [ASKS[i] for i, on in enumerate(first[3:12]) if on] == ["how many"]  # and no other how
    assert first[12:14] == [7, 1]  # words without the article, and a number
    assert first[14:20] == [
        0.25,
        1,
        1,
        0,
        4,
        2,
    ]  # p; words, numbers, shared; the text's words, shared: has, legs
    assert first[20:] == [1, 0.5, -1, 0.0, -1]  # alone, of two; unlike the second, and the third said nothing
    assert rows[1, 14:20].tolist() == [-1, 2, 0, 1, -1, -1]  # only its answer is known
    assert features(question, [Said("8", "8")] * 3, agree=False)[0, 20:].tolist() == [-1] * 5


def test_the_arrays_say_what_scikit_learn_s_forest_says() -> None:
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 6))
    y = (x[:, 0] * x[:, 1] + 0.3 * rng.standard_normal(300)) > 0
    ours = fit_forest(x, y, np.random.default_rng(5), trees=20, least=3)
    seed = int(np.random.default_rng(5).integers(2**31 - 1))
    theirs = RandomForestClassifier(20, min_samples_leaf=3, random_state=seed).fit(x.astype(np.float32), y)
    new = rng.standard_normal((200, 6))
    assert ours.p_positive(new) == pytest.approx(
        theirs.predict_proba(new.astype(np.float32))[:, 1], abs=1e-12
    )
    assert 0 < len(ours.roots) < len(ours.feature)


def test_labels_of_one_kind_are_learned_as_such_and_no_row_is_refused() -> None:
    x = np.arange(8.0).reshape(4, 2)
    assert (
        fit_forest(x, np.ones(4, bool), np.random.default_rng(0), trees=3).p_positive(x).tolist() == [1.0] * 4
    )
    assert (
        fit_forest(x, np.zeros(4, bool), np.random.default_rng(0), trees=3).p_positive(x).tolist()
        == [0.0] * 4
    )
    with pytest.raises(BadParameter, match="at least one row"):
        fit_forest(x[:0], np.zeros(0, bool), np.random.default_rng(0))


def test_the_answer_that_is_most_likely_right_is_given_and_not_the_most_frequent_one() -> None:
    said = {"facts": "Lyon", "hops": "Lyon", "maths": "Answer: Paris"}
    lone = stump(SAME, 1.5, 0.8, 0.3)  # distrusts what two say
    verdict = asked(said, lone)
    assert (verdict.chosen, verdict.confidence) == (2, 0.8)
    assert verdict.reason == "maths is right with probability 0.80, the highest of 3"
    assert asked(said, stump(SAME, 1.5, 0.3, 0.8)).chosen == 0


def test_below_the_threshold_nothing_is_answered_and_the_score_is_told() -> None:
    said = {"facts": "Lyon", "hops": "Nice", "maths": "Paris"}
    verdict = asked(said, stump(SAME, 1.5, 0.3, 0.8), abstain_below=0.5)
    assert verdict.abstained and verdict.chosen is None
    assert verdict.reason == "facts is right with probability 0.30, less than 0.50: no answer is trusted"
    assert not asked(said, stump(SAME, 1.5, 0.5, 0.8), abstain_below=0.5).abstained


def test_who_said_nothing_or_was_cut_off_is_no_expert_of_this_question() -> None:
    cut = Completion(member="facts", text="Paris", finish="length")
    verdict = asked({"facts": cut, "hops": "", "maths": "Paris"}, stump(SAME, 1.5, 0.4, 0.9))
    assert (verdict.chosen, verdict.confidence) == (2, 0.4)  # alone: the cut one does not agree with it
    assert asked({"facts": cut, "hops": "", "maths": " "}, stump(0, 0.5, 0, 1)).chosen == 0


def test_a_tie_goes_to_the_answer_of_more_experts_and_then_by_name_in_whatever_order() -> None:
    even = stump(0, 9, 0.5, 0.5)
    assert asked({"facts": "Lyon", "hops": "Paris", "maths": "paris"}, even).chosen == 1
    turned = SeatPool(POOL.members[::-1])
    said = {"facts": "Lyon", "hops": "Paris", "maths": "Nice"}
    assert asked(said, even).chosen == 0
    assert asked(said, even, turned).chosen == 2  # facts again


def test_the_probability_of_an_answer_is_read_where_it_is_wanted() -> None:
    def sure(member: str, p: float) -> Completion:
        return Completion(member=member, text="x", tokens=Tokens((b"x",), np.log([p])))

    said = {n: sure(n, p) for n, p in zip(NAMES, (0.2, 0.9, 0.4), strict=True)}
    by_p = stump(14, 0.5, 0.1, 0.7)
    assert asked(said, by_p, read_logp=True).chosen == 1
    assert asked(said, by_p).chosen == 0  # unknown, −1, for all
    assert More(read_logp=True).needs().logprobs and not More().needs().logprobs


def outcomes(n: int) -> Table:
    """facts is right on questions of who, hops on the others; maths never."""
    rows = []
    for q in range(n):
        who = q % 2 == 0
        question = f"{'Who' if who else 'When'} was it, number {q}?"
        for name in NAMES:
            right = name == ("facts" if who else "hops")
            rows.append(
                {
                    "query_id": str(q),
                    "query": question,
                    "model": name,
                    "answer": f"said by {name}",
                    "score": float(right),
                }
            )
    return Table.of(rows)


def test_it_learns_which_expert_knows_which_kind_of_question_and_the_state_is_plain_arrays() -> None:
    method = More(trees=30)
    state = method.fit(outcomes(80), {}, np.random.default_rng(0))
    arrays, facts = pack(state)
    assert all(a.dtype != object for a in arrays.values())
    again = unpack(Trusted, arrays, facts)
    for question, best in (("Who is it?", "facts"), ("When is it?", "hops")):
        plan = method.plan(Query.of(question), POOL, again, np.random.default_rng(0))
        verdict, _ = drive(plan, {n: f"said by {n}" for n in NAMES})
        assert verdict.chosen == NAMES.index(best)
        assert verdict.confidence is not None and verdict.confidence > 0.8


def test_a_table_without_scores_or_answers_is_refused() -> None:
    rows = [{"query_id": "1", "query": "Who?", "model": n, "answer": "x"} for n in NAMES]
    with pytest.raises(BadParameter, match="answers with their scores"):
        More().fit(Table.of(rows), {}, np.random.default_rng(0))


@pytest.mark.parametrize("check", check_method(More), ids=str)
def test_more_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)
