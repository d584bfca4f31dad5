"""Semantic agreement: tiers, the score of the dossier, identity T7, and what happens to broken answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from septet.core.errors import BackendError, BadParameter, NoCandidate
from septet.core.method import Ask, SeatPool
from septet.core.money import Load
from septet.core.types import Completion, Floats, Query, Verdict
from septet.methods.c2_cascade.semantic_agreement import SemanticAgreement
from septet.parts.deferral.confidence import mean_similarity
from septet.testing.contract import Check, check_method
from septet.testing.scripted import drive, seat, texts

POOL = SeatPool(
    (seat("ada"), seat("bob"), seat("cyd"), seat("big")), {"embedder": (seat("emb", embed=True),)}
)
QUESTION = Query.of("Why is the sky blue?")


@pytest.mark.parametrize("check", check_method(SemanticAgreement), ids=str)
def test_it_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


def unit_rows(gram: Floats) -> Floats:
    """Rows of length one whose inner products are these."""
    values, vectors = np.linalg.eigh(gram)
    rows: Floats = vectors * np.sqrt(np.maximum(values, 0))
    return rows


# off the diagonal .9 (1, 2), .8 (1, 3), .3 (2, 3) is no Gram matrix; .6 in place of .3 makes one of the same shape
GRAM = np.array([[1.0, 0.9, 0.8], [0.9, 1.0, 0.6], [0.8, 0.6, 1.0]])


def run(
    said: Mapping[str, Any], z: Floats | None = None, **parameters: Any
) -> tuple[Verdict, list[list[Any]]]:
    def answer(ask: Ask) -> Any:
        return z if ask.do == "embed" else texts(dict(said))(ask)

    plan = SemanticAgreement(**parameters).plan(QUESTION, POOL, None, np.random.default_rng(0))
    return drive(plan, answer)


def test_the_score_of_the_dossier_is_the_largest_row_mean() -> None:
    # means .85, .6, .55: choose the first
    s = np.array([[1.0, 0.9, 0.8], [0.9, 1.0, 0.3], [0.8, 0.3, 1.0]])
    assert mean_similarity(s).tolist() == pytest.approx([0.85, 0.6, 0.55])


def test_a_tier_that_agrees_answers_with_its_most_central_text() -> None:
    said = {"ada": "one", "bob": "two", "cyd": "three", "big": "four"}
    verdict, asks = run(said, unit_rows(GRAM), similarity="cosine", threshold=0.85)
    # means .85, .75, .7
    assert (verdict.chosen, verdict.confidence) == (0, pytest.approx(0.85))
    assert [[a.do for a in items] for items in asks] == [["complete"] * 3, ["embed"]]
    verdict, asks = run(said, unit_rows(GRAM), similarity="cosine", threshold=0.86)
    assert verdict.chosen == 3
    assert [a.to.name for a in asks[-1]] == ["big"]


def test_with_unit_embeddings_the_score_is_that_of_the_centroid() -> None:
    # T7: s_i = (M⟨z_i, c⟩ − 1)/(M − 1), so the most central is nearest to the centroid
    rng = np.random.default_rng(0)
    for m in (2, 3, 5, 8):
        z = rng.normal(size=(m, 6))
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        centre = z.mean(axis=0)
        closed = (m * z @ centre - 1) / (m - 1)
        np.testing.assert_allclose(mean_similarity(z @ z.T), closed, atol=1e-12)
        if m > 2:  # two are equally central
            assert closed.argmax() == ((z - centre) ** 2).sum(axis=1).argmin()


def test_the_plan_chooses_by_the_centroid_too() -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        z = rng.normal(size=(3, 4)) + 1
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        said = {"ada": "one", "bob": "two", "cyd": "three", "big": "four"}
        verdict, _ = run(said, z, similarity="cosine", threshold=-1)
        assert verdict.chosen == int(((z - z.mean(axis=0)) ** 2).sum(axis=1).argmin())


def test_equal_answers_agree_whatever_is_measured() -> None:
    for measure in ("token-f1", "bleu", "chrf", "rouge-l"):
        said = {"ada": "It is blue.", "bob": "It is blue.", "cyd": "It is blue.", "big": "No."}
        verdict, _ = run(said, similarity=measure, threshold=0.99)
        assert (verdict.chosen, verdict.confidence) == (0, pytest.approx(1.0))


def test_several_tiers_are_asked_one_after_the_other() -> None:
    said = {"ada": "red roses", "bob": "green grass", "cyd": "blue sky", "big": "blue sky now"}
    verdict, asks = run(said, tiers=(2, 2))
    assert [[a.to.name for a in items] for items in asks] == [["ada", "bob"], ["cyd", "big"]]
    assert verdict.chosen == 2  # the last tier's most central stands, the first of equals
    assert verdict.reason == (
        "agreement 0.00 < 0.60 among ada, bob; agreement 0.80 among cyd, big, who are last and always accepted;"
        " the answer of cyd is the most central"
    )


def test_a_broken_answer_is_not_returned_and_lowers_the_agreement() -> None:
    # F1 of "blue sky" with itself 1, with the cut text 0: the mean of a whole answer is ½
    cut = Completion(member="ada", text="well", finish="length")
    said = {"ada": cut, "bob": "blue sky", "cyd": "blue sky", "big": "no"}
    verdict, _ = run(said, threshold=0.5)
    assert (verdict.chosen, verdict.confidence) == (1, 0.5)


def test_one_answer_alone_says_nothing_so_the_next_tier_is_asked() -> None:
    down = BackendError("down")
    verdict, asks = run({"ada": down, "bob": "blue sky", "cyd": down, "big": "blue"})
    assert (verdict.chosen, len(asks), verdict.confidence) == (1, 2, None)
    assert "cannot be compared; big is last and always accepted" in verdict.reason


def test_if_the_last_tier_fails_the_best_so_far_stands() -> None:
    said = {"ada": "red", "bob": "blue", "cyd": "red and blue", "big": BackendError("down")}
    verdict, _ = run(said, threshold=0.9)
    assert verdict.chosen == 2
    assert "nobody of big answered" in verdict.reason
    down = BackendError("down")
    with pytest.raises(NoCandidate, match="ada: down; bob: down; cyd: down; big: down"):
        run(dict.fromkeys(("ada", "bob", "cyd", "big"), down))


def test_samples_make_a_tier_of_one_member() -> None:
    said = {"ada": ["red", "red"], "bob": "x", "cyd": "x", "big": "x"}
    verdict, asks = run(said, tiers=(1, 3), samples=2, temperature=0.4)
    assert (verdict.chosen, len(asks)) == (0, 1)
    assert asks[0][0].args["query"].temperature == 0.4


@pytest.mark.parametrize("tiers", [(2, 1), (4, 0), (2, 1, 2)])
def test_tiers_that_do_not_cover_the_pool_are_refused(tiers: tuple[int, ...]) -> None:
    with pytest.raises(BadParameter, match="add up to 4 members"):
        SemanticAgreement(tiers=tiers).prepare(POOL)


def test_a_tier_of_one_answer_is_refused_unless_it_is_the_last() -> None:
    with pytest.raises(BadParameter, match="two answers in every tier but the last"):
        SemanticAgreement(tiers=(1, 3)).prepare(POOL)
    SemanticAgreement(tiers=(3, 1)).prepare(POOL)


def test_the_worst_case_counts_the_embedder_once_per_tier() -> None:
    worst = SemanticAgreement(similarity="cosine").worst(QUESTION.but(max_tokens=7), POOL)
    assert worst["emb"] == Load(2, 2, 0)
    assert worst["big"] == Load(1, 1, 7)
