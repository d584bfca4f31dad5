"""Who is moved by a voter that only repeats another one."""

from __future__ import annotations

import numpy as np
import pytest

from septet.bench.duplicates import AGGREGATORS, Answers, duplicate_safe, plurality
from septet.core.types import Floats


def distinct(answers: Answers, k: int) -> Floats:
    """A plurality in which voters that always say the same count once: safe by construction."""
    return plurality(np.unique(answers, axis=1), k)


def test_a_rule_that_counts_equal_voters_once_is_found_safe() -> None:
    assert duplicate_safe(distinct)


@pytest.mark.parametrize("name", list(AGGREGATORS))
def test_no_published_aggregator_is_safe(name: str) -> None:
    assert not duplicate_safe(AGGREGATORS[name])


def test_plurality_by_hand() -> None:
    # 0, 0, 1 → 2/3, 1/3; with the third voter twice → 1/2, 1/2
    assert plurality(np.array([[0, 0, 1]]), 2) == pytest.approx(np.array([[2 / 3, 1 / 3]]))
    assert plurality(np.array([[0, 0, 1, 1]]), 2) == pytest.approx(np.array([[0.5, 0.5]]))
