"""Sentence BLEU: the hand check of the dossier, and sacreBLEU as the oracle."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from septet.parts.answers.bleu import bleu, bleu_matrix, tokens_13a

A, B, C = "the cat sat on the mat", "the cat sat on a mat", "a dog ran away"

TEXTS = [
    A, B, C, "", "x", "The CAT sat.", "It costs $3.50, or 1,000-2,000 in all.", "wait -\nwhat? &quot;no&quot;",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.", "日本語の文です。", "a a a a a a", "a b a b a",
]  # fmt: skip


def test_the_three_sentences_of_the_dossier() -> None:
    np.testing.assert_allclose(
        bleu_matrix([A, B, C]), [[0, 53.728, 0], [53.728, 0, 8.117], [0, 9.688, 0]], atol=5e-4
    )


def test_orders_without_a_match_halve_their_probability_one_after_the_other() -> None:
    # C against B: one of four words, then 0/3, 0/2, 0/1; reference 6 words long, hypothesis 4
    logs = [math.log(p) for p in (1 / 4, 1 / (2 * 3), 1 / (4 * 2), 1 / (8 * 1))]
    assert bleu(C, B) == pytest.approx(100 * math.exp(sum(logs) / 4 + 1 - 6 / 4))


def test_a_sentence_shorter_than_four_words_is_measured_by_the_orders_that_it_has() -> None:
    assert bleu("a cat", "a cat") == pytest.approx(100.0)


def test_numbers_keep_their_points_and_words_lose_theirs() -> None:
    assert tokens_13a("Pay 3.50, or 1,000.") == ["pay", "3.50", ",", "or", "1,000", "."]


@pytest.mark.parametrize(("hypothesis", "reference"), list(itertools.product(TEXTS, TEXTS)))
def test_it_equals_sacrebleu(hypothesis: str, reference: str) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    theirs = sacrebleu.sentence_bleu(hypothesis, [reference], lowercase=True).score
    assert bleu(hypothesis, reference) == pytest.approx(theirs, abs=1e-9)
