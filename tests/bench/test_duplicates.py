"""Who is moved by a voter that only repeats another one."""

from __future__ import annotations

import numpy as np
import pytest

from septet.bench.duplicates import (
    AGGREGATORS,
    OF_ANSWERS,
    Aggregator,
    Answers,
    by_certainty,
    by_meaning,
    duplicate_safe,
    effective,
    hidden,
    mean_level,
    on_answers,
    plurality,
)
from septet.core.types import Floats


def distinct(answers: Answers, k: int) -> Floats:
    """A plurality in which voters that always say the same count once: safe by construction."""
    return plurality(np.unique(answers, axis=1), k)


def test_a_rule_that_counts_equal_voters_once_is_found_safe() -> None:
    assert duplicate_safe(on_answers(distinct))
    levels = np.array([3.0, 1.0, 2.0])  # the best level that any judge gives is not moved by a judge twice
    assert duplicate_safe(Aggregator("judge", ((3, lambda places: levels[list(places)].max(keepdims=True)),)))


@pytest.mark.parametrize("name", list(AGGREGATORS))
def test_no_published_aggregator_is_safe(name: str) -> None:
    assert not duplicate_safe(AGGREGATORS[name])


@pytest.mark.parametrize("name", list(AGGREGATORS))
def test_every_posterior_is_one(name: str) -> None:
    for n_voters, posterior in AGGREGATORS[name].cases:
        for places in (range(n_voters), [*range(n_voters), 0]):
            found = posterior(list(places))
            assert (found >= 0).all()
            assert found.sum(axis=-1) == pytest.approx(np.ones(found.shape[:-1]))


def test_plurality_by_hand() -> None:
    # 0, 0, 1 → 2/3, 1/3; with the third voter twice → 1/2, 1/2
    assert plurality(np.array([[0, 0, 1]]), 2) == pytest.approx(np.array([[2 / 3, 1 / 3]]))
    assert plurality(np.array([[0, 0, 1, 1]]), 2) == pytest.approx(np.array([[0.5, 0.5]]))


def test_borda_of_samples_by_hand() -> None:
    # by certainty 5 samples have √2, √5, √3, √4, √1 votes; classes 0, 1, 0, 1, 2
    votes = np.array([2**0.5 + 3**0.5, 5**0.5 + 2, 1])
    assert by_certainty(range(5)) == pytest.approx(votes / votes.sum())


def test_classes_of_meaning_by_hand() -> None:
    # likelihoods .5 + .2 against .4 + .6; with the last sample twice .7 against 1.6
    assert by_meaning(range(4)) == pytest.approx([0.7 / 1.7, 1 / 1.7])
    assert by_meaning([0, 1, 2, 3, 3]) == pytest.approx([0.7 / 2.3, 1.6 / 2.3])


def test_levels_by_hand() -> None:
    assert mean_level(np.array([[3.0, 2, 3], [1, 1, 1]])) == pytest.approx([5 / 3, 0])


def test_voters_that_always_agree_are_one_effective_vote() -> None:
    # ρ̄ = 1, so n_eff = 1 and the answer has the odds of one voter of accuracy .7
    found = effective(np.array([[0, 0, 0], [1, 1, 1]]), 2)
    assert found == pytest.approx(np.array([[0.7, 0.3], [0.3, 0.7]]))


def test_rasa_trusts_those_who_agree() -> None:
    # two that are always alike and one that contradicts: the weight of the pair grows without bound
    found = hidden(np.array([[0, 0, 1], [1, 1, 0]]), 2)
    assert found[0, 0] > 0.99
    assert found[1, 1] > 0.99


def test_those_of_answers_are_a_part_of_all() -> None:
    assert set(OF_ANSWERS) < set(AGGREGATORS)
