"""Hashed TF-IDF, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from septet.parts.learning.tfidf import TfIdf, terms


def test_chinese_is_read_sign_by_sign() -> None:
    assert terms("天空 blue") == ["天", "空", "blue", "天 空", "空 blue"]


def test_a_term_in_every_text_weighs_one_and_a_rare_one_more() -> None:
    # three texts: "a" in all, ln(4/4) + 1 = 1; "b" in one, ln(4/2) + 1; an unseen bucket ln(4/1) + 1
    weights = TfIdf.of(["a", "a", "a b"])
    idf = dict(zip(("a", "b", "c"), (_weight(weights, t) for t in ("a", "b", "c")), strict=True))
    assert idf == pytest.approx({"a": 1.0, "b": np.log(2) + 1, "c": np.log(4) + 1})


def _weight(featurizer: TfIdf, term: str) -> float:
    rows = featurizer.rows([term])
    return float(featurizer.idf[rows.columns[0]])


def test_a_repeated_word_counts_by_its_logarithm() -> None:
    # idf 1 everywhere, no word pair twice: "x x" has x (1 + ln 2) and "x x" (1), of length one
    values = sorted(TfIdf(np.ones(4096)).rows(["x x"]).values)
    norm = np.hypot(1 + np.log(2), 1)
    assert values == pytest.approx([1 / norm, (1 + np.log(2)) / norm])


def test_equal_texts_have_cosine_one_and_strangers_zero() -> None:
    featurizer = TfIdf.of(["who wrote Faust", "add two and two"])
    rows = featurizer.rows(["Who wrote FAUST?", "add two and two"])
    np.testing.assert_allclose(rows.cosines(rows.dense()), np.eye(2), atol=1e-12)


def test_a_text_without_words_is_a_row_of_zeros() -> None:
    rows = TfIdf(np.ones(16)).rows(["…", "\ud800"])
    assert rows.dense().shape == (2, 16)
    assert not rows.dense()[0].any()
