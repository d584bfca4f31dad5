"""Semantic entropy by hand: classes by answers and by entailment, likelihoods, doubt, and what is no sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.errors import ConfigError
from septet.core.method import SeatPool
from septet.core.types import Completion, Query, Tokens, Verdict
from septet.methods.c1_noncascade.semantic_entropy import SemanticEntropy
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat, texts

POOL = SeatPool((seat("ada"),), {"nli": (seat("judge", rate=True),)})
CONTRADICTS, NEUTRAL, ENTAILS = np.eye(3)


def said(text: str, mean: float, **more: Any) -> Completion:
    """An answer whose every token has this log-probability."""
    return Completion(member="ada", text=text, tokens=Tokens((b"a", b"b"), np.full(2, mean)), **more)


def decided(answers: list[Any], judge: Any = None, pool: SeatPool = POOL, **parameters: Any) -> Verdict:
    method = SemanticEntropy(**{"samples": len(answers), **parameters})
    plan = method.plan(Query.of("Capital?"), pool, None, np.random.default_rng(0))
    reply = texts({"ada": answers})
    verdict, _ = drive(plan, lambda ask: judge(ask) if ask.do == "rate" else reply(ask))
    return verdict


@pytest.mark.parametrize(
    ("answers", "entropy"),
    [(["Paris"] * 3 + ["Lyon"] * 2, 0.673), (["Paris", "Lyon", "Paris", "Lyon", "Nice"], 1.055)],
)
def test_the_entropies_of_counts_are_those_of_the_dossier(answers: list[str], entropy: float) -> None:
    verdict = decided(answers, weights="counts", representative="first")
    assert verdict.chosen == 0
    assert verdict.confidence == pytest.approx(1 - entropy / np.log(5), abs=3e-4)
    assert verdict.reason.endswith(f"semantic entropy {entropy:.2f}")


def test_all_alike_is_sure_and_all_different_is_not() -> None:
    assert decided(["Paris"] * 4, weights="counts").confidence == 1.0
    assert decided(["a", "b", "c", "d"], weights="counts").confidence == pytest.approx(0.0)


def test_a_likely_answer_outweighs_two_unlikely_ones_and_the_likeliest_of_a_class_is_given() -> None:
    answers = [
        said("Lyon", np.log(0.1)),
        said("Paris", np.log(0.5)),
        said("paris", np.log(0.6)),
        said("Lyon", np.log(0.3)),
    ]
    verdict = decided(answers)
    # .1 + .3 against .5 + .6, of 1.5
    assert verdict.posterior is not None
    assert verdict.posterior.p == pytest.approx([0.4 / 1.5, 1.1 / 1.5])
    assert verdict.chosen == 2
    assert decided(answers, representative="first").chosen == 1
    assert decided(answers, weights="counts").chosen == 3  # two against two: the class that was seen first


def test_an_answer_of_unknown_likelihood_counts_like_the_mean_of_the_others() -> None:
    verdict = decided([said("Lyon", np.log(0.2)), "Paris", said("Nice", np.log(0.6))])
    assert verdict.posterior is not None
    assert verdict.posterior.p == pytest.approx([0.2 / 1.2, 0.4 / 1.2, 0.6 / 1.2])
    verdict = decided(["Lyon", "Paris", "Paris"])  # nothing is known
    assert verdict.posterior is not None
    assert verdict.posterior.p == pytest.approx([1 / 3, 2 / 3])


def one_way(ask: Any) -> Any:
    """The long text entails the short one, which says nothing about the long one; all else contradicts."""
    premise = ask.args["query"].text
    short, long = "Capital?\nParis", "Capital?\nParis, on the Seine"
    assert premise in (short, long, "Capital?\nLyon")
    rows = []
    for hypothesis in ask.args["texts"]:
        same = hypothesis == premise or (premise, hypothesis) == (long, short)
        rows.append(ENTAILS if same else NEUTRAL if (premise, hypothesis) == (short, long) else CONTRADICTS)
    return np.array(rows)


def test_one_way_entailment_is_one_meaning_by_the_lenient_rule_and_two_by_the_strict_one() -> None:
    answers = ["Lyon", "Paris", "Paris, on the Seine"]
    how: dict[str, Any] = {"relation": "nli", "weights": "counts", "representative": "first"}
    assert decided(answers, one_way, **how).chosen == 1
    verdict = decided(answers, one_way, rule="strict", **how)
    assert verdict.chosen == 0
    assert verdict.confidence == pytest.approx(0.0)


def test_the_classifier_reads_each_distinct_text_once_and_none_where_all_are_equal() -> None:
    asked = []

    def judge(ask: Any) -> Any:
        asked.append(ask)
        return one_way(ask)

    decided(["Paris", "Lyon", "Paris", "Paris"], judge, relation="nli")
    assert [len(ask.args["texts"]) for ask in asked] == [2, 2]
    decided(["Paris", "Paris"], judge, relation="nli")
    assert len(asked) == 2


def test_a_classifier_of_one_column_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="judge rates 1 classes; the role nli needs three"):
        decided(["Paris", "Lyon"], lambda ask: np.ones((len(ask.args["texts"]), 1)), relation="nli")


def test_equal_as_mathematics_is_one_class() -> None:
    answers = ["0.5", r"\boxed{\frac{1}{2}}", "1"]
    assert decided(answers, weights="counts").confidence == pytest.approx(0.0)
    assert decided(answers, relation="math", weights="counts").chosen == 0
    assert "2 of 3 answers are alike" in decided(answers, relation="math", weights="counts").reason


def test_what_was_cut_off_or_is_empty_is_no_sample() -> None:
    verdict = decided([said("Lyon", -0.1, finish="length"), "", "Paris", "Paris", "Nice"], weights="counts")
    assert verdict.chosen == 2
    assert verdict.posterior is not None
    assert verdict.posterior.of == (2, 3, 0, 0, 1)
    assert verdict.posterior.p == pytest.approx([2 / 3, 1 / 3, 0, 0])
    alone = decided(["", "Paris"], weights="counts")
    assert (alone.chosen, alone.confidence) == (1, None)
    assert decided(["", " "]).reason == "no answer is whole, so the first is taken"


def test_the_order_of_samples_changes_nothing_but_ties() -> None:
    answers = [said("Lyon", -0.1), said("Paris", -0.2), said("Paris", -0.3), said("Nice", -2.0)]
    there, back = decided(answers), decided(answers[::-1])
    assert there.confidence == pytest.approx(back.confidence)
    assert (there.chosen, back.chosen) == (1, 2)


@pytest.mark.parametrize("check", check_method(SemanticEntropy), ids=str)
def test_semantic_entropy_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)
