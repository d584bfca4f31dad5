"""Deferral on token log-probabilities by hand: sums, means and quantiles, and answers without tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from septet.core.method import SeatPool
from septet.core.types import Completion, Query, Tokens
from septet.methods.c2_cascade.quantile import Quantile, Unlikely
from septet.testing.contract import check_method
from septet.testing.scripted import drive, seat

POOL = SeatPool((seat("ada"), seat("bob")))
SAID = Completion(member="ada", text="4", tokens=Tokens((b"a", b"b", b"c"), np.array([-0.1, -0.2, -2.3])))


def decided(threshold: float, first: Completion = SAID, **parameters: Any) -> Any:
    plan = Quantile(**parameters).plan(
        Query.of("2+3?"), POOL, Unlikely(threshold, None), np.random.default_rng(0)
    )
    return drive(plan, {"ada": first, "bob": "5"})[0]


@pytest.mark.parametrize(
    ("rule", "alpha", "doubt"),
    [
        ("chow-sum", 0.2, 2.6),
        ("chow-average", 0.2, 0.867),
        ("chow-quantile", 0.0, 2.3),
        ("chow-quantile", 0.5, 0.2),
    ],
)
def test_the_doubts_are_those_of_the_dossier(rule: str, alpha: float, doubt: float) -> None:
    assert decided(doubt - 0.01, rule=rule, alpha=alpha).chosen == 1
    assert decided(doubt + 0.01, rule=rule, alpha=alpha).chosen == 0


def test_a_sum_doubts_the_longer_answer_and_a_mean_does_not() -> None:
    long = Completion(member="ada", text="four", tokens=Tokens((b"x",) * 10, np.full(10, -0.3)))
    assert [decided(2.8, c, rule="chow-sum").chosen for c in (SAID, long)] == [0, 1]
    assert [decided(0.5, c, rule="chow-average").chosen for c in (SAID, long)] == [1, 0]


def test_an_answer_without_known_tokens_is_asked_on() -> None:
    bare = Completion(member="ada", text="4")
    verdict = decided(1e9, bare, rule="chow-average")
    assert (verdict.chosen, verdict.reason) == (1, "the answer of ada has no known token, so bob was asked")


@pytest.mark.parametrize("check", check_method(Quantile), ids=str)
def test_quantile_keeps_the_contract(check: Any, tmp_path: Any) -> None:
    check(tmp_path)
