"""MBR by hand: utilities of words, of embeddings and of entailment, ties, weights and what does not compete."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.errors import ConfigError
from septet.core.method import SeatPool
from septet.core.types import Completion, Query, Verdict
from septet.methods.c1_noncascade.mbr import Mbr
from septet.parts.answers.relations import classes, equivalent
from septet.parts.answers.similarity import mean_of_others, similarity
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat, texts

ROLES = {"embedder": (seat("box", embed=True),), "nli": (seat("judge", rate=True),)}
POOL = SeatPool((seat("ada"), seat("bob"), seat("cyd")), ROLES)
CATS = {"ada": "the cat sat on the mat", "bob": "the cat sat on a mat", "cyd": "a dog ran away"}


def decided(said: Any, pool: SeatPool = POOL, seed: int = 0, **parameters: Any) -> Verdict:
    plan = Mbr(**{"samples": 1, **parameters}).plan(Query.of("?"), pool, None, np.random.default_rng(seed))
    verdict, _ = drive(plan, said)
    return verdict


def test_bleu_takes_the_middle_sentence_of_the_dossier() -> None:
    # row sums 53.728, 61.845, 9.688, over two others each
    verdict = decided(CATS, utility="bleu")
    assert verdict.chosen == 1
    assert verdict.reason.endswith("mean bleu 0.31")


@pytest.mark.parametrize("utility", ["token-f1", "chrf", "rouge-l"])
def test_measures_of_words_are_one_for_equal_texts_and_prefer_the_pair(utility: Any) -> None:
    s = similarity(utility, ["a blue sky", "a blue sky", "green grass"])
    assert s[0, 1] == pytest.approx(1.0)
    assert s[0, 2] < 0.5
    assert (
        decided({"ada": "green grass", "bob": "a blue sky", "cyd": "a blue sky"}, utility=utility).chosen == 1
    )


def test_token_f1_is_squad_s_and_rouge_l_is_that_of_the_longest_common_subsequence() -> None:
    # words without articles: cat sat mat | cat mat; 2·2/(3+2)
    assert similarity("token-f1", ["the cat sat, mat", "a cat mat"])[0, 1] == pytest.approx(0.8)
    # a b c d | a c d e: longest common subsequence a c d; 2·3/(4+4)
    assert similarity("rouge-l", ["a b c d", "a c d e"])[0, 1] == pytest.approx(0.75)


def test_chrf_and_bleu_are_those_of_sacrebleu() -> None:
    from sacrebleu.metrics import BLEU, CHRF

    pair = list(CATS.values())[:2]
    chrf, bleu = CHRF(), BLEU(effective_order=True, lowercase=True)
    assert similarity("chrf", pair)[0, 1] == pytest.approx(chrf.sentence_score(*_args(pair)).score / 100)
    assert similarity("bleu", pair)[0, 1] == pytest.approx(
        bleu.sentence_score(*_args(pair)).score / 100, abs=1e-6
    )


def _args(pair: list[str]) -> tuple[str, list[str]]:
    return pair[0], [pair[1]]


def test_a_member_that_weighs_more_draws_the_choice_to_what_is_like_it() -> None:
    heavy = SeatPool((*POOL.members[:2], POOL.members[2].weighing(9.0)), ROLES)
    said = {"ada": "red fox", "bob": "red dog", "cyd": "blue dog"}
    # mean F1, weights 1, 1, 9: ada .05, bob .5, cyd .25
    verdict = decided(said, heavy)
    assert verdict.chosen == 1
    s = similarity("token-f1", list(said.values()))
    assert mean_of_others(s, np.array([1, 1, 9.0])) == pytest.approx([0.05, 0.5, 0.25])


def test_ties_go_where_the_policy_says() -> None:
    said = {"ada": "yes yes", "bob": "yes yes", "cyd": "no"}
    assert decided(said).chosen == 0
    drawn = {decided(said, seed=i, tie="random").chosen for i in range(20)}
    assert drawn == {0, 1}
    assert decided({"ada": "a x", "bob": "a x!", "cyd": "z"}, tie="longest").chosen == 1
    assert decided({"ada": "a x!", "bob": "a x", "cyd": "z"}, tie="shortest").chosen == 1


def test_what_was_cut_off_is_no_hypothesis_and_no_reference() -> None:
    cut = Completion(member="ada", text="a long long answer", finish="length")
    assert decided({"ada": cut, "bob": "a short answer", "cyd": "short"}).chosen == 1
    assert decided({"ada": cut, "bob": "", "cyd": "whole"}).reason == "one answer is whole, so it is taken"


def test_cosine_asks_the_embedder_once_and_nli_once_per_candidate() -> None:
    reply, asked = texts({"ada": "x", "bob": "y", "cyd": "z"}), []

    def answer(ask: Any) -> Any:
        asked.append(ask.do)
        if ask.do == "embed":
            return np.array([[1.0, 0], [0.8, 0.6], [0.0, 1]])
        if ask.do == "rate":  # y entails everything
            return np.array([[0.1, 0.2, 0.7] if "y" in ask.args["query"].text else [0.3, 0.6, 0.1]] * 3)
        return reply(ask)

    assert decided(answer, utility="cosine").chosen == 1
    assert asked.count("embed") == 1
    assert decided(answer, utility="nli").chosen == 1
    assert asked.count("rate") == 3
    with pytest.raises(ConfigError, match="contradiction, neutral, entailment"):
        decided(lambda ask: np.ones((3, 1)) if ask.do == "rate" else reply(ask), utility="nli")


def test_texts_mean_the_same_by_the_lenient_rule_and_by_the_strict_one() -> None:
    p = np.zeros((3, 3, 3))
    p[..., 1] = 1  # neutral
    p[0, 1] = p[1, 0] = [0, 0, 1]
    p[1, 2] = [0, 0, 1]  # one way only
    assert classes(equivalent(p, "strict")) == (0, 0, 1)
    assert classes(equivalent(p), how="components") == (0, 0, 0)
    assert classes(equivalent(p)) == (0, 0, 1)  # the third is compared with the first member of the class


def test_the_order_of_candidates_changes_nothing_but_ties() -> None:
    said = ["a red fox", "the red dog", "a red dog ran", "blue"]
    s = similarity("token-f1", said)
    worth = mean_of_others(s)
    order = [2, 0, 3, 1]
    assert mean_of_others(similarity("token-f1", [said[i] for i in order])) == pytest.approx(worth[order])


@pytest.mark.parametrize("check", check_method(Mbr), ids=str)
def test_mbr_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)


@pytest.mark.parametrize("check", check_method(Mbr, utility="cosine"), ids=str)
def test_mbr_by_embeddings_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)
