"""Kept texts by meaning: who finds what, what is replaced, what is dropped."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.parts.deferral.demonstrations import nearby, shown
from septet.parts.deferral.semantic_cache import Hit, SemanticCache

EAST, NORTH, BETWEEN = np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([0.6, 0.8])


def test_the_nearest_come_first_and_of_equals_the_latest() -> None:
    cache = SemanticCache.empty()
    for z, question in ((EAST, "east"), (NORTH, "north"), (NORTH, "north again")):
        cache = cache.keeping(z, question, question.upper())
    assert [h.text for h in cache.nearest(BETWEEN, "", 3)] == ["NORTH AGAIN", "NORTH", "EAST"]
    np.testing.assert_allclose([h.similarity for h in cache.nearest(BETWEEN, "", 3)], [0.8, 0.8, 0.6])


def test_a_text_is_found_from_its_threshold_on_and_only_by_its_tenant() -> None:
    cache = SemanticCache.empty().keeping(EAST, "q", "of ada", "ada").keeping(EAST, "q", "of bob", "bob")
    found = cache.found(BETWEEN, "ada", 0.6)
    assert found is not None and found.text == "of ada"
    assert cache.found(BETWEEN, "ada", 0.61) is None
    assert cache.found(EAST, "", 0.0) is None


def test_the_same_question_of_one_tenant_is_replaced_and_the_oldest_dropped_beyond_the_capacity() -> None:
    cache = SemanticCache.empty().keeping(EAST, "a", "1").keeping(NORTH, "b", "2").keeping(EAST, "a", "3")
    assert (cache.questions, cache.texts) == (("b", "a"), ("2", "3"))
    cut = cache.keeping(NORTH, "c", "4", capacity=2)
    assert (cut.questions, len(cut.rows)) == (("a", "c"), 2)
    assert cache.questions == ("b", "a")  # a value is not changed


def test_an_embedder_of_another_width_is_an_error_that_says_what_is_kept() -> None:
    cache = SemanticCache.empty().keeping(EAST, "q", "t")
    with pytest.raises(BadParameter, match="must give 2 numbers"):
        cache.nearest(np.ones(3), "")


def test_a_similarity_of_six_tenths_is_near_enough_and_a_half_is_not() -> None:
    store = SemanticCache.empty().keeping(EAST, "q", "print(1)")
    assert [h.text for h in nearby(store, BETWEEN, "")] == ["print(1)"]
    assert nearby(store, np.array([0.5, np.sqrt(0.75)]), "") == []
    assert nearby(store, EAST, "", n=0) == []


def test_demonstrations_stand_with_the_nearest_last_and_braces_as_they_are() -> None:
    hits = [Hit("near?", "print({1: 2})", 0.9), Hit("far?", "pass", 0.7)]
    assert shown(hits, "{question} {solution}") == "far? pass\n\nnear? print({1: 2})"
