"""Model cascading by hand: confidence in class probabilities, thresholds, what cannot be classified."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.method import SeatPool
from septet.core.types import Completion, Query, Tokens
from septet.methods.c2_cascade.model_cascading import ModelCascading
from septet.parts.deferral.confidence import distance_to_uniform, max_prob
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat

POOL = SeatPool((seat("ada"), seat("bob")))
QUESTION = Query.of("Which? A. one B. two C. three")


def said(member: str, *p: float) -> Completion:
    """An answer "A" with these probabilities of A, B and C at its only token."""
    top = tuple((name, float(np.log(x))) for name, x in zip((b"A", b"B", b"C"), p, strict=True) if x > 0)
    return Completion(member=member, text="A", tokens=Tokens((b"A",), np.log([p[0]]), (top,)))


def decided(first: Completion, **parameters: Any) -> Any:
    cascade = ModelCascading(**parameters)
    plan = cascade.plan(QUESTION, POOL, cascade.begin(POOL.names), np.random.default_rng(0))
    return drive(plan, {"ada": first, "bob": said("bob", 0.9, 0.05, 0.05)})


def test_the_two_measures_rank_the_dossier_s_distributions_differently() -> None:
    p = np.array([[0.5, 0.5, 0], [0.52, 0.24, 0.24]])
    assert max_prob(p).tolist() == [0.5, 0.52]
    assert distance_to_uniform(p) == pytest.approx([0.4082, 0.2286], abs=5e-5)


def test_an_answer_stands_from_its_threshold_on() -> None:
    assert decided(said("ada", 0.6, 0.3, 0.1), threshold=0.6)[0].chosen == 0
    verdict, yielded = decided(said("ada", 0.55, 0.35, 0.1), threshold=0.6)
    assert (verdict.chosen, len(yielded)) == (1, 2)
    assert verdict.reason.startswith("confidence 0.55 < 0.60 after ada")


def test_by_distance_to_uniform_the_other_one_of_two_answers_stands() -> None:
    flat, pair = said("ada", 0.52, 0.24, 0.24), said("ada", 0.5, 0.499, 0.001)
    assert [decided(c, threshold=0.51)[0].chosen for c in (flat, pair)] == [0, 1]
    assert [decided(c, threshold=0.3, measure="dtu")[0].chosen for c in (flat, pair)] == [1, 0]


def test_an_answer_without_class_probabilities_is_never_believed() -> None:
    bare = Completion(member="ada", text="A")
    assert decided(bare, threshold=0.0)[0].chosen == 1


@pytest.mark.parametrize("check", check_method(ModelCascading), ids=str)
def test_model_cascading_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)
