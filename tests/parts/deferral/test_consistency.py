"""Samples that agree: the mode, its share, and the weight of a member by its own consistency."""

from __future__ import annotations

import pytest

from septet.core.errors import BadParameter
from septet.parts.deferral.consistency import Agreed, agreed, inner_weight

NONE = "(no answer)"


def test_an_answer_that_could_not_be_read_counts_in_the_denominator() -> None:
    # {18, 18, 18, 20, None}: 3/5, not 3/4
    assert agreed(["18", "18", "18", "20", NONE], [NONE]) == Agreed("18", 0.6, 0)


def test_what_cannot_be_read_is_never_the_mode() -> None:
    assert agreed([NONE, NONE, "7"], [NONE]) == Agreed("7", 1 / 3, 2)
    assert agreed([NONE, NONE], [NONE]) == Agreed(None, 0.0, 0)


def test_of_equally_frequent_answers_the_first_seen_is_the_mode() -> None:
    assert agreed(["5", "7", "7", "5"]) == Agreed("5", 0.5, 0)


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(BadParameter, match="at least one outcome"):
        agreed([])
    with pytest.raises(BadParameter, match="at least one outcome"):
        inner_weight([])


def test_the_weight_is_normalised_by_the_number_of_distinct_answers() -> None:
    # H(4/5, 1/5) = .7219 bits of log2 2: .2 + .8·.2781; H(3/5, 1/5, 1/5) = 1.3710 of log2 3 = 1.5850
    assert inner_weight(["7", "7", "7", "5", "7"]) == pytest.approx(0.4225, abs=5e-5)
    assert inner_weight(["5", "5", "5", "3", "2"]) == pytest.approx(0.3080, abs=5e-5)


def test_a_member_that_says_one_thing_weighs_1_and_one_that_never_repeats_itself_1_in_n() -> None:
    assert inner_weight(["5"] * 5) == 1.0
    assert inner_weight(["5"]) == 1.0
    assert inner_weight(["1", "2", "3", "4"]) == pytest.approx(0.25)
