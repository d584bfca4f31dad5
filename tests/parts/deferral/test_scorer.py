"""The answer scorer: what it learns, what it does with unknowns, and that its prediction is the model's own."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.state import pack, unpack
from septet.parts.deferral.scorer import AnswerScorer, Given, fit_scorer

N = 80


def given(n: int = N) -> tuple[Given, np.ndarray]:
    """Member 0 is right when it says yes; member 1 when it is sure of itself; member 2 always."""
    member = np.arange(n, dtype=np.int32) % 3
    coin = np.arange(n) // 3 % 2 == 0
    answers = [
        ("yes it is." if c else "no it is not.") if m == 0 else "it is."
        for m, c in zip(member, coin, strict=True)
    ]
    logp = np.where((member == 1) & ~coin, -2.0, -0.1)
    return Given(["is it"] * n, answers, member, logp), coin | (member == 2)


def test_each_member_is_judged_by_what_tells_its_own_answers_apart() -> None:
    known, right = given()
    scorer = fit_scorer(known, right, 3, inverse_penalty=100.0)
    p = scorer.p_right(known)
    for m in (0, 1):
        own = known.member == m
        assert p[own & right].min() > 0.9
        assert p[own & ~right].max() < 0.1


def test_a_member_that_was_always_right_has_its_smoothed_share() -> None:
    known, right = given()
    p = fit_scorer(known, right, 3, inverse_penalty=1.0).p_right(known)
    n = int((known.member == 2).sum())
    assert p[known.member == 2] == pytest.approx(np.full(n, (n + 1) / (n + 2)))


def test_an_unknown_log_probability_counts_as_average() -> None:
    known, right = given()
    scorer = fit_scorer(known, right, 3, inverse_penalty=1.0)
    one = np.array([1], dtype=np.int32)
    unknown = scorer.p_right(Given(["is it"], ["it is."], one, np.array([np.nan])))
    average = scorer.p_right(Given(["is it"], ["it is."], one, np.array([known.logp.mean()])))
    assert unknown == pytest.approx(average)


def test_a_scorer_survives_saving() -> None:
    known, right = given()
    scorer = fit_scorer(known, right, 3, inverse_penalty=1.0)
    again = unpack(AnswerScorer, *pack(scorer))
    np.testing.assert_array_equal(again.p_right(known), scorer.p_right(known))


def test_only_several_words_without_an_end_look_unfinished() -> None:
    answers = ["Paris", "It is Paris.", "It is the"]
    signs = Given(["?"] * 3, answers, np.zeros(3, dtype=np.int32), np.zeros(3)).signs()
    assert signs[:, 2].tolist() == [0, 0, 1]
