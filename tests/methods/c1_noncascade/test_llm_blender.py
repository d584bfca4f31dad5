"""LLM-Blender by hand: what is compared, in which order answers come, who is fused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BadParameter, ConfigError
from septet.core.method import Ask, SeatPool
from septet.core.table import Table
from septet.core.types import Completion, Query
from septet.methods.c1_noncascade.llm_blender import LlmBlender
from septet.parts.answers.pair_ranker import LinearRanker, Pairs
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat
from septet.testing.toys import toy_table

MEMBERS = (seat("ada"), seat("bob"), seat("cyd"))
SAID = {"ada": "one", "bob": "two", "cyd": "three"}
LOGITS = {("one", "two"): 2, ("one", "three"): -1, ("two", "one"): -2,
          ("two", "three"): 1, ("three", "one"): 3, ("three", "two"): -1}  # fmt: skip
"""The dossier's matrix: the third is best, then the first, then the second."""


def compared(text: str) -> float:
    """What an encoder with the dossier's matrix says about a pair."""
    first, second = re.findall(r"\[[12]\] (\w+)", text)
    return float(LOGITS[first, second])


def script(ask: Ask) -> Any:
    if ask.do == "rate":
        return np.array([[compared(t)] for t in ask.args["texts"]])
    return [Completion(member=ask.to.name, text=SAID.get(ask.to.name, "three, or one"))]


def run(**parameters: Any) -> Any:
    blender = LlmBlender(ranker="encoder", **parameters)
    pool = SeatPool(MEMBERS, {"encoder": (seat("mini"),), "fuser": (seat("eve"),)})
    return drive(
        blender.plan(Query.of("How many?"), pool, LinearRanker.unused(), np.random.default_rng(0)), script
    )


def test_the_dossiers_logits_put_the_third_answer_first() -> None:
    verdict, yielded = run(fuse=0)
    assert verdict.chosen == 2
    assert verdict.reason == "cyd's answer is the best of 3 by max-logits: 2.00"
    assert len(yielded[1][0].args["texts"]) == 6  # all ordered pairs in one call


def test_in_the_dossiers_cycle_every_answer_wins_as_often_so_the_tie_policy_decides() -> None:
    assert run(fuse=0, aggregate="max-wins", tie="first")[0].chosen == 0


def test_bubble_compares_with_who_stands_so_far_and_asks_for_no_other_pair() -> None:
    # two against one: −2 − 2 < 0, one stays; three against one: 3 + 1 > 0, three takes the place
    verdict, yielded = run(fuse=0, aggregate="bubble")
    assert verdict.chosen == 2
    assert [len(items[0].args["texts"]) for items in yielded[1:]] == [2, 2]


def test_the_fuser_reads_the_best_two_in_their_order_and_its_answer_is_streamed() -> None:
    verdict, yielded = run(fuse=2)
    (last,) = yielded[-1]
    text = last.args["query"].text
    assert (last.to.name, last.final) == ("eve", True)
    assert text.index("\nthree\n") < text.index("\none\n")
    assert "\ntwo\n" not in text
    assert verdict.reason == "eve wrote from the 2 best of 3 answers: cyd, ada"


def test_a_judge_that_prefers_the_first_place_decides_nothing_by_it() -> None:
    # +2 levels for whoever is first, and 1 more for "two": the preference cancels out
    def judge(ask: Ask) -> Any:
        if ask.purpose != "judgement":
            return script(ask)
        shown = re.findall(r"\n(one|two|three)\n", ask.args["query"].text)
        levels = [1 + (place == 0) * 2 + (text == "two") for place, text in enumerate(shown)]
        return [Completion(member="eve", text=f'{{"1": {levels[0]}, "2": {levels[1]}}}')]

    pool = SeatPool(MEMBERS, {"judge": (seat("eve"),)})
    blender = LlmBlender(ranker="judge", fuse=0)
    plan = blender.plan(Query.of("How many?"), pool, blender.begin(pool.names), np.random.default_rng(0))
    verdict, yielded = drive(plan, judge)
    assert verdict.chosen == 1
    assert len(yielded[1]) == 6


def test_bubble_with_a_fuser_is_refused() -> None:
    with pytest.raises(BadParameter, match="one pass finds the best answer only"):
        LlmBlender(aggregate="bubble")


def test_pairs_are_answers_of_one_question_whose_scores_differ() -> None:
    rows = [
        {"query_id": q, "query": q, "model": m, "response": m, "score": s}
        for q, scores in (("p", (1, 0, 0)), ("q", (1, 1, 1)))
        for m, s in zip("abc", scores, strict=True)
    ]
    pairs = Pairs.of(Table.of(rows), 10, np.random.default_rng(0))
    said = {
        frozenset((pairs.answers[i], pairs.answers[j]))
        for i, j in zip(pairs.first, pairs.second, strict=True)
    }
    assert said == {frozenset("ab"), frozenset("ac")}
    winners = [
        pairs.answers[i if w else j]
        for i, j, w in zip(pairs.first, pairs.second, pairs.first_wins, strict=True)
    ]
    assert winners == ["a", "a"]


def test_a_table_without_a_difference_is_refused() -> None:
    rows = [{"query_id": "p", "query": "p", "model": m, "response": m, "score": 1} for m in "ab"]
    with pytest.raises(BadParameter, match="whose scores differ"):
        LlmBlender(fuse=0).fit(Table.of(rows), {}, np.random.default_rng(0))


def test_a_judge_learns_nothing() -> None:
    with pytest.raises(ConfigError, match="learns nothing"):
        LlmBlender(ranker="judge").fit(toy_table(), {}, np.random.default_rng(0))


@pytest.mark.parametrize("check", check_method(LlmBlender), ids=str)
def test_contract(check: Any, tmp_path: Path) -> None:
    check(tmp_path)
