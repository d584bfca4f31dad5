"""Votes: classes of equal answers, and outcomes that do not win against an answer."""

from __future__ import annotations

import numpy as np

from septet.core.types import Completion
from septet.parts.answers.vote import NO_ANSWER, TRUNCATED, outcome, shares, winner


def test_shares_are_weights_over_their_sum() -> None:
    posterior = shares(["4", "5", "4", "6"], np.array([1.0, 3.0, 0.5, 0.5]))
    assert posterior.classes == ("4", "5", "6")
    assert posterior.of == (0, 1, 0, 2)
    np.testing.assert_allclose(posterior.p, [0.3, 0.6, 0.1])


def test_a_tie_goes_to_the_class_that_was_seen_first() -> None:
    assert winner(shares(["5", "4", "4", "5"], np.ones(4))) == 0


def test_a_truncated_answer_is_an_outcome_of_its_own() -> None:
    assert outcome(Completion(member="a", text="The answer is 4", finish="length")) == TRUNCATED
    assert outcome(Completion(member="a", text="The answer is 4")) == "4"
    assert outcome(Completion(member="a", text="  ")) == NO_ANSWER


def test_truncated_answers_never_win_against_a_whole_one() -> None:
    posterior = shares([TRUNCATED, TRUNCATED, NO_ANSWER, "7"], np.ones(4))
    assert posterior.classes[winner(posterior)] == "7"


def test_if_all_are_void_the_most_frequent_outcome_wins() -> None:
    posterior = shares([NO_ANSWER, TRUNCATED, TRUNCATED], np.ones(3))
    assert posterior.classes[winner(posterior)] == TRUNCATED


def test_weights_of_zero_count_alike() -> None:
    np.testing.assert_allclose(shares(["a", "b"], np.zeros(2)).p, [0.5, 0.5])
