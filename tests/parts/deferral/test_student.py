"""The student of neural caching: what it learns, and the numbers by which a member is asked in its place."""

from __future__ import annotations

import numpy as np
import pytest

from septet.core.errors import BadParameter
from septet.parts.deferral.student import Student, agreeing, fit_student, obliged, softmax, top_two


def says(name: str) -> Student:
    """A student that always answers this."""
    return Student((name, "else"), np.zeros((2, 2)), np.array([1.0, 0.0]))


def test_the_margin_of_the_dossier_is_a_quarter() -> None:
    np.testing.assert_allclose(top_two(np.array([[2.0, 1.75, -1.0], [0.0, 3.0, 1.0]])), [0.25, 2.0])
    assert top_two(np.array([[4.0]])).tolist() == [np.inf]


def test_forty_left_and_forty_calls_left_is_always_a_call() -> None:
    assert obliged(960, 40, first=100, stream=1000)
    assert not obliged(960, 39, first=100, stream=1000)
    assert obliged(99, 1, first=100, stream=1000) and not obliged(100, 1, first=100, stream=1000)
    assert not obliged(0, 0, first=100, stream=1000)


def test_two_of_four_older_students_agree() -> None:
    older = [says("a"), says("a"), says("b"), says("c")]
    assert agreeing(says("a"), older, np.zeros((1, 2))).tolist() == [2]
    assert agreeing(says("a"), [], np.zeros((2, 2))).tolist() == [0, 0]


def test_a_student_of_shares_alone_learns_those_shares() -> None:
    # with rows of zeros only the bias can learn: p = mean of the shares = (.75, .25)
    student = fit_student(np.zeros((2, 3)), np.array([[1.0, 0.0], [0.5, 0.5]]), ("a", "b"))
    np.testing.assert_allclose(softmax(student.logits(np.zeros((1, 3)))), [[0.75, 0.25]], atol=1e-3)


def test_its_slope_vanishes_at_the_end_as_that_of_a_minimum_does() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 5))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    shares = np.eye(3)[rng.integers(0, 3, 40)]
    student = fit_student(x, shares, ("a", "b", "c"), l2=0.05)
    pull = (softmax(student.logits(x)) - shares) / 40
    assert np.abs(x.T @ pull + 0.05 * student.weights).max() < 1e-4
    assert np.abs(pull.sum(axis=0)).max() < 1e-4


def test_it_generalises_to_rows_it_has_not_seen() -> None:
    rng = np.random.default_rng(1)
    x = np.vstack([rng.normal([1, 0], 0.2, (30, 2)), rng.normal([0, 1], 0.2, (30, 2))])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    student = fit_student(x, np.repeat(np.eye(2), 30, axis=0), ("east", "north"))
    assert student.answer(np.array([[0.9, 0.1], [0.2, 0.8]])) == ("east", "north")


def test_shares_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(BadParameter, match="add up to 1"):
        fit_student(np.zeros((1, 2)), np.array([[0.5, 0.4]]), ("a", "b"))
    with pytest.raises(BadParameter, match=r"must be \(0, 2\)"):
        fit_student(np.zeros((0, 2)), np.zeros((0, 2)), ("a", "b"))
